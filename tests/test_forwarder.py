"""From the journal to RabbitMQ, through whatever happens to the line."""

import asyncio
import json
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractIncomingMessage

from bridge import openim, waiting
from bridge.contract import COMMANDS, Allowed, partition, routing_key
from bridge.message import Message
from bridge.topology import CALLBACKS, UNROUTED
from tests.brokers import OwnBroker
from tests.line import line_to
from tests.running import NOWHERE, Bridge, bridge, everything, until

COMMAND = "callbackAfterUserOnlineCommand"


def body(number: int) -> bytes:
    """Give a body that tells its number; all are about one user, so of one partition."""
    return b'{"callbackCommand":"%s","userID":"u","seq":%d}\n' % (COMMAND.encode(), number)


async def post(running: Bridge, numbers: range) -> None:
    """Post one after the other, each taken before the next is sent."""
    for number in numbers:
        answer = await running.openim.post(COMMAND, body(number))
        assert answer.verdict == Allowed()


def numbers(messages: list[AbstractIncomingMessage]) -> list[int]:
    return [json.loads(message.body)["seq"] for message in messages]


def once(found: list[int]) -> list[int]:
    """Keep the first of each."""
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("command", openim.commands())
async def test_a_recorded_callback_arrives_byte_for_byte(
    amqp_url: str, tmp_path: Path, command: str
) -> None:
    _, sent = openim.sample(command)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        answer = await running.openim.post(command, sent)
        (message,) = await seen.have(1)
    event = COMMANDS[command]
    key = event.ordering_key(json.loads(sent))
    assert answer.verdict == Allowed()
    assert message.body == sent
    assert message.type == command
    assert message.routing_key == routing_key(command, event, partition(key, 16))
    assert message.headers["ce-partitionkey"] == key


async def test_a_message_says_what_subscribers_were_promised(
    amqp_url: str, tmp_path: Path
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await post(running, range(1))
        (message,) = await seen.have(1)
    assert message.delivery_mode == aio_pika.DeliveryMode.PERSISTENT
    assert message.content_type == "application/json"
    assert message.app_id == "openim-bridge"
    assert message.headers["ce-id"] == message.message_id
    assert message.headers["ce-type"] == COMMAND
    assert (message.correlation_id or "").startswith("send-")
    assert message.timestamp is not None
    assert message.timestamp.timestamp() == int(str(message.headers["x-received-ms"])) // 1000


async def test_a_body_larger_than_a_frame_arrives_whole(amqp_url: str, tmp_path: Path) -> None:
    large = json.dumps(
        {"callbackCommand": COMMAND, "userID": "u", "ex": "x" * 900_000}
    ).encode()
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await running.openim.post(COMMAND, large)
        (message,) = await seen.have(1)
    assert message.body == large


async def test_callbacks_answered_without_a_broker_arrive_when_it_is_there(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    async with everything(own_broker.amqp_url):
        pass
    async with bridge(tmp_path, own_broker.amqp_url) as running:
        await own_broker.stop()
        await post(running, range(1000))
        await own_broker.start()
        await running.drained()
    async with everything(own_broker.amqp_url) as seen:
        assert numbers(await seen.have(1000)) == list(range(1000))


async def test_a_broker_killed_under_load_loses_nothing(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    async with everything(own_broker.amqp_url):
        pass
    async with bridge(tmp_path, own_broker.amqp_url) as running:
        posting = asyncio.ensure_future(post(running, range(600)))
        await until(lambda: running.running.journal.confirmed > 100)
        await own_broker.kill()
        await own_broker.start()
        await posting
        await running.drained()
    async with everything(own_broker.amqp_url) as seen:
        await until(lambda: len(once(numbers(seen.messages))) == 600)
    assert once(numbers(seen.messages)) == list(range(600))


async def test_what_a_stopped_receiver_had_not_forwarded_comes_at_the_next_start(
    amqp_url: str, tmp_path: Path
) -> None:
    async with bridge(tmp_path, NOWHERE) as running:
        await post(running, range(20))
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url):
        assert numbers(await seen.have(20)) == list(range(20))


async def test_a_cut_line_loses_nothing_and_keeps_the_order(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        everything(amqp_url) as seen,
        line_to(amqp_url) as line,
        bridge(tmp_path, line.url) as running,
    ):
        await post(running, range(20))
        line.cut()
        await post(running, range(20, 40))
        await line.mend()
        await post(running, range(40, 60))
        await running.drained()
        await until(lambda: len(once(numbers(seen.messages))) == 60)
    assert once(numbers(seen.messages)) == list(range(60))


@pytest.mark.parametrize("after", range(1, 4096, 293))
async def test_a_line_cut_in_mid_frame_loses_nothing(
    amqp_url: str, tmp_path: Path, after: int
) -> None:
    async with (
        everything(amqp_url) as seen,
        line_to(amqp_url) as line,
        bridge(tmp_path, line.url) as running,
    ):
        line.cut_after = after
        await post(running, range(10))
        await until(lambda: line.cut_after is None)
        await line.mend()
        await running.drained()
        await until(lambda: len(once(numbers(seen.messages))) == 10)
    assert once(numbers(seen.messages)) == list(range(10))


async def test_a_broker_that_falls_silent_is_given_up_and_found_again(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        everything(amqp_url) as seen,
        line_to(amqp_url) as line,
        bridge(tmp_path, line.url, confirm_timeout=0.5, connect_timeout=1) as running,
    ):
        await post(running, range(5))
        await running.drained()
        line.silence()
        await post(running, range(5, 10))
        await until(lambda: not running.running.forwarder.link.connected)
        line.resume()
        await running.drained()
        await until(lambda: len(once(numbers(seen.messages))) == 10)
    assert once(numbers(seen.messages)) == list(range(10))


async def test_what_a_full_queue_refuses_waits_in_rabbitmq_until_it_has_room(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
    ):
        await running.connected()
        full = await channel.declare_queue(
            "full", arguments={"x-max-length": 100, "x-overflow": "reject-publish"}
        )
        await full.bind(CALLBACKS, "#")
        # More than the window has room for is refused, and still all leaves the journal.
        await post(running, range(400))
        await running.drained()
        found: set[int] = set()

        async def take(message: AbstractIncomingMessage) -> None:
            found.add(json.loads(message.body)["seq"])
            await message.ack()

        await full.consume(take)
        # What a slow machine has RabbitMQ offer too early comes again after three minutes.
        await until(lambda: found == set(range(400)), seconds=240)


async def test_an_event_that_nobody_wants_is_kept_as_unrouted(
    amqp_url: str, tmp_path: Path
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await post(running, range(3))
        await running.drained()
        async with await aio_pika.connect(amqp_url) as connection:
            channel = await connection.channel()
            queue = await channel.get_queue(UNROUTED)
            kept = [await queue.get(no_ack=True) for _ in range(3)]
    assert [json.loads(message.body)["seq"] for message in kept] == [0, 1, 2]


async def test_the_receiver_answers_without_any_broker(tmp_path: Path) -> None:
    async with bridge(tmp_path, NOWHERE) as running:
        await post(running, range(3))
        assert running.running.journal.depth == 3
        assert "no RabbitMQ at 127.0.0.1:1" in running.running.forwarder.link.reason


def poisonous() -> bytes:
    """Give a message whose field table is shorter than it says: RabbitMQ answers 501 or 502."""
    broken = Message(
        id="poison", routing_key="x", command="x", received_ms=0, body=b"", headers={"h": "v"}
    ).encode()
    poison = broken.replace(b"\x01hS\x00\x00\x00\x01v", b"\x01hS\x00\x00\x00\x09v")
    assert poison != broken
    return poison


@pytest.mark.parametrize(
    "poison",
    [
        poisonous(),
        b"",
        b"no message",
        b"\x01x\x00\x00\x00\x02\xff\xff",
        poisonous()[:-5],
    ],
    ids=["table", "empty", "text", "properties", "cut"],
)
async def test_what_rabbitmq_cannot_be_sent_is_set_aside(
    amqp_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    poison: bytes,
) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.02)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await running.connected()
        await post(running, range(10))
        await running.running.journal.store(poison)
        await post(running, range(10, 20))
        await running.drained()
        await until(lambda: len(once(numbers(seen.messages))) == 20)
        (kept,) = (tmp_path / "journal" / "0" / "set-aside").iterdir()
        assert kept.read_bytes() == poison
    (line,) = [each for each in caplog.records if each.message == "message set aside"]
    assert vars(line)["message_id"] == ("poison" if poison == poisonous() else "")
    assert once(numbers(seen.messages)) == list(range(20))


async def test_a_message_waits_until_the_disk_lets_it_be_set_aside(
    amqp_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(waiting, "FIRST_PAUSE", 0.02)
    in_the_way = tmp_path / "journal" / "0" / "set-aside"
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await running.connected()
        in_the_way.touch()
        await running.running.journal.store(poisonous())
        await post(running, range(10))
        await until(lambda: "message not set aside" in caplog.messages)
        assert running.running.journal.depth == 11
        in_the_way.unlink()
        await running.drained()
        await until(lambda: once(numbers(seen.messages)) == list(range(10)))
    (kept,) = in_the_way.iterdir()
    assert kept.read_bytes() == poisonous()
