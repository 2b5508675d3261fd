"""The receiver from the command line: `openim-bridge receive`, and what all commands share."""

import json
import re
from pathlib import Path

import aiohttp
import pytest

from tests.commands import BRIDGE, Command, ran, started
from tests.listener import listening, reply

SECRET = "/secret-4f1c9a"  # noqa: S105  # of no one


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


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--count", "1", "--id", ""), "'' after --id is empty"),
        (("--id=",), "'--id=' is empty"),
        (("--id=some", ""), "'' is empty"),
        (("",), "'' is empty"),
        (("--id", "\udcff"), "'\\udcff' is not UTF-8"),
    ],
)
async def test_words_that_nobody_means_are_refused(
    words: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    command = await ran(BRIDGE, "tail", *words, folder=tmp_path)
    assert command.process.returncode == 2
    assert f"Error: {said}\n" in command.err


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
    assert f"port {listener.port}: Address already in use" in command.err
    assert "Traceback" not in command.err


async def test_receive_says_that_its_host_is_none_of_ours(tmp_path: Path) -> None:
    command = await ran(BRIDGE, "receive", folder=tmp_path, BRIDGE_HOST="no.such.host.invalid")
    assert command.process.returncode == 1
    assert "BRIDGE_HOST='no.such.host.invalid' is no address of this machine" in command.err
    assert "Traceback" not in command.err
