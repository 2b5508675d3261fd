"""The archive, and bringing back what it keeps: `openim-bridge replay`."""

import re
import time
from collections.abc import AsyncIterator
from operator import itemgetter
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from click.testing import CliRunner, Result

from bridge import archive, openim
from bridge.broker import connect
from bridge.cli.main import main
from bridge.topology import ARCHIVE, OUTCOMES, RECEIVED, REFUSED, UNROUTED, partition_name
from tests.brokers import OwnBroker
from tests.commands import BRIDGE, Command, ran
from tests.running import Bridge, bridge, eventually, everything, until

TARGET = "target"

POSTED = ["AfterAddFriend", "AfterUserOnline", "AfterDeleteFriend"]


@pytest.fixture
async def channel(amqp_url: str) -> AsyncIterator[AbstractChannel]:
    """A channel, and on it the queue TARGET, bound to nothing."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        await channel.declare_queue(TARGET, durable=True)
        yield channel


async def taken(channel: AbstractChannel, queue: str = TARGET) -> list[AbstractIncomingMessage]:
    """Take all that waits in a queue."""
    found = await channel.get_queue(queue)
    messages = []
    while message := await found.get(no_ack=True, fail=False):
        messages.append(message)
    return messages


async def partitions(channel: AbstractChannel, name: str, count: int) -> list[str]:
    """Declare the queues of an ordered subscription, bound to nothing; give their names."""
    queues = [f"{name}.{partition_name(number)}" for number in range(count)]
    for queue in queues:
        await channel.declare_queue(queue, durable=True)
    return queues


async def post(running: Bridge, *names: str) -> None:
    """Post recorded callbacks, one after the other, and wait until RabbitMQ has them."""
    for name in names:
        await running.openim.post(*openim.sample(name))
    await running.drained()


async def replayed(*words: str, folder: Path, amqp_url: str) -> Command:
    """Run `openim-bridge replay` to its end."""
    words = ("replay", "--to", TARGET, *words)
    return await ran(BRIDGE, *words, folder=folder, BRIDGE_AMQP_URL=amqp_url)


def commands(messages: list[AbstractIncomingMessage]) -> list[str]:
    """Name the callbacks, short."""
    frame = re.compile("callback(.*)Command")
    return [frame.sub(r"\1", message.type or "") for message in messages]


async def past(moment: float) -> None:
    """Wait until the clock shows more than `moment`."""
    await until(lambda: time.time() > moment)


async def test_a_replayed_callback_is_the_same_again_and_says_so(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await post(running, "AfterAddFriend", "BeforeCreateGroup", "AfterUserOnline")
        originals = list(await seen.have(3))
        command = await replayed(folder=tmp_path, amqp_url=amqp_url)
    copies = await taken(channel)
    assert (command.process.returncode, command.out) == (
        0,
        "3 callbacks in the archive\nreplayed 3\n",
    )
    assert [each.message_id for each in copies] == [each.message_id for each in originals]
    for original, copy in zip(originals, copies, strict=True):
        added = {
            name: copy.headers.pop(name) for name in copy.headers.keys() - original.headers
        }
        assert added.keys() == {"x-replayed", "x-routing-key", "x-stream-offset"}
        assert added["x-routing-key"] == original.routing_key
        for of in ("body", "headers", "type", "correlation_id", "timestamp", "app_id"):
            assert getattr(copy, of) == getattr(original, of)
        assert (copy.content_type, copy.delivery_mode) == ("application/json", 2)


async def test_a_replay_reaches_one_queue_and_nobody_else(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await post(running, "AfterAddFriend", "AfterUserOnline")
        await replayed(folder=tmp_path, amqp_url=amqp_url)
        again = await replayed(folder=tmp_path, amqp_url=amqp_url)
        await post(running, "AfterUserOffline")
        messages = await seen.have(3)
    assert len(await taken(channel)) == 4
    assert commands(messages) == ["AfterAddFriend", "AfterUserOnline", "AfterUserOffline"]
    assert again.out.startswith("2 callbacks")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("--command", "friend.*"), ["AfterAddFriend", "AfterDeleteFriend"]),
        (("--command", "AfterUserOnline"), ["AfterUserOnline"]),
        (("--user", "user_b"), ["AfterAddFriend", "AfterDeleteFriend"]),
        (("--user", "user_"), []),
        (("--until", "1h"), []),
        (("--since", "1h", "--until", "0s"), POSTED),
    ],
    ids=" ".join,
)
async def test_a_replay_brings_what_was_asked_for(
    amqp_url: str,
    tmp_path: Path,
    channel: AbstractChannel,
    words: tuple[str, ...],
    wanted: list[str],
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, *POSTED)
    await replayed(*words, folder=tmp_path, amqp_url=amqp_url)
    assert commands(await taken(channel)) == wanted


async def test_moments_are_exact_though_a_stream_is_entered_by_chunks(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        for name in ("AfterAddFriend", "AfterUserOnline", "AfterUserOffline"):
            await post(running, name)
            await past(time.time() + 0.002)
        times = [each.headers["x-received-ms"] for each in await seen.have(3)]
    since, until_ = (
        time.strftime("%FT%T", time.gmtime(int(str(at)) // 1000))
        + f".{int(str(at)) % 1000:03}Z"
        for at in times[1:]
    )
    await replayed("--since", since, "--until", until_, folder=tmp_path, amqp_url=amqp_url)
    assert commands(await taken(channel)) == ["AfterUserOnline"]


async def test_ids_choose_single_callbacks(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await post(running, "AfterAddFriend", "AfterUserOnline", "AfterUserOffline")
        ids = [str(each.message_id) for each in await seen.have(3)]
    await replayed(
        "--message-id", ids[2], "--message-id", ids[0], folder=tmp_path, amqp_url=amqp_url
    )
    assert [each.message_id for each in await taken(channel)] == [ids[0], ids[2]]


async def test_a_dry_run_shows_five_and_replays_none(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, *["AfterAddFriend"] * 7)
    command = await replayed("--dry-run", folder=tmp_path, amqp_url=amqp_url)
    lines = command.out.splitlines()
    assert (lines[0], len(lines)) == ("7 callbacks in the archive", 6)
    assert all("friend.after.add_friend.p" in line for line in lines[1:])
    assert "reqMsg" not in command.out
    assert await taken(channel) == []


async def test_more_than_a_thousand_need_a_yes(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    exchange = await channel.get_exchange(RECEIVED, ensure=False)
    async with bridge(tmp_path, amqp_url) as running:
        await running.connected()
        for _ in range(1001):
            await exchange.publish(aio_pika.Message(b"{}"), "malformed", mandatory=False)
        asked = await replayed("--rate", "100000", folder=tmp_path, amqp_url=amqp_url)
        assert await taken(channel) == []
        told = await replayed("--rate", "100000", "--yes", folder=tmp_path, amqp_url=amqp_url)
    assert asked.process.returncode == 2
    assert "Replay them in about" in asked.err
    assert told.out.endswith("replayed 1,001\n")
    assert len(await taken(channel)) == 1001


async def test_a_replay_keeps_to_its_rate(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, *["AfterAddFriend"] * 6)
    begun = time.monotonic()
    command = await replayed("--rate", "2.5", "--json", folder=tmp_path, amqp_url=amqp_url)
    assert time.monotonic() - begun > 2
    assert (command.out, command.err) == ('{"found":6}\n{"replayed":6}\n', "")
    assert len(await taken(channel)) == 6


async def test_a_replay_ends_where_the_archive_ended_at_its_start(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        connect(amqp_url, name="test", timeout=5) as broker,
    ):
        await post(running, "AfterAddFriend", "AfterUserOnline")
        now = await archive.as_it_is(broker, 5)
        await post(running, "AfterUserOffline")
        read = [delivery.command async for delivery in now.read(None)]
        later = [d async for d in (await archive.as_it_is(broker, 5)).read(None)]
    assert len(read) == 2
    assert len(later) == 3


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--to", "nowhere"), "there is no queue nowhere to replay to"),
        (("--to", "openim.work.shop"), "there is no queue openim.work.shop to replay to"),
        (("--to", "no\nwhere?"), "there is no queue no\nwhere? to replay to"),
        (("--to", "q" * 256), f"there is no queue {'q' * 256} to replay to"),
        (("--to", TARGET), f"there is no queue {ARCHIVE}: a receiver makes it"),
    ],
)
@pytest.mark.usefixtures("channel")
async def test_a_replay_without_a_queue_or_an_archive_is_refused(
    amqp_url: str, tmp_path: Path, words: tuple[str, ...], sentence: str
) -> None:
    command = await replayed(*words, folder=tmp_path, amqp_url=amqp_url)
    assert command.process.returncode == 1
    assert command.err.startswith(f"error: {sentence}")


@pytest.mark.parametrize(
    "queue",
    [
        *(ARCHIVE, OUTCOMES, UNROUTED, REFUSED, "openim.wait.30s", "openim.questions.ask"),
        *("openim.dead-letters.shop", "openim.workers", "openim.work", "openim.sub"),
    ],
)
def test_a_queue_that_has_a_work_of_its_own_gets_no_copies(queue: str) -> None:
    result: Result = CliRunner().invoke(main, ["replay", "--to", queue])
    assert result.exit_code == 1
    assert result.output == (
        f"error: {queue} is no queue to replay to: of those that begin with openim. only the"
        " ones of subscriptions are, openim.work.<name> and openim.sub.<name>\n"
    )


@pytest.mark.parametrize("queue", ["openim.work.shop", "openim.sub.my-shop"])
def test_one_partition_alone_gets_no_copies(queue: str) -> None:
    result: Result = CliRunner().invoke(main, ["replay", "--to", f"{queue}.p03"])
    assert result.exit_code == 1
    assert result.output == (
        f"error: {queue}.p03 is one partition of an ordered subscription: name its queue"
        f" without the partition, {queue}, and each copy goes to the partition of its key\n"
    )


@pytest.mark.parametrize("name", ["openim.work.shop", "openim.sub.my-shop"])
@pytest.mark.parametrize("count", [16, 3])
async def test_copies_for_an_ordered_subscription_go_to_their_partitions(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel, name: str, count: int
) -> None:
    queues = await partitions(channel, name, count)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await post(running, *POSTED, "AfterSendSingleMsg", "AfterCreateGroup")
        exchange = await channel.get_exchange(RECEIVED, ensure=False)
        await exchange.publish(aio_pika.Message(b"{}"), "malformed")
        keys = [str(each.routing_key) for each in await seen.have(6)]
        command = await replayed("--to", name, folder=tmp_path, amqp_url=amqp_url)
    assert command.out.endswith("replayed 6\n"), command.err
    wanted = [(key, int(key.partition(".p")[2] or 0) % count) for key in keys]
    assert len({number for _, number in wanted}) > 1
    assert [
        (message.headers["x-routing-key"], number)
        for number, queue in enumerate(queues)
        for message in await taken(channel, queue)
    ] == sorted(wanted, key=itemgetter(1))


@pytest.mark.parametrize("name", ["openim.work.shop", "openim.sub.p03", "shop.p03"])
async def test_a_queue_that_is_there_gets_all_copies(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel, name: str
) -> None:
    await partitions(channel, name, 1)
    await channel.declare_queue(name, durable=True)
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, *POSTED)
    await replayed("--to", name, folder=tmp_path, amqp_url=amqp_url)
    assert commands(await taken(channel, name)) == POSTED


async def test_a_queue_of_somebody_else_has_no_partitions(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    await partitions(channel, "shop", 1)
    command = await replayed("--to", "shop", folder=tmp_path, amqp_url=amqp_url)
    assert command.err == "error: there is no queue shop to replay to\n"


async def test_a_full_queue_stops_a_replay_with_a_sentence(
    amqp_url: str, tmp_path: Path, channel: AbstractChannel
) -> None:
    full: dict[str, Any] = {"x-max-length": 1, "x-overflow": "reject-publish"}
    await channel.declare_queue("full", arguments=full)
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, *["AfterAddFriend"] * 4)
        command = await replayed("--to", "full", folder=tmp_path, amqp_url=amqp_url)
    assert command.process.returncode == 4
    assert re.search(r"; 1 were replayed before\n\Z", command.err)


@pytest.mark.parametrize("words", [("--since", "yesterday"), ("--command", "freind.#")])
def test_what_cannot_be_meant_is_said_at_once(words: tuple[str, ...]) -> None:
    result: Result = CliRunner().invoke(main, ["replay", "--to", TARGET, *words])
    assert result.exit_code == 2
    assert words[1] in result.output


async def test_without_an_archive_nothing_is_archived(amqp_url: str, tmp_path: Path) -> None:
    async with (
        bridge(tmp_path, amqp_url, archive_days=0) as running,
        everything(amqp_url) as seen,
    ):
        await post(running, "AfterAddFriend")
        await seen.have(1)
    command = await replayed(folder=tmp_path, amqp_url=amqp_url)
    assert command.process.returncode == 1


async def test_an_archive_with_other_settings_goes_on_as_it_is(
    amqp_url: str,
    tmp_path: Path,
    channel: AbstractChannel,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, "AfterAddFriend")
    async with bridge(tmp_path, amqp_url, archive_days=1.0) as running:
        await post(running, "AfterUserOnline")
    await replayed(folder=tmp_path, amqp_url=amqp_url)
    (said,) = (each for each in caplog.records if each.message == "archive left as it is")
    assert "inequivalent arg 'x-max-age'" in vars(said)["reason"]
    assert commands(await taken(channel)) == ["AfterAddFriend", "AfterUserOnline"]


async def test_an_archive_that_is_away_holds_up_nobody(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    """A stream that RabbitMQ is killed over just after it was made seldom comes back."""
    async with bridge(tmp_path, own_broker.amqp_url) as running:
        await running.connected()
        await own_broker.kill()
        await own_broker.start()
        async with everything(own_broker.amqp_url) as seen:
            await post(running, "AfterAddFriend", "AfterUserOnline")
            assert commands(await seen.have(2)) == ["AfterAddFriend", "AfterUserOnline"]


async def test_the_archive_is_there_again_after_a_restart_of_rabbitmq(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    async with bridge(tmp_path, own_broker.amqp_url) as running:
        await post(running, "AfterAddFriend")
        await own_broker.stop()
        await own_broker.start()
        await post(running, "AfterUserOnline")

    async def kept() -> str:
        command = await replayed("--dry-run", folder=tmp_path, amqp_url=own_broker.amqp_url)
        return command.out.partition("\n")[0]

    async with await aio_pika.connect(own_broker.amqp_url) as connection:
        await (await connection.channel()).declare_queue(TARGET, durable=True)
    await eventually(kept, lambda line: line == "2 callbacks in the archive")
