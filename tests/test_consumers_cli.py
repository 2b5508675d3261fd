"""The consumers' commands, as people meet them."""

import json
import re
import signal
from pathlib import Path

import pytest

from bridge import openim
from tests.commands import BRIDGE, CONSUMERS, Command, ran, started
from tests.running import NOWHERE, bridge, until

HINT = r" \(a worker creates its tables when it starts\)"


async def friends(*words: str, folder: Path, **variables: str) -> Command:
    """Run `openim-consumers friends`."""
    return await ran(CONSUMERS, "friends", *words, folder=folder, **variables)


def names_in(folder: Path) -> list[str]:
    """List the files in a folder."""
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ("flag", "sentence"),
    [
        ("nosuch", "the handler module nosuch cannot be imported: No module named 'nosuch'"),
        ("json", "the handler module json has no Handlers or Decisions in it"),
        ("broken", "the handler module broken cannot be imported: '(' was never closed"),
        ("a b", "CONSUMERS_HANDLERS='a b' is not allowed: names of modules such as"),
    ],
)
async def test_work_says_what_is_wrong_with_its_handlers(
    tmp_path: Path, flag: str, sentence: str
) -> None:
    (tmp_path / "broken.py").write_text("handlers = Handlers(\n")
    command = await ran(CONSUMERS, "work", "--handlers", flag, folder=tmp_path)
    assert (command.process.returncode, command.out) == (3, "")
    assert sentence in command.err
    assert command.err.count("\n") == 1


@pytest.mark.parametrize("words", [["work"], ["friends"]])
async def test_bad_settings_are_said_at_once_and_secrets_are_not(
    tmp_path: Path, words: list[str]
) -> None:
    command = await ran(
        CONSUMERS,
        *words,
        folder=tmp_path,
        CONSUMERS_PREFETCH="2000",
        CONSUMERS_DATABASE_URL="mysql://hunter2",
        CONSUMERS_PREFTCH="1",
    )
    assert (command.process.returncode, command.out) == (3, "")
    assert [line.partition(" ")[2][:25] for line in command.err.splitlines()] == [
        "setting: CONSUMERS_PREFTC",
        "setting: CONSUMERS_DATABA",
        "setting: CONSUMERS_PREFET",
    ]
    assert "hunter2" not in command.err


async def test_a_worker_runs_handlers_from_where_it_is_called(tmp_path: Path) -> None:
    (tmp_path / "my_handlers.py").write_text(
        "from consumers.handlers.friend_verification import handlers\n"
    )
    async with started(
        *(CONSUMERS, "work", "--handlers", "my_handlers"),
        folder=tmp_path,
        CONSUMERS_AMQP_URL=NOWHERE,
    ) as command:
        await command.says("broker unavailable")
        command.interrupt()
        code = await command.ended()
    assert code == 0
    assert "Traceback" not in command.err
    assert (tmp_path / "openim-consumers.db").exists()


async def test_friends_shows_what_a_worker_has_kept(amqp_url: str, tmp_path: Path) -> None:
    async with (
        started(CONSUMERS, "work", folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url) as worker,
        bridge(tmp_path, amqp_url) as running,
    ):
        await worker.says('"working"')
        empty = await friends(folder=tmp_path)
        await running.openim.post(*openim.sample("AfterAddFriend"))
        await running.openim.post(*openim.sample("AfterAddFriendAgree"))
        await until(lambda: worker.err.count("recorded") == 2)
        lines = await friends(folder=tmp_path)
        newest = await friends("-n", "1", folder=tmp_path)
        nobodys = await friends("--user", "nobody", folder=tmp_path)
        objects = await friends("--json", "--user", "user_b", folder=tmp_path)
        no_objects = await friends("--json", "--user", "nobody", folder=tmp_path)
        worker.process.terminate()
        code = await worker.ended()
    assert code == 0
    assert empty.out == nobodys.out == "no friend verification messages yet\n"
    agreed, asked = lines.out.splitlines()
    assert re.fullmatch(
        r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  user_a is accepted by user_b: .*", agreed
    )
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  user_a asks user_b: .*", asked)
    assert newest.out.splitlines() == [agreed]
    assert [json.loads(line)["kind"] for line in objects.out.splitlines()] == [
        "agreement",
        "application",
    ]
    assert no_objects.out == ""


@pytest.mark.parametrize(
    ("program", "word", "ready"),
    [
        (CONSUMERS, "work", '"working"'),
        (CONSUMERS, "api", '"listening"'),
        (BRIDGE, "console", '"listening"'),
    ],
)
async def test_a_hang_up_ends_what_reads_no_settings_again_in_good_order(
    amqp_url: str, tmp_path: Path, program: tuple[str, ...], word: str, ready: str
) -> None:
    variables = {
        "CONSUMERS_AMQP_URL": amqp_url,
        "CONSOLE_AMQP_URL": amqp_url,
        "CONSOLE_PASSWORD": "p" * 20,
        "FRIENDS_API_TOKEN": "t" * 20,
        "CONSOLE_PORT": "0",
        "FRIENDS_API_PORT": "0",
    }
    async with started(program, word, folder=tmp_path, **variables) as running:
        await running.says(ready)
        running.process.send_signal(signal.SIGHUP)
        assert await running.ended() == 0


async def test_friends_shows_control_characters_and_does_not_obey_them(
    amqp_url: str, tmp_path: Path
) -> None:
    body = b'{"fromUserID":"a\\u001b[2J","toUserID":"b","reqMsg":"one\\ntwo"}'
    async with (
        started(CONSUMERS, "work", folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url) as worker,
        bridge(tmp_path, amqp_url) as running,
    ):
        await worker.says('"working"')
        await running.openim.post("callbackAfterAddFriendCommand", body)
        await worker.says("recorded")
        shown = await friends(folder=tmp_path)
    assert shown.out.endswith("Z  a\\x1b[2J asks b: one\\ntwo\n")


async def test_friends_creates_no_database(tmp_path: Path) -> None:
    command = await friends(folder=tmp_path)
    assert (command.process.returncode, command.out) == (4, "")
    assert re.fullmatch(
        f"error: there is no database openim-consumers\\.db{HINT}\n", command.err
    )
    assert names_in(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no such table: friend_verification_messages"),
        (b"no database" * 100, "file is not a database"),
    ],
)
async def test_friends_says_what_is_wrong_with_a_file(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    (tmp_path / "openim-consumers.db").write_bytes(content)
    command = await friends(folder=tmp_path)
    assert (command.process.returncode, command.out) == (4, "")
    assert re.fullmatch(
        f"error: the database cannot be read: \\w+: {reason}{HINT}\n", command.err
    )


async def test_friends_says_that_no_server_is_there(tmp_path: Path) -> None:
    command = await friends(
        folder=tmp_path, CONSUMERS_DATABASE_URL="postgresql://im:hunter2@127.0.0.1:1/x"
    )
    assert (command.process.returncode, command.out) == (4, "")
    assert re.fullmatch(f"error: the database cannot be read: .*{HINT}\n", command.err)
    assert "hunter2" not in command.err


async def test_friends_says_that_a_server_has_no_such_database(
    postgres_url: str, tmp_path: Path
) -> None:
    nosuch = postgres_url.rpartition("/")[0] + "/nosuch"
    command = await friends(folder=tmp_path, CONSUMERS_DATABASE_URL=nosuch)
    assert (command.process.returncode, command.out) == (4, "")
    assert 'database "nosuch" does not exist' in command.err
    assert "Traceback" not in command.err


ENDLESS = """
import asyncio
from bridge.contract import AfterUserOnline
from consumers.registry import Handlers

handlers = Handlers("endless")

@handlers.on(AfterUserOnline, sql=False)
async def never_ends(event):
    print("begun", flush=True)
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
"""


async def test_a_worker_ends_whatever_its_handlers_do(amqp_url: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(ENDLESS)
    async with (
        bridge(tmp_path, amqp_url) as running,
        started(
            *(CONSUMERS, "work", "--handlers", "app"),
            folder=tmp_path,
            CONSUMERS_AMQP_URL=amqp_url,
            CONSUMERS_GRACE_PERIOD="0.1",
        ) as worker,
    ):
        await worker.says("working")
        await running.openim.post(*openim.sample("AfterUserOnline"))
        await worker.says("begun")
        worker.process.terminate()
        assert await worker.ended() == 1
    assert "a handler does not end" in worker.err
