"""Dead letters are shown, replayed and discarded, and none is ever lost."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage
from sqlalchemy import select

from bridge import broker, topology
from bridge.contract import AfterAddFriend
from bridge.rights import SHARED
from consumers import database, dead_letter_audit, desk
from consumers.dead_letters import MOST_GROUPS, OTHERS, Groups, Letter, Wanted
from consumers.desk import PAGE
from consumers.registry import Handlers, Reject, Retry
from tests.brokers import OwnBroker
from tests.commands import CONSUMERS, Command, ran, started
from tests.running import NOWHERE, eventually
from tests.test_worker import APPLY, channel_to, count, declared, publish, taken_from, working

SHOP = "shop"
WORK, DEAD = topology.work_queue(SHOP), topology.dead_letter_queue(SHOP)
LONG_AGO = datetime(2026, 1, 31, 12, tzinfo=UTC)

BODY = b'{"fromUserID":"anna","toUserID":"bert","reqMsg":"hello"}'


async def dead_letters(*words: str, folder: Path, amqp_url: str, **variables: str) -> Command:
    """Run `openim-consumers dead-letters`."""
    variables = {"CONSUMERS_AMQP_URL": amqp_url} | variables
    return await ran(CONSUMERS, "dead-letters", *words, folder=folder, **variables)


@asynccontextmanager
async def connected(amqp_url: str) -> AsyncIterator[broker.Broker]:
    async with broker.connect(amqp_url, name="test", timeout=10) as connection:
        yield connection


async def set_up(amqp_url: str, name: str = SHOP, partitions: int = 0) -> None:
    """Declare what a worker would, without one that takes anything."""
    async with connected(amqp_url) as connection:
        await connection.declare(SHARED)
        events = (AfterAddFriend.routing_key,)
        await connection.declare(topology.subscription(name, events, partitions=partitions))


def headers(error: str = "Reject: closed", minutes: int = 0) -> dict[str, Any]:
    """Give what a worker writes onto a dead letter."""
    failed = (LONG_AGO + timedelta(minutes=minutes)).isoformat(timespec="milliseconds")
    return {
        "x-attempt": 6,
        "x-last-error": error,
        "x-first-failure": failed,
        "x-last-failure": failed,
        "x-routing-key": "friend.after.add_friend.p01",
        "x-received-ms": 1_769_860_800_000,
    }


def letter(message_id: str, **changed: Any) -> aio_pika.Message:  # noqa: ANN401
    """Give a dead letter as a worker leaves it."""
    values = {"body": BODY, "type": APPLY, "headers": headers()} | changed
    return aio_pika.Message(
        message_id=message_id, delivery_mode=aio_pika.DeliveryMode.PERSISTENT, **values
    )


async def bury(amqp_url: str, messages: Iterable[aio_pika.Message], queue: str = DEAD) -> None:
    """Put messages into a queue, in their order."""
    async with channel_to(amqp_url) as channel:
        exchange = channel.default_exchange
        await asyncio.gather(*(exchange.publish(message, queue) for message in messages))


async def emptied(amqp_url: str, queue: str) -> list[AbstractIncomingMessage]:
    """Take all that is ready in a queue."""
    found = []
    async with channel_to(amqp_url) as channel:
        taking = await channel.get_queue(queue)
        while message := await taking.get(fail=False, no_ack=True):
            found.append(message)
    return found


async def ids(amqp_url: str, queue: str) -> list[str]:
    return [message.message_id or "" for message in await emptied(amqp_url, queue)]


async def audit(database_url: str) -> list[dict[str, Any]]:
    async with database.opened(database_url) as opened, opened.transaction() as transaction:
        table = dead_letter_audit.TABLE
        found = await transaction.execute(select(table).order_by(table.c.id))
        return [dict(row) for row in found.mappings()]


async def look(amqp_url: str, times: int = 1) -> list[str]:
    """Look at all letters, so many times; give their ids as the last look saw them."""
    seen: list[str] = []
    async with connected(amqp_url) as connection:
        for _ in range(times):
            seen.clear()
            await desk.look(connection, SHOP, lambda found: seen.append(_id(found)))
    return seen


def _id(found: Letter) -> str:
    return found.delivery.message_id


async def give_back(amqp_url: str, queue: str, times: int) -> None:
    """Take the first message of a queue and give it back, so many times."""
    async with channel_to(amqp_url) as channel:
        taking = await channel.get_queue(queue)
        for _ in range(times):
            message = await eventually(lambda: taking.get(fail=False), bool)
            assert message is not None
            await message.reject(requeue=True)


async def test_fifty_looks_lose_nothing_and_keep_the_order(amqp_url: str) -> None:
    await set_up(amqp_url)
    names = [f"m{number:04}" for number in range(1100)]
    await bury(amqp_url, map(letter, names))
    assert await look(amqp_url, times=50) == names
    assert await eventually(lambda: count(amqp_url, DEAD), lambda n: n == 1100)
    assert await ids(amqp_url, DEAD) == names


async def test_alike_errors_are_one_line(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(
        amqp_url,
        [
            letter("m1", headers=headers("Reject: order 17 of anna is closed")),
            letter("m2", headers=headers("Reject: order 4711 of bert is closed", 30)),
            letter("m3", headers=headers("TimeoutError: "), type="callbackNobodyKnows"),
        ],
    )
    text = await dead_letters("list", SHOP, folder=tmp_path, amqp_url=amqp_url)
    objects = await dead_letters("list", SHOP, "--json", folder=tmp_path, amqp_url=amqp_url)
    assert text.out == (
        "shop       2  2026-01-31 12:00:00Z  2026-01-31 12:30:00Z"
        "  Reject: order # of # is closed  AfterAddFriend\n"
        "shop       1  2026-01-31 12:00:00Z  2026-01-31 12:00:00Z  TimeoutError:  NobodyKnows\n"
    )
    assert json.loads(objects.out.splitlines()[0]) == {
        "subscription": SHOP,
        "count": 2,
        "oldest": "2026-01-31T12:00:00+00:00",
        "newest": "2026-01-31T12:30:00+00:00",
        "error": "Reject: order # of # is closed",
        "commands": [APPLY],
    }
    assert text.process.returncode == objects.process.returncode == 0


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ([], ["m1", "m2", "m3"]),
        (["--message-id", "m2"], ["m2"]),
        (["--command", "AfterAddFriend"], ["m1", "m2"]),
        (["--command", APPLY], ["m1", "m2"]),
        (["--error", "TIMEOUT"], ["m3"]),
        (["--user", "carl"], ["m2"]),
        (["--since", "2026-01-31T12:10:00Z"], ["m2", "m3"]),
        (["--until", "2026-01-31T12:10:00Z"], ["m1"]),
        (["--since", "2h"], []),
        (["-n", "1"], ["m1"]),
    ],
)
async def test_single_letters_are_found_by_what_they_say(
    amqp_url: str, tmp_path: Path, words: list[str], found: list[str]
) -> None:
    await set_up(amqp_url)
    carls = b'{"memberList":[{"userID":"carl"}],"text":"anna"}'
    await bury(
        amqp_url,
        [
            letter("m1"),
            letter("m2", headers=headers(minutes=20), body=carls),
            letter(
                "m3",
                headers=headers("TimeoutError: late", 20),
                type="callbackNobodyKnows",
                body=b"no JSON",
            ),
        ],
    )
    shown = await dead_letters(
        *("list", SHOP, "--each", "--json", *words), folder=tmp_path, amqp_url=amqp_url
    )
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line["message_id"] for line in lines] == found
    assert await count(amqp_url, DEAD) == 3


async def test_subscriptions_are_those_of_the_handlers(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url, "friend_verification")
    queue = topology.dead_letter_queue("friend_verification")
    await bury(amqp_url, [letter("m1")], queue)
    shown = await dead_letters("list", folder=tmp_path, amqp_url=amqp_url)
    nothing = await dead_letters("list", "--user", "x", folder=tmp_path, amqp_url=amqp_url)
    assert shown.out.startswith("friend_verification       1  ")
    assert nothing.out.startswith("no dead letters of friend_verification; CONSUMERS_HANDLERS")


def test_groups_are_bounded() -> None:
    groups = Groups()
    for number in range(MOST_GROUPS + 50):
        groups.add(unsent(headers(f"Error{chr(0x4E00 + number)}: bad")))
    found = groups.largest_first()
    assert len(found) == MOST_GROUPS + 1
    assert (found[0].error, found[0].count) == (OTHERS, 50)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"x-death": "no", "x-last-failure": "yesterday", "x-attempt": "six", "x-replays": None},
        {"x-death": [], "x-last-failure": 7},
        {"x-death": ["no"]},
        {"x-death": [{"queue": "openim.wait.1s", "reason": "expired"}]},
    ],
)
def test_headers_that_say_nothing_are_no_trouble(given: dict[str, Any]) -> None:
    found = unsent(given)
    assert found.error == "unknown: no reason is given"
    assert (found.attempt, found.replays, found.failed) == (1, 0, LONG_AGO)
    assert (found.routing_key, found.queues) == (DEAD, (WORK,))


def unsent(given: dict[str, Any]) -> Letter:
    """Give a letter that came from nowhere."""

    class Delivery:
        headers = given
        body, command, routing_key = BODY, APPLY, DEAD
        timestamp = int(LONG_AGO.timestamp())

    return Letter(subscription=SHOP, delivery=Delivery())  # type: ignore[arg-type]


async def test_show_obeys_no_control_character(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    sent = letter("m1", body=b'{"a":"\x1b[2J\n"}', headers=headers("Reject: \x1b[31m"))
    await bury(amqp_url, [letter("m0"), sent])
    plain = await dead_letters("show", "m1", SHOP, folder=tmp_path, amqp_url=amqp_url)
    full = await dead_letters("show", "m1", SHOP, "--body", folder=tmp_path, amqp_url=amqp_url)
    assert "x-attempt:           6\n" in plain.out
    assert "error:                 Reject: \\x1b[31m\n" in plain.out
    assert "body" not in plain.out
    assert full.out.endswith('\nbody:                  {"a":"\\x1b[2J\\n"}\n')


async def test_show_says_that_there_is_no_such_letter(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m0")])
    shown = await dead_letters("show", "m1", SHOP, folder=tmp_path, amqp_url=amqp_url)
    assert (shown.process.returncode, shown.out) == (1, "")
    assert shown.err.startswith("error: no dead letter has the message id m1")


async def test_a_replayed_letter_comes_back_to_its_queue_alone(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url)
    await set_up(amqp_url, "other")
    await bury(amqp_url, [letter("m1"), letter("m2", headers=headers("Busy: later"))])
    done = await dead_letters(
        *("replay", SHOP, "--error", "closed"),
        folder=tmp_path,
        amqp_url=amqp_url,
        CONSUMERS_DATABASE_URL=database_url,
    )
    assert done.out == "1 dead letters match\nreplayed 1 of 1\n"
    (message,) = await emptied(amqp_url, WORK)
    assert (message.message_id, message.body, message.type) == ("m1", BODY, APPLY)
    said = dict(message.headers)
    assert not said.pop("x-delivery-count", 0)
    assert datetime.fromisoformat(str(said.pop("x-replayed"))) > LONG_AGO
    assert said == headers() | {"x-attempt": 1, "x-replays": 1}
    assert await ids(amqp_url, DEAD) == ["m2"]
    assert await count(amqp_url, topology.work_queue("other")) == 0
    (row,) = await audit(database_url)
    assert (row["action"], row["message_id"], row["body"]) == ("replay", "m1", None)


async def test_a_replayed_event_is_handled_when_the_cause_is_mended(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    handlers, mended = Handlers(SHOP), asyncio.Event()

    @handlers.on(AfterAddFriend)
    async def refuse(event: AfterAddFriend) -> None:
        if not mended.is_set():
            raise Reject(f"{event.from_user_id} is not ours")
        mended_for.append(event.from_user_id)

    mended_for: list[str] = []
    async with working(amqp_url, database_url, handlers):
        await declared(amqp_url, SHOP)
        await publish(amqp_url, APPLY, BODY)
        await eventually(lambda: count(amqp_url, DEAD), bool)
        mended.set()
        await dead_letters(
            *("replay", SHOP, "--all"),
            folder=tmp_path,
            amqp_url=amqp_url,
            CONSUMERS_DATABASE_URL=database_url,
        )
        await eventually(lambda: count(amqp_url, WORK), lambda n: n == 0)
    assert mended_for == ["anna"]
    assert await count(amqp_url, DEAD) == 0


async def test_what_rabbitmq_moved_survives_a_replay_and_a_wait(
    amqp_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url)
    await publish(amqp_url, APPLY, BODY, message_id="m1")
    await give_back(amqp_url, WORK, topology.DELIVERY_LIMIT + 1)
    await eventually(lambda: count(amqp_url, DEAD), bool)
    shown = await dead_letters("list", SHOP, "--each", folder=tmp_path, amqp_url=amqp_url)
    assert "  delivery_limit: RabbitMQ moved it here" in shown.out
    await dead_letters("replay", SHOP, "--all", folder=tmp_path, amqp_url=amqp_url)
    handlers, attempts = Handlers(SHOP), list[str]()

    @handlers.on(AfterAddFriend)
    async def fail_once(event: AfterAddFriend) -> None:
        attempts.append(event.from_user_id)
        if len(attempts) == 1:
            raise Retry("not yet")

    async with working(amqp_url, f"sqlite:///{tmp_path / 'work.db'}", handlers):
        await eventually(lambda: _length(attempts), lambda n: n == 2)


async def _length(things: list[str]) -> int:
    return len(things)


async def test_an_ordered_letter_comes_back_to_its_partition(
    amqp_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url, partitions=2)
    await bury(amqp_url, [letter("m1")])
    done = await dead_letters("replay", SHOP, "--all", folder=tmp_path, amqp_url=amqp_url)
    assert done.process.returncode == 0
    assert await count(amqp_url, topology.work_queue(SHOP, 1)) == 1


async def test_a_letter_without_a_work_queue_stays(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m1")])
    async with channel_to(amqp_url) as channel:
        await channel.queue_delete(WORK)
    done = await dead_letters("replay", SHOP, "--all", folder=tmp_path, amqp_url=amqp_url)
    assert done.process.returncode == 1
    assert "error: there is no queue openim.work.shop to replay to" in done.err
    assert await ids(amqp_url, DEAD) == ["m1"]


async def test_replays_are_counted(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m1", headers=headers() | {"x-replays": 2})])
    await dead_letters("replay", SHOP, "--all", folder=tmp_path, amqp_url=amqp_url)
    message = await taken_from(amqp_url, WORK)
    assert message.headers["x-replays"] == 3


async def test_a_killed_replay_loses_nothing(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    names = {f"m{number:03}" for number in range(500)}
    await bury(amqp_url, map(letter, sorted(names)))
    words = ("dead-letters", "replay", SHOP, "--all", "--rate", "300")
    async with started(
        CONSUMERS, *words, folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url
    ) as command:
        await eventually(lambda: count(amqp_url, WORK), lambda n: n > 50)
        command.process.kill()
        await command.ended()
    come = await eventually(lambda: count(amqp_url, WORK), lambda n: n < 450)
    again = await dead_letters("replay", SHOP, "--all", folder=tmp_path, amqp_url=amqp_url)
    assert again.process.returncode == 0
    back = await ids(amqp_url, WORK)
    assert set(back) == names
    assert 50 < come < 450
    assert len(back) <= 502
    assert await count(amqp_url, DEAD) == 0


async def test_a_replay_whose_broker_dies_says_so_and_loses_nothing(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    url = own_broker.amqp_url
    await set_up(url)
    names = {f"m{number:03}" for number in range(500)}
    await bury(url, map(letter, sorted(names)))
    words = ("dead-letters", "replay", SHOP, "--all", "--rate", "50")
    async with started(CONSUMERS, *words, folder=tmp_path, CONSUMERS_AMQP_URL=url) as command:
        # Five seconds: RabbitMQ may not bring back a queue that was made just before a kill.
        await eventually(lambda: count(url, WORK), lambda n: n > 250)
        await own_broker.kill()
        code = await command.ended()
    await own_broker.start()
    back = set(await ids(url, WORK))

    async def found() -> set[str]:
        back.update(await ids(url, DEAD))  # RabbitMQ takes them back in its own time
        return back

    await eventually(found, lambda found: found == names)
    assert code == 4
    assert command.err.startswith("error: ")
    assert command.err.count("\n") == 1


async def test_a_replay_says_so_where_somebody_else_has_the_others(
    amqp_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, (letter(f"m{number:03}") for number in range(PAGE + 20)))
    words = ("dead-letters", "replay", SHOP, "--all", "--rate", "400")
    async with (
        started(CONSUMERS, *words, folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url) as command,
        channel_to(amqp_url) as channel,
    ):
        await eventually(lambda: count(amqp_url, WORK), bool)
        looking = await channel.get_queue(DEAD)
        held = [await looking.get() for _ in range(20)]
        code = await command.ended()
    assert (code, len(held)) == (5, 20)
    assert command.out.endswith(f"replayed {PAGE} of {PAGE + 20}\n")
    assert command.err.startswith("error: 20 letters are left")


async def test_an_interrupted_replay_says_how_far_it_came(
    amqp_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, (letter(f"m{number}") for number in range(100)))
    words = ("dead-letters", "replay", SHOP, "--all", "--rate", "20")
    async with started(
        CONSUMERS, *words, folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url
    ) as command:
        await eventually(lambda: count(amqp_url, WORK), lambda n: n >= 3)
        command.interrupt()
        code = await command.ended()
    come = len(await ids(amqp_url, WORK))
    left = await eventually(lambda: count(amqp_url, DEAD), lambda n: n >= 100 - come)
    assert code == 130
    assert 100 <= come + left <= 101
    assert command.out.endswith(f"replayed {100 - left} of 100\n")
    assert "Traceback" not in command.err


async def test_a_dry_run_settles_nothing(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, (letter(f"m{number}") for number in range(7)))
    shown = await dead_letters(
        "replay", SHOP, "--all", "--dry-run", folder=tmp_path, amqp_url=amqp_url
    )
    first, *examples = shown.out.splitlines()
    assert first == "7 dead letters match"
    assert [line.split()[1] for line in examples] == ["m0", "m1", "m2", "m3", "m4"]
    assert (await count(amqp_url, DEAD), await count(amqp_url, WORK)) == (7, 0)


async def test_more_than_a_thousand_need_a_yes(amqp_url: str, tmp_path: Path) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, (letter(f"m{number}") for number in range(1001)))
    words = "discard", SHOP, "--all", "--reason", "a test"
    asked = await dead_letters(*words, folder=tmp_path, amqp_url=amqp_url)
    left = await count(amqp_url, DEAD)
    done = await dead_letters(*words, "--yes", folder=tmp_path, amqp_url=amqp_url)
    assert (asked.process.returncode, left) == (2, 1001)
    assert "Discard them?" in asked.err
    assert done.out == "1,001 dead letters match\ndiscarded 1,001 of 1,001\n"
    assert await count(amqp_url, DEAD) == 0


@pytest.mark.parametrize(("words", "body"), [((), None), (("--keep-body",), BODY)])
async def test_what_is_discarded_is_in_the_audit_log(
    amqp_url: str, database_url: str, tmp_path: Path, words: tuple[str, ...], body: bytes | None
) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m1", headers=headers("Reject: \0")), letter("m2")])
    done = await dead_letters(
        *("discard", SHOP, "--message-id", "m1", "--reason", "a \x07 test", *words),
        folder=tmp_path,
        amqp_url=amqp_url,
        CONSUMERS_DATABASE_URL=database_url,
    )
    assert (done.process.returncode, await ids(amqp_url, DEAD)) == (0, ["m2"])
    (row,) = await audit(database_url)
    assert row.pop("at_ms") > 1_700_000_000_000
    assert "@" in row.pop("who")
    assert len(row.pop("id")) == 36
    assert row == {
        "action": "discard",
        "reason": "a \x07 test",
        "subscription": SHOP,
        "message_id": "m1",
        "command": APPLY,
        "error": "Reject: \N{REPLACEMENT CHARACTER}",
        "body": body,
    }


async def test_nothing_is_discarded_without_the_audit_log(
    amqp_url: str, tmp_path: Path
) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m1")])
    done = await dead_letters(
        *("discard", SHOP, "--all", "--reason", "a test"),
        folder=tmp_path,
        amqp_url=amqp_url,
        CONSUMERS_DATABASE_URL="postgresql://im:hunter2@127.0.0.1:1/x",
    )
    assert done.process.returncode == 4
    assert "error: the audit log: " in done.err
    assert "hunter2" not in done.err
    assert await ids(amqp_url, DEAD) == ["m1"]


async def test_a_row_is_written_before_its_letter_is_gone(
    amqp_url: str, database_url: str
) -> None:
    await set_up(amqp_url)
    await bury(amqp_url, [letter("m1")])
    act = dead_letter_audit.Act(action="discard", who="me@here", reason="a test")
    async with connected(amqp_url) as connection, database.opened(database_url) as opened:
        broken = desk.Desk(
            broker=connection, database=opened, act=act, confirm_timeout=5, done=lambda: None
        )
        with pytest.raises(database.FAILURES):
            await broken.settle(SHOP, Wanted())  # its table does not exist
    assert await ids(amqp_url, DEAD) == ["m1"]


async def test_a_queue_that_looks_would_empty_is_refused(amqp_url: str, tmp_path: Path) -> None:
    async with channel_to(amqp_url) as channel:
        await channel.declare_queue(
            DEAD, durable=True, arguments={"x-queue-type": "quorum", "x-delivery-limit": 20}
        )
    shown = await dead_letters("list", SHOP, folder=tmp_path, amqp_url=amqp_url)
    assert (shown.process.returncode, shown.out) == (1, "")
    assert "error: openim.dead-letters.shop was declared otherwise" in shown.err


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("list", "nosuch"), 1, "there is no queue openim.dead-letters.nosuch"),
        (("list", "no*"), 1, "there is no queue openim.dead-letters.no*"),
        (("replay", SHOP, "--all"), 1, "no dead letter matches"),
        (("discard", SHOP, "--all"), 2, "Missing option '--reason'"),
        (("replay", SHOP), 2, "or use --all"),
        (("replay", SHOP, "--all", "--user", "a"), 2, "or use --all"),
        (("list", "--since", "tomorrow"), 2, "tomorrow is neither an age"),
    ],
)
async def test_what_is_wrong_is_one_sentence(
    amqp_url: str, tmp_path: Path, words: tuple[str, ...], code: int, sentence: str
) -> None:
    await set_up(amqp_url)
    command = await dead_letters(*words, folder=tmp_path, amqp_url=amqp_url)
    assert (command.process.returncode, command.out) == (code, "")
    assert sentence in command.err


async def test_without_rabbitmq_or_with_bad_handlers_it_says_so(tmp_path: Path) -> None:
    away = await dead_letters("list", folder=tmp_path, amqp_url=NOWHERE)
    bad = await dead_letters(
        "list", folder=tmp_path, amqp_url=NOWHERE, CONSUMERS_HANDLERS="nosuch"
    )
    assert (away.process.returncode, bad.process.returncode) == (4, 3)
    assert away.err.startswith("error: no RabbitMQ at 127.0.0.1:1")
    assert bad.err.startswith("error: the handler module nosuch cannot be imported")
