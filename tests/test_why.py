"""`openim-bridge why` says what became of a callback, and why it was not handled."""

import asyncio
import json
import re
import time
from pathlib import Path

import aio_pika

from bridge import openim, set_aside, why, why_text
from bridge.broker import connect
from bridge.contract import AfterAddFriend
from bridge.message import Ids, Message
from bridge.segments import Record
from bridge.topology import BRIDGE as EXCHANGES
from bridge.topology import CALLBACKS, REFUSED, dead_letter_queue
from consumers.registry import Handlers, Reject, Retry, Unavailable
from tests.brokers import Address
from tests.commands import BRIDGE, Command, ran
from tests.policies import commands, written
from tests.running import NOWHERE, Bridge, bridge, eventually, settings
from tests.test_forwarder import poisonous
from tests.test_outcomes import raising, taking, tells
from tests.test_worker import channel_to, declared, working

FRIEND = "callbackAfterAddFriendCommand"
BODY = b'{"fromUserID":"ann","toUserID":"ben","reqMsg":"hello"}'


async def posted(
    running: Bridge, operation_id: str, command: str = FRIEND, body: bytes = BODY
) -> None:
    """Post a callback under an operation id."""
    async with running.openim.session.post(
        f"{running.url}/{command}", data=body, headers={"operationID": operation_id}
    ):
        pass


async def received(
    running: Bridge, operation_id: str = "op", command: str = FRIEND, body: bytes = BODY
) -> str:
    """Post a callback and wait until RabbitMQ has it; give its operation id."""
    await posted(running, operation_id, command, body)
    await running.drained()
    return operation_id


async def told(
    folder: Path, amqp_url: str, wanted: str, management_url: str = ""
) -> tuple[why.Life, list[str]]:
    """Give the one callback that an id is of, and the sentences about it."""
    found = await why.find(
        settings(folder, amqp_url, management_url=management_url), wanted, None
    )
    (life,) = found.lives.values()
    return life, why_text.why(life)


async def test_a_handled_callback_is_followed_to_its_handler(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    handlers = taking("shop", raising(Retry("busy"), None))
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), handlers),
    ):
        await declared(amqp_url, "shop")
        operation_id = await received(running)
        first, second = await tells(amqp_url, 2)
        life, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
        again, _ = await told(tmp_path, amqp_url, first.message_id, broker.management_url)
    assert life == again
    assert life.archived
    assert life.fates["shop"].attempts == [first, second]
    assert said == [
        f"shop: handled by shop.take at {why_text.moment(second.began_ms)}, attempt 2."
    ]
    text = why_text.as_text(life)
    assert f"received      {why_text.moment(life.received_ms)}" in text
    assert "attempt 1: waits after" in text
    assert "Retry: busy" in text
    assert "hello" not in text


async def test_a_message_is_found_by_the_ids_in_its_body(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    command, body = openim.sample("AfterSendSingleMsg")
    sent = json.loads(body)
    async with bridge(tmp_path, amqp_url) as running:
        await received(running)
        await received(running, "other", command, body)
        for name in ("serverMsgID", "clientMsgID"):
            life, _ = await told(tmp_path, amqp_url, sent[name], broker.management_url)
            assert life.command == command


async def test_no_subscription_wants_it(amqp_url: str, tmp_path: Path, broker: Address) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        operation_id = await received(running)
        _, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
        await received(running, "bad", body=b"{")
        malformed, _ = await told(tmp_path, amqp_url, "bad", broker.management_url)
    assert said == [
        (
            f"No subscription wants {FRIEND}: it lies in openim.unrouted. Add a handler for it,"
            " or `openim-bridge subscribe`."
        )
    ]
    assert why_text.why(malformed)[0].startswith("Its body could not be read (")


async def test_it_waits_as_no_worker_runs(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        async with working(amqp_url, _sqlite(tmp_path), taking("shop", raising())):
            await declared(amqp_url, "shop")
        operation_id = await received(running)
        _, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
    assert said == [
        (
            "shop: no attempt has ended yet: no worker takes from openim.work.shop,"
            " where 1 messages wait."
        )
    ]


async def test_it_waits_as_its_workers_pause(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    handlers = taking("shop", raising(*[Unavailable("stock is away")] * 100))
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), handlers, grace_period=0.1),
    ):
        await declared(amqp_url, "shop")
        operation_id = await received(running)
        await tells(amqp_url, 1)
        _, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
    assert said == [
        (
            "shop: its workers pause, and try again by themselves: Unavailable: stock is away."
            " Bring back what is away."
        )
    ]


async def test_it_waits_behind_others(amqp_url: str, tmp_path: Path, broker: Address) -> None:
    handlers, never = Handlers("slow"), asyncio.Event()

    @handlers.on(AfterAddFriend)
    async def hang(_event: AfterAddFriend) -> None:
        await never.wait()

    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), handlers, prefetch=1, grace_period=0.1),
    ):
        await declared(amqp_url, "slow")
        await received(running, "first")
        await received(running, "last")
        _, behind = await eventually(
            lambda: told(tmp_path, amqp_url, "last", broker.management_url),
            lambda answer: "1 messages wait" in answer[1][0],
        )
    assert behind == [
        (
            "slow: no attempt has ended yet: 1 messages wait in openim.work.slow, at which"
            " 1 workers are."
        )
    ]


async def test_rabbitmq_may_have_moved_it_to_the_dead_letters(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    handlers, never = Handlers("deadly"), asyncio.Event()

    @handlers.on(AfterAddFriend)
    async def hang(_event: AfterAddFriend) -> None:
        await never.wait()

    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), handlers, grace_period=0.1),
        channel_to(amqp_url) as channel,
    ):
        await declared(amqp_url, "deadly")
        operation_id = await received(running)
        other = aio_pika.Message(b"{}", message_id="other")
        await channel.default_exchange.publish(other, dead_letter_queue("deadly"))
        life, (said,) = await told(tmp_path, amqp_url, operation_id, broker.management_url)
    assert said.endswith(f"openim-consumers dead-letters show {life.message_id} deadly")


async def test_it_failed_and_waits_for_its_next_attempt(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    errors = [ValueError("odd")] * 100
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), taking("shop", raising(*errors))),
    ):
        await declared(amqp_url, "shop")
        operation_id = await received(running)
        await tells(amqp_url, 1)
        life, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
    last = life.fates["shop"].attempts[-1]
    assert said == [
        (
            f"shop: attempt {last.attempt} failed and the next one comes at"
            f" {why_text.moment(last.again_ms or 0)}: ValueError: odd."
        )
    ]


async def test_it_is_a_dead_letter_for_a_reason(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, _sqlite(tmp_path), taking("shop", raising(Reject("unknown user")))),
    ):
        await declared(amqp_url, "shop")
        operation_id = await received(running)
        (attempt,) = await tells(amqp_url, 1)
        _, said = await told(tmp_path, amqp_url, operation_id, broker.management_url)
    assert said == [
        (
            f"shop: a dead letter since {why_text.moment(attempt.began_ms)}, after attempt 1:"
            " Reject: unknown user. It is in openim.dead-letters.shop; once the cause is"
            " mended: openim-consumers dead-letters replay shop --message-id"
            f" {attempt.message_id}"
        )
    ]


async def test_a_full_queue_refused_it(amqp_url: str, tmp_path: Path, broker: Address) -> None:
    async with connect(amqp_url, name="test", timeout=10) as connection:
        await connection.declare(EXCHANGES)
    async with channel_to(amqp_url) as channel:
        full = await channel.declare_queue(
            "full", arguments={"x-max-length": 1, "x-overflow": "reject-publish"}
        )
        await full.bind(CALLBACKS, "#")
        async with bridge(tmp_path, amqp_url) as running:
            await received(running, "first")
            await received(running, "second")
            _, said = await eventually(
                lambda: told(tmp_path, amqp_url, "second", broker.management_url),
                lambda answer: answer[0].refused,
            )
    assert said[0].startswith(f"A full queue refused it: it waits in {REFUSED}")


async def test_what_was_never_received_is_said_so(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await received(running)
    command = await _command(tmp_path, amqp_url, broker, Ids().mint())
    assert command.process.returncode == 1
    assert "was never received, as far as can be seen: the archive, from 20" in command.err
    unknown = await _command(tmp_path, amqp_url, broker, "no-such-operation", "--json")
    assert (unknown.process.returncode, unknown.out) == (1, "")


async def test_what_rabbitmq_has_not_taken_is_found_in_the_journal(tmp_path: Path) -> None:
    async with bridge(tmp_path, NOWHERE) as running:
        await posted(running, "op")
        life, said = await told(tmp_path, NOWHERE, "op")
    assert life.journal == str(tmp_path / "journal" / "0")
    assert said[0].startswith("It is not in RabbitMQ yet: ")
    command = await ran(
        *(BRIDGE, "why", "other"),
        folder=tmp_path,
        BRIDGE_AMQP_URL=NOWHERE,
        BRIDGE_JOURNAL_PATH=str(tmp_path / "journal"),
    )
    assert command.process.returncode == 4


async def test_what_is_no_message_hides_none_in_the_journal(tmp_path: Path) -> None:
    async with bridge(tmp_path, NOWHERE) as running:
        for _ in range(2):
            await running.running.journal.store(b"no message")
        await posted(running, "op")
        found = await why.find(settings(tmp_path, NOWHERE), "op", None)
    (life,) = found.lives.values()
    assert life.journal == str(tmp_path / "journal" / "0")
    assert re.search(r"^2 records in .*/journal/0/\S+ are no messages$", found.problems[0])


async def test_what_was_set_aside_is_found_even_if_only_its_ids_can_be_read(
    tmp_path: Path,
) -> None:
    async with bridge(tmp_path, NOWHERE) as running:
        await posted(running, "op")
    slot = tmp_path / "journal" / "0"
    good = Message(
        id="m", routing_key="x", command=FRIEND, received_ms=1, body=BODY, operation_id="good"
    )
    for number, (payload, wanted) in enumerate(
        ((good.encode(), "good"), (poisonous(), "poison"))
    ):
        file = await asyncio.to_thread(set_aside.keep, slot, Record(number, payload))
        life, said = await told(tmp_path, NOWHERE, wanted)
        assert life.set_aside == str(file)
        assert said[0].startswith(f"RabbitMQ would not have it, so it was set aside: {file}")


def test_a_time_that_no_calendar_has_is_unknown() -> None:
    assert why_text.moment(2**60) == why_text.moment(-1) == "at an unknown time"


async def test_the_verdict_of_a_before_callback_is_told(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    policy = written(
        tmp_path, commands(BeforeAddFriend={"refuse": {"code": 20001, "message": "no"}})
    )
    async with bridge(tmp_path, amqp_url, policy=policy) as running:
        await posted(running, "op", *openim.sample("BeforeAddFriend"))
        await eventually(
            lambda: why.find(settings(tmp_path, amqp_url), "op", None),
            lambda found: bool(found.lives) and not found.lives.popitem()[1].journal,
        )
        command = await _command(tmp_path, amqp_url, broker, "op")
    assert "  answered      refuse, says policy, after " in command.out


async def test_the_command_tells_it_in_json_without_the_body(
    amqp_url: str, tmp_path: Path, broker: Address
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        operation_id = await received(running)
    command = await _command(
        tmp_path, amqp_url, broker, operation_id, "--json", "--since", "1h"
    )
    said = json.loads(command.out)
    assert command.process.returncode == 0
    assert (said["command"], said["archived"], said["subscriptions"]) == (FRIEND, True, [])
    assert said["received_ms"] <= time.time() * 1000
    assert "hello" not in command.out + command.err


async def test_what_cannot_be_looked_at_is_said(amqp_url: str, tmp_path: Path) -> None:
    async with bridge(tmp_path, amqp_url, archive_days=0) as running:
        await running.connected()
        found = await why.find(
            settings(tmp_path / "none", amqp_url, management_url="http://127.0.0.1:1"),
            "nothing",
            None,
        )
    assert why_text.nothing(found, "nothing") == (
        "nobody can say here whether nothing was received: the archive was not looked at,"
        " and no journal was looked into."
    )
    assert [problem.partition(":")[0] for problem in found.problems] == [
        f"the journal in {tmp_path / 'none' / 'journal'} was not looked at",
        "the archive was not looked at",
        "outcomes were not looked at",
    ]


async def test_who_cannot_see_the_queues_does_not_say_that_nobody_wants_it(
    amqp_url: str, tmp_path: Path
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        operation_id = await received(running)
        life, said = await told(tmp_path, amqp_url, operation_id, "http://127.0.0.1:1")
    assert not life.wanted_known
    assert said == ["Which subscriptions want it, and so where it is now, was not looked at."]


async def _command(folder: Path, amqp_url: str, broker: Address, *words: str) -> Command:
    """Run `openim-bridge why` to its end."""
    return await ran(
        BRIDGE,
        "why",
        *words,
        folder=folder,
        BRIDGE_AMQP_URL=amqp_url,
        BRIDGE_MANAGEMENT_URL=broker.management_url,
    )


def _sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'consumers.db'}"
