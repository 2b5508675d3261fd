"""The commands, as people meet them."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aio_pika
import aiohttp
import pytest

from bridge import openim
from bridge.topology import CALLBACKS
from tests.commands import BRIDGE, Command, ran, started
from tests.line import line_to
from tests.running import NOWHERE, Bridge, bridge, everything, until
from tests.test_openim import listening, redirect, reply

NOBODY = "http://127.0.0.1:1/callbackExample"
SECRET = "/secret-4f1c9a"  # noqa: S105  # of no one
SUMMARY = (
    r"{count} callbacks, {failed} failed; p50 \d+\.\d\d ms, p99 \d+\.\d\d ms, max \d+\.\d\d ms;"
    r" (\d) connections"
)


async def send(*words: str, folder: Path, **variables: str) -> tuple[int, list[str], str]:
    """Run `openim-bridge send`: exit code, lines, and what went to standard error."""
    command = await ran(BRIDGE, "send", *words, folder=folder, **variables)
    return command.process.returncode or 0, command.out.splitlines(), command.err


async def test_send_shows_time_status_and_reply(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        code, lines, error = await send("AfterAddFriend", "--url", running.url, folder=tmp_path)
    (line,) = lines
    assert (code, error) == (0, "")
    assert re.fullmatch(
        r'ok  +\d+\.\d\d ms  200  callbackAfterAddFriendCommand  taken  \{"actionCode":0,.*\}',
        line,
    )


async def test_send_finds_the_receiver_by_its_settings(tmp_path: Path) -> None:
    async with bridge(tmp_path, path=SECRET) as running:
        code, _, _ = await send(
            "AfterAddFriend",
            folder=tmp_path,
            BRIDGE_PORT=str(running.port),
            BRIDGE_PATH=SECRET,
            BRIDGE_HOST="0.0.0.0",  # noqa: S104
        )
        assert running.running.journal.depth == 1
    assert code == 0


@pytest.mark.parametrize(
    ("host", "url"),
    [("::1", r"\[?::1\]?:1"), ("::", r"\[?::1\]?:1"), ("0.0.0.0", "127.0.0.1:1")],  # noqa: S104
)
async def test_send_knows_what_a_receivers_address_means(
    tmp_path: Path, host: str, url: str
) -> None:
    code, _, error = await send(
        "AfterAddFriend", folder=tmp_path, BRIDGE_HOST=host, BRIDGE_PORT="1"
    )
    assert code == 4
    assert re.match(f"error: nobody listens at {url}: ", error)


async def test_send_all_sends_every_recorded_callback(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        code, lines, _ = await send("--all", "--url", running.url, folder=tmp_path)
        assert running.running.journal.depth == len(openim.commands())
    *answers, summary = lines
    assert code == 0
    assert sorted(line.split()[4] for line in answers) == openim.commands()
    assert re.fullmatch(SUMMARY.format(count=len(openim.commands()), failed=0), summary)


async def test_send_repeats_over_two_connections(tmp_path: Path) -> None:
    async with listening(reply(b"{}")) as listener:
        code, lines, _ = await send(
            "AfterAddFriend", "--times", "2000", "-q", "--url", listener.url, folder=tmp_path
        )
    found = re.fullmatch(SUMMARY.format(count="2,000", failed=0), "\n".join(lines))
    assert (code, len(listener.requests)) == (0, 2000)
    assert found
    assert int(found[1]) == listener.connections <= 2


def resident(command: Command) -> int:
    """Give the bytes of memory that a running command has."""
    status = Path(f"/proc/{command.process.pid}/status").read_text()
    (kilobytes,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    return int(kilobytes) * 1024


async def test_send_begins_at_once_however_often_it_is_to_repeat(tmp_path: Path) -> None:
    async with (
        listening(reply(b"{}")) as listener,
        started(
            *(BRIDGE, "send", "--all", "--times", "1000000", "-q", "--url", listener.url),
            folder=tmp_path,
        ) as command,
    ):
        await until(lambda: len(listener.requests) > 500)
        memory = resident(command)
        command.interrupt()
        code = await command.ended()
    assert memory < 150_000_000
    assert (code, command.err) == (130, "")
    assert " callbacks, 0 failed; " in command.out


async def test_send_takes_a_file_named_after_its_command(tmp_path: Path) -> None:
    body = b'{"callbackCommand":"callbackOtherCommand"}'
    (tmp_path / "callbackNewCommand.json").write_bytes(body)
    async with listening(reply(b"{}")) as listener:
        code, _, _ = await send(
            "callbackNewCommand.json", "--url", listener.url, folder=tmp_path
        )
    (request,) = listener.requests
    assert code == 0
    assert b"/callbackNewCommand HTTP" in request
    assert request.endswith(b"\r\n\r\n" + body)


async def test_send_takes_a_file_whose_body_tells_the_command(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b'{"callbackCommand":"callbackNewCommand"}')
    async with listening(reply(b"{}")) as listener:
        code, _, _ = await send("body", "--url", listener.url, folder=tmp_path)
    assert code == 0
    assert b"/callbackNewCommand HTTP" in listener.requests[0]


@pytest.mark.parametrize(
    "body", [b"", b"{}", b'{"callbackCommand":1}', b'{"callbackCommand":"a/b"}']
)
async def test_send_refuses_a_file_of_no_command(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "body.json").write_bytes(body)
    code, lines, error = await send("body.json", "--url", NOBODY, folder=tmp_path)
    assert (code, lines) == (2, [])
    assert "body.json does not tell its callback; name it after a command" in error


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "name a callback command or a file, or use --all or --list"),
        (["Nosuch"], "no callback is called Nosuch; `openim-bridge send --list` shows all"),
        (["nosuch.json"], "nosuch.json cannot be read: No such file or directory"),
        (["--all", "--url", "localhost:1"], "the URL must be like http://127.0.0.1:10006/"),
        (["--all", "--url", "ftp://localhost"], "the URL must be like http://127.0.0.1:10006/"),
        (["--all", "--url", "http://"], "the URL must be like http://127.0.0.1:10006/"),
        (["--all", "--url", "http://h:port"], "the URL must be like http://127.0.0.1:10006/"),
        (["--all", "--times", "0"], "0 is not in the range 1<=x<=1000000"),
        (["--al"], "No such option"),
    ],
)
async def test_send_says_how_it_wants_to_be_called(
    tmp_path: Path, words: list[str], sentence: str
) -> None:
    code, lines, error = await send(*words, folder=tmp_path)
    assert (code, lines) == (2, [])
    assert sentence in error


async def test_send_cannot_know_a_port_that_the_system_chose(tmp_path: Path) -> None:
    code, _, error = await send("--all", folder=tmp_path, BRIDGE_PORT="0")
    assert (code, "name it with --url" in error) == (2, True)


async def test_send_list_names_the_commands_and_sends_nothing(tmp_path: Path) -> None:
    code, lines, _ = await send("--list", folder=tmp_path)
    assert (code, lines) == (0, openim.commands())


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            reply(
                b'{"nextCode":1,"errCode":20001,"errMsg":"no\x1b[2J"}'.replace(
                    b"\x1b", b"\\u001b"
                )
            ),
            r"refused with 20001: no\x1b[2J",
        ),
        (reply(b"ok"), "an error to OpenIM: Expecting value"),
        (reply(b'{"nextCode":"1"}'), "an error to OpenIM: nextCode is not an int32"),
        (reply(b'{"actionCode":1}', b"404 Not Found"), "OpenIM goes on, but the receiver"),
        (b"", "no answer: Server disconnected"),
        (redirect(b"307 Redirect"), "redirected for ever"),
    ],
)
async def test_send_fails_when_a_callback_was_not_taken(
    tmp_path: Path, answer: bytes, words: str
) -> None:
    async with listening(reply(b"{}"), answer) as listener:
        code, lines, error = await send(
            "AfterAddFriend", "--times", "2", "--url", listener.url, folder=tmp_path
        )
    assert (code, error) == (1, "")
    assert [line[:3] for line in lines[:2]] == ["ok ", "BAD"]
    assert words in lines[1]
    assert lines[2].startswith("2 callbacks, 1 failed; ")


async def test_quiet_send_shows_what_failed(tmp_path: Path) -> None:
    async with listening(reply(b"{}"), reply(b"ok"), reply(b"{}")) as listener:
        code, lines, _ = await send(
            "AfterAddFriend", "--times", "3", "-q", "--url", listener.url, folder=tmp_path
        )
    assert code == 1
    assert [line.split()[0] for line in lines] == ["BAD", "3"]


async def test_send_shows_no_control_characters_of_a_reply(tmp_path: Path) -> None:
    async with listening(reply(b"\x1b[2J\n\xff")) as listener:
        _, lines, _ = await send("AfterAddFriend", "--url", listener.url, folder=tmp_path)
    assert lines[0].endswith("\\x1b[2J\\n\N{REPLACEMENT CHARACTER}")


async def test_send_says_in_a_sentence_that_nobody_listens(tmp_path: Path) -> None:
    code, lines, error = await send("--all", "--times", "9", "--url", NOBODY, folder=tmp_path)
    assert (code, lines) == (4, [])
    assert re.fullmatch(
        r"error: nobody listens at 127\.0\.0\.1:1: .*; is the receiver running\?\n", error
    )


async def test_send_goes_on_when_the_receiver_goes_away(tmp_path: Path) -> None:
    async with listening(reply(b"{}"), b"") as listener:
        code, lines, _ = await send(
            "AfterAddFriend", "--times", "5", "--url", listener.url, folder=tmp_path
        )
    assert (code, [line[:3] for line in lines[:5]]) == (1, ["ok "] + ["BAD"] * 4)


async def test_a_reader_that_leaves_ends_a_command_quietly(tmp_path: Path) -> None:
    head = ("bash", "-o", "pipefail", "-c", '"$@" | head -n 1', "head", *BRIDGE)
    async with listening(reply(b"{}")) as listener:
        command = await ran(
            *(head, "send", "--all", "--times", "1000", "--url", listener.url),
            folder=tmp_path,
        )
    assert (command.process.returncode, command.err) == (1, "")
    assert command.out.startswith("ok ")


@pytest.mark.parametrize("words", [["receive"], ["send", "--all"], ["tail"]])
async def test_bad_settings_are_said_at_once_and_the_secret_is_not(
    tmp_path: Path, words: list[str]
) -> None:
    command = await ran(
        BRIDGE, *words, folder=tmp_path, BRIDGE_PATH="hunter2", BRIDGE_WINDOW="0", BRIDGE_X="1"
    )
    lines = command.err.splitlines()
    assert (command.process.returncode, command.out, len(lines)) == (3, "", 3)
    assert [line.partition("=")[0] for line in lines[1:]] == [
        "bad setting: BRIDGE_PATH",
        "bad setting: BRIDGE_WINDOW",
    ]
    assert "hunter2" not in command.err


async def listening_at(command: Command) -> int:
    """Wait until a receiver listens; give its port."""
    await command.says('"port":')
    (port,) = re.findall(r'"port":(\d+)', command.err)
    return int(port)


async def test_receive_never_tells_the_path(tmp_path: Path) -> None:
    async with (
        started(
            *(BRIDGE, "receive"),
            folder=tmp_path,
            BRIDGE_PATH=SECRET,
            BRIDGE_PORT="0",
            BRIDGE_AMQP_URL="amqp://bridge:hunter2@127.0.0.1:1/",
            BRIDGE_LOG_LEVEL="debug",
            BRIDGE_GRACE_PERIOD="0.2",
        ) as command,
        aiohttp.ClientSession() as session,
    ):
        here = f"http://127.0.0.1:{await listening_at(command)}"
        answers = [
            await (await session.post(f"{here}{path}", data=b"{}")).text()
            for path in (
                f"{SECRET}/callbackAfterAddFriendCommand",
                f"{SECRET}/no.command",
                f"{SECRET}x/callbackAfterAddFriendCommand",
                "/callbackAfterAddFriendCommand",
            )
        ]
        answers += [
            await (await session.get(f"{here}{path}")).text()
            for path in ("/livez", "/readyz?verbose", "/metrics", SECRET)
        ]
        await command.says("broker unavailable")
        command.process.terminate()
        code = await command.ended()
    assert code == 0
    assert SECRET.strip("/") not in str(answers) + command.err + command.out
    assert "hunter2" not in str(answers) + command.err + command.out


async def test_receive_stops_at_ctrl_c(tmp_path: Path) -> None:
    async with started(BRIDGE, "receive", folder=tmp_path, BRIDGE_PORT="0") as command:
        await listening_at(command)
        command.interrupt()
        code = await command.ended()
    assert code == 0
    assert json.loads(command.err.splitlines()[-1])["message"] == "stopped"


async def test_receive_says_that_its_port_is_taken(tmp_path: Path) -> None:
    async with listening(reply(b"{}")) as listener:
        command = await ran(BRIDGE, "receive", folder=tmp_path, BRIDGE_PORT=str(listener.port))
    assert command.process.returncode == 1
    assert command.err.splitlines()[-1].startswith("error: ")
    assert "address already in use" in command.err
    assert "Traceback" not in command.err


async def test_receive_says_that_its_journal_is_in_use(tmp_path: Path) -> None:
    async with bridge(tmp_path):
        command = await ran(BRIDGE, "receive", folder=tmp_path, BRIDGE_PORT="0")
    assert command.process.returncode == 3
    assert command.err.startswith("error: ")
    assert "Traceback" not in command.err


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
            exchange = await channel.get_exchange(CALLBACKS, ensure=False)
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
    assert (code, command.out, command.err.count("\n")) == (130, "", 1)


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
