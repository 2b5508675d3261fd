"""Being OpenIM from the command line: `openim-bridge send`."""

import asyncio
import re
import ssl
from pathlib import Path

import pytest
import trustme
from yarl import URL

from bridge import openim
from tests.commands import BRIDGE, Command, ran, started
from tests.listener import listening, redirect, reply
from tests.running import bridge, until

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
        r"ok  +\d+\.\d\d ms  200  callbackAfterAddFriendCommand  send-[\d-]+  taken"
        r'  \{"actionCode":0,.*\}',
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
    assert (code, command.err) == (130, "interrupted\n")
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


async def test_send_tells_a_receiver_without_tls_from_none(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        url = running.url.replace("http:", "https:")
        code, _, error = await send("AfterAddFriend", "--url", url, folder=tmp_path)
    assert code == 4
    assert error.startswith(f"error: {URL(url).authority} does not speak TLS")


async def test_send_says_that_a_certificate_is_not_trusted(tmp_path: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(server)
    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=server) as own:
        port = own.sockets[0].getsockname()[1]
        url = f"https://127.0.0.1:{port}/callbackExample"
        code, _, error = await send("AfterAddFriend", "--url", url, folder=tmp_path)
    assert code == 4
    assert error.startswith(f"error: the certificate of 127.0.0.1:{port} is not trusted: ")
    assert "self-signed certificate" in error or "unable to get local issuer" in error


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
