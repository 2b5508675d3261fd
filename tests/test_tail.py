"""Looking on from the command line: `openim-bridge tail`."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika

from bridge import openim
from bridge.topology import RECEIVED, UNROUTED
from tests.commands import BRIDGE, Command, ran, started
from tests.line import line_to
from tests.running import NOWHERE, Bridge, bridge, everything


@asynccontextmanager
async def tailing(*words: str, folder: Path, amqp_url: str) -> AsyncIterator[Command]:
    """Run `openim-bridge tail`, which sees what is published from here on."""
    async with started(
        BRIDGE, "tail", *words, folder=folder, BRIDGE_AMQP_URL=amqp_url
    ) as command:
        await command.says("watching")
        yield command


async def post(running: Bridge, *names: str) -> None:
    """Post recorded callbacks, one after the other."""
    for name in names:
        await running.openim.post(*openim.sample(name))


async def test_tail_shows_callbacks_and_takes_them_from_nobody(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        everything(amqp_url) as seen,
        bridge(tmp_path, amqp_url) as running,
        tailing("-n", "3", folder=tmp_path, amqp_url=amqp_url) as command,
    ):
        await post(running, "AfterAddFriend", "BeforeCreateGroup", "AfterUserOnline")
        code = await command.ended()
        messages = await seen.have(3)
    lines = command.out.splitlines()
    assert code == 0
    assert [line.split()[2] for line in lines] == [each.message_id for each in messages]
    assert [line.split()[1] for line in lines] == [each.routing_key for each in messages]
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}Z", lines[0].split()[0])


async def test_tail_shows_what_its_pattern_matches(amqp_url: str, tmp_path: Path) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        tailing("friend.#", "-n", "2", folder=tmp_path, amqp_url=amqp_url) as command,
    ):
        await post(running, "AfterAddFriend", "AfterUserOnline", "AfterDeleteFriend")
        await command.ended()
    assert [line.split()[1].partition(".p")[0] for line in command.out.splitlines()] == [
        "friend.after.add_friend",
        "friend.after.delete_friend",
    ]


async def test_tail_shows_no_body_unless_asked(amqp_url: str, tmp_path: Path) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        tailing("-n", "1", folder=tmp_path, amqp_url=amqp_url) as plain,
        tailing("-n", "1", "--json", folder=tmp_path, amqp_url=amqp_url) as plain_json,
        tailing("-n", "1", "--body", folder=tmp_path, amqp_url=amqp_url) as with_body,
    ):
        await post(running, "AfterAddFriend")
        await plain.ended()
        await plain_json.ended()
        await with_body.ended()
    assert "reqMsg" not in plain.out + plain_json.out
    assert with_body.out.count("\n") == 2
    assert (
        json.loads(with_body.out.splitlines()[1])["callbackCommand"]
        == "callbackAfterAddFriendCommand"
    )


async def test_tail_gives_one_json_object_a_line(amqp_url: str, tmp_path: Path) -> None:
    async with (
        everything(amqp_url) as seen,
        bridge(tmp_path, amqp_url) as running,
        tailing("-n", "1", "--json", "--body", folder=tmp_path, amqp_url=amqp_url) as command,
    ):
        await post(running, "AfterAddFriend")
        await command.ended()
        (message,) = await seen.have(1)
    (line,) = map(json.loads, command.out.splitlines())
    assert line == {
        "message_id": message.message_id,
        "command": "callbackAfterAddFriendCommand",
        "routing_key": message.routing_key,
        "operation_id": message.correlation_id,
        "headers": message.headers,
        "bytes": len(message.body),
        "body": message.body.decode(),
    }


async def test_tail_shows_control_characters_and_does_not_obey_them(
    amqp_url: str, tmp_path: Path
) -> None:
    async with tailing("-n", "1", "--body", folder=tmp_path, amqp_url=amqp_url) as command:
        async with (
            await aio_pika.connect(amqp_url) as connection,
            connection.channel() as channel,
        ):
            exchange = await channel.get_exchange(RECEIVED, ensure=False)
            message = aio_pika.Message(b"\x1b[2J\xff", correlation_id="\x07", message_id="id")
            await exchange.publish(message, "a.\x1b[2J", mandatory=False)
        await command.ended()
    assert "a.\\x1b[2J" in command.out
    assert "\\x07" in command.out
    assert command.out.endswith("\\x1b[2J\N{REPLACEMENT CHARACTER}\n")


async def test_tail_ends_quietly_at_ctrl_c(amqp_url: str, tmp_path: Path) -> None:
    async with tailing(folder=tmp_path, amqp_url=amqp_url) as command:
        command.interrupt()
        code = await command.ended()
    assert (code, command.out) == (130, "")
    assert command.err.splitlines()[1:] == ["interrupted"]


async def test_tail_says_in_a_sentence_that_there_is_no_broker(tmp_path: Path) -> None:
    command = await ran(BRIDGE, "tail", folder=tmp_path, BRIDGE_AMQP_URL=NOWHERE)
    assert (command.process.returncode, command.out) == (4, "")
    assert re.fullmatch(r"error: no RabbitMQ at 127\.0\.0\.1:1: .*\n", command.err)


async def test_tail_says_in_a_sentence_that_the_broker_went_away(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        line_to(amqp_url) as line,
        tailing(folder=tmp_path, amqp_url=line.url) as command,
    ):
        line.cut()
        code = await command.ended()
    assert code == 4
    assert re.match(r"error: \S.*\n\Z", command.err.splitlines(keepends=True)[-1])
    assert "Traceback" not in command.err


async def test_what_only_tail_sees_is_kept_as_unrouted(amqp_url: str, tmp_path: Path) -> None:
    async with (
        bridge(tmp_path, amqp_url) as running,
        tailing("-n", "1", folder=tmp_path, amqp_url=amqp_url) as command,
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
    ):
        await post(running, "AfterAddFriend")
        await command.ended()
        await running.drained()
        kept = await (await channel.get_queue(UNROUTED)).get(no_ack=True)
    assert kept.type == "callbackAfterAddFriendCommand"
    assert "friend.after.add_friend" in command.out
