"""Both programs have one grammar: every command is walked through, as data."""

import asyncio
import inspect
import json
import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from bridge import secrets_file
from bridge.cli import main as bridge_cli
from consumers.cli import main as consumers_cli
from tests.commands import BRIDGE, SOURCE
from tests.listener import listening, reply
from tests.reference import all_commands
from tests.running import NOWHERE

PROGRAMS = {"openim-bridge": bridge_cli.main, "openim-consumers": consumers_cli.main}
EVERY = {
    f"{before} {command.name}": command
    for program, group in PROGRAMS.items()
    for before, command in all_commands(program, group)
}
COMMANDS = {name: each for name, each in EVERY.items() if not isinstance(each, click.Group)}

RUNS = "runs until it is stopped, and logs one JSON object a line"
DOCUMENT = "prints one document, as it is"
WITHOUT_JSON = {
    "openim-bridge receive": RUNS,
    "openim-bridge console": RUNS,
    "openim-consumers work": RUNS,
    "openim-consumers api": RUNS,
    "openim-bridge schema": DOCUMENT,
    "openim-bridge topology export": DOCUMENT,
    "openim-consumers topology export": DOCUMENT,
    "openim-bridge console-user": "prints one line, to be put into a setting as it is",
}
"""Commands that print no JSON on demand, and why."""

CHANGES = {
    "openim-bridge subscribe",
    "openim-bridge unsubscribe",
    "openim-bridge replay",
    "openim-bridge webhooks-yml write",
    "openim-bridge secrets drop",
    "openim-bridge topology apply",
    "openim-consumers topology apply",
    "openim-consumers messages erase",
    "openim-consumers dead-letters replay",
    "openim-consumers dead-letters discard",
}
"""Commands that change or destroy something: they ask, and can be tried out."""

UNDONE = "the other of `pause` and `resume` undoes it, and nothing is lost"
ADDS = "adds what was named, and takes nothing away"
WITHOUT_QUESTION = {
    "openim-bridge receive": ADDS,
    "openim-bridge console": ADDS,
    "openim-consumers work": ADDS,
    "openim-consumers api": ADDS,
    "openim-bridge send": ADDS,
    "openim-bridge simulate": ADDS,
    "openim-bridge secrets rotate": ADDS,
    "openim-consumers subscriptions pause": UNDONE,
    "openim-consumers subscriptions resume": UNDONE,
    "openim-bridge journal publish": "goes on with messages, and loses none",
    "openim-bridge schema": "writes a folder that was named, anew each time",
    "openim-bridge topology export": "writes a file that was named, anew each time",
    "openim-consumers topology export": "writes a file that was named, anew each time",
}
"""Commands that change something without a question, and why. All others only read."""

READS = {
    "openim-bridge config check",
    "openim-bridge config show",
    "openim-bridge console-user",
    "openim-bridge decide",
    "openim-bridge doctor",
    "openim-bridge journal dump",
    "openim-bridge journal status",
    "openim-bridge journal verify",
    "openim-bridge secrets show",
    "openim-bridge subscriptions",
    "openim-bridge tail",
    "openim-bridge topology plan",
    "openim-bridge topology verify",
    "openim-bridge webhooks-yml check",
    "openim-bridge why",
    "openim-consumers config check",
    "openim-consumers config show",
    "openim-consumers dead-letters list",
    "openim-consumers dead-letters show",
    "openim-consumers doctor",
    "openim-consumers friends",
    "openim-consumers messages search",
    "openim-consumers subscriptions list",
    "openim-consumers topology plan",
    "openim-consumers topology verify",
}

OWN_MEANING = {
    "--message-id": "`replay` takes several",
    "--password-file": "`console` makes the file, if it is missing",
    "--command": "`replay` takes several, and patterns",
}
"""Options that mean nearly the same in all commands, and what differs."""


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """Take back what a command that ran in this process has set up, for the tests to come."""
    root, names = logging.getLogger(), ("", "aiormq", "aio_pika", "aiohttp.server")
    handlers = list(root.handlers)
    levels = {name: logging.getLogger(name).level for name in names}
    yield
    root.handlers[:] = handlers
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


def options(command: click.Command) -> dict[str, click.Option]:
    """Give the options of a command by their long names."""
    return {each.opts[-1]: each for each in command.params if isinstance(each, click.Option)}


def words_of(example: str) -> list[str]:
    """Give what a shell would hand to a program, which comes first."""
    words = shlex.split(example.partition(" < ")[0])
    return [word for word in words if not re.fullmatch("[A-Z_]+=.*", word)]


def read(words: list[str]) -> tuple[str, dict[str, Any]]:
    """Have click read a command line, and run nothing; give the command and its options."""
    context = PROGRAMS[words[0]].make_context(words[0], words[1:])
    while isinstance(context.command, click.Group):
        name, command, rest = context.command.resolve_command(
            context,
            [*context._protected_args, *context.args],  # noqa: SLF001
        )
        assert command is not None
        context = command.make_context(name, rest, parent=context)
    return context.command_path, context.params


def example_of(command: click.Command) -> str:
    """Give the example in a command's help."""
    text = f"{inspect.cleandoc(command.help or '')}\n\n{command.epilog or ''}".strip()
    (example,) = re.findall(r"^Example: ([^\n]*)\Z", text, re.MULTILINE)
    return str(example)


@pytest.mark.parametrize("name", EVERY)
def test_the_first_line_says_what_a_command_does(name: str) -> None:
    first = (EVERY[name].help or "").partition("\n")[0]
    assert re.fullmatch(r"[A-Z].{10,90}\.", first)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_it_can_read(name: str) -> None:
    path, _ = read(words_of(example_of(COMMANDS[name])))
    assert path == name


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_is_there_under_both_names(name: str, option: str) -> None:
    program, *rest = name.split()
    shown = CliRunner().invoke(PROGRAMS[program], [*rest, option])
    assert (shown.exit_code, shown.output.startswith("Usage: ")) == (0, True)


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_programs_tell_their_version(program: str) -> None:
    shown = CliRunner().invoke(PROGRAMS[program], ["--version"], prog_name=program)
    assert re.fullmatch(rf"{program}, version \d+\.\d+\.\d+\n", shown.output)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    assert [each for each, option in options(COMMANDS[name]).items() if not option.help] == []


def alike(option: click.Option) -> tuple[object, ...]:
    """Give what must be the same wherever an option has this name."""
    kind = type(option.type).__name__, option.is_flag, option.multiple
    return tuple(option.opts), kind, option.metavar


def named_alike() -> Iterator[tuple[str, list[click.Option]]]:
    """Give the options that several commands have."""
    by_name: dict[str, list[click.Option]] = {}
    for command in COMMANDS.values():
        for name, option in options(command).items():
            by_name.setdefault(name, []).append(option)
    yield from ((name, found) for name, found in by_name.items() if len(found) > 1)


@pytest.mark.parametrize(("name", "found"), list(named_alike()))
def test_options_named_alike_are_alike(name: str, found: list[click.Option]) -> None:
    assert (len(set(map(alike, found))) == 1) is (name not in OWN_MEANING)


@pytest.mark.parametrize("name", ["--json", "--dry-run", "--body"])
def test_options_of_all_say_the_same_in_all(name: str) -> None:
    helps = {options(each)[name].help for each in COMMANDS.values() if name in options(each)}
    assert len(helps) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_what_prints_results_prints_json_on_demand(name: str) -> None:
    assert ("--json" in options(COMMANDS[name])) is (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_what_changes_something_asks_and_can_be_tried(name: str) -> None:
    has = options(COMMANDS[name]).keys() & {"--yes", "--dry-run"}
    assert has == ({"--yes", "--dry-run"} if name in CHANGES else set())


@pytest.mark.parametrize("name", sorted(CHANGES))
def test_what_asks_says_when(name: str) -> None:
    assert "it asks " in (options(COMMANDS[name])["--yes"].help or "")


def test_of_every_command_it_is_known_what_it_does() -> None:
    kinds = [CHANGES, WITHOUT_QUESTION.keys(), READS]
    assert sorted(name for kind in kinds for name in kind) == sorted(COMMANDS)
    assert WITHOUT_JSON.keys() <= COMMANDS.keys()


@pytest.mark.parametrize("given", ["", "y\n"])
def test_without_a_terminal_nobody_is_asked_and_nothing_done(
    given: str, tmp_path: Path
) -> None:
    file = tmp_path / "secrets"
    file.write_text(f"old:{'o' * 43}\nnew:{'n' * 43}\n")
    words = ["secrets", "drop", "old", "--unseen", f"--file={file}"]
    refused = CliRunner().invoke(PROGRAMS["openim-bridge"], words, input=given)
    assert refused.exit_code == 2
    assert "say it with --yes" in refused.stderr
    assert file.read_text().startswith("old:")


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("openim-bridge send AfterAddFriend --url http://[", 2),
        ("openim-bridge simulate --rate 1 --url nowhere", 2),
        ("openim-bridge simulate --rate nan", 2),
        ("openim-bridge secrets drop old --file secrets --watch nan", 2),
        ("openim-bridge tail friend.after.ad_friend", 2),
        ("openim-bridge tail AfterAdFriend", 2),
        ("openim-bridge why ''", 2),
        ("openim-bridge tail ''", 2),
        ("openim-bridge replay --to a --command ''", 2),
        ("openim-bridge replay --to a --user=", 2),
        ("openim-bridge subscribe a --commands ' ,'", 2),
        ("openim-bridge webhooks-yml write a --enable AfterAddFriend --disable ''", 2),
        ("openim-bridge why \udcff", 2),
        ("openim-consumers dead-letters list \udcff", 2),
        ("openim-bridge secrets show --file secrets --url http://[", 2),
        ("openim-bridge console-user ann", 2),
        ("openim-bridge journal dump nowhere", 1),
        ("openim-bridge schema page --output /proc/nowhere", 1),
        ("openim-bridge send AfterAddFriend --url http://127.0.0.1:1/callbackExample", 4),
        ("openim-bridge topology plan", 4),
        ("openim-bridge why nobody", 4),
        ("openim-consumers messages search --conversation sg_1 --cursor x", 2),
        ("openim-consumers messages search --conversation sg_1 --cursor ''", 2),
        ("openim-consumers dead-letters list shop", 4),
    ],
)
def test_what_went_wrong_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_AMQP_URL", NOWHERE)
    monkeypatch.setenv("CONSUMERS_AMQP_URL", NOWHERE)
    (tmp_path / "secrets").write_text("")
    program, *words = shlex.split(line)
    ended = CliRunner().invoke(PROGRAMS[program], words)
    assert (ended.exit_code, ended.stdout) == (code, "")
    assert ended.stderr.splitlines()[-1].lower().startswith("error: ")
    assert isinstance(ended.exception, SystemExit)


def said_on(terminal: int) -> str:
    """Give all that programs have said on a terminal, which have ended."""
    said = b""
    # What has no other end any more is in error once all is read.
    with suppress(OSError):
        while more := os.read(terminal, 65536):
            said += more
    os.close(terminal)
    return said.decode()


@pytest.mark.parametrize(
    ("answer", "code", "left"),
    [("y\n", 0, ["new"]), ("n\n", 1, ["old", "new"]), ("\x04", 130, ["old", "new"])],
)
async def test_somebody_at_a_terminal_is_asked(
    tmp_path: Path, answer: str, code: int, left: list[str]
) -> None:
    file = tmp_path / "secrets"
    secrets_file.write(file, {"old": "o" * 43, "new": "n" * 43})
    person, terminal = os.openpty()
    os.write(person, answer.encode())
    process = await asyncio.create_subprocess_exec(
        *(*BRIDGE, "secrets", "drop", "old", "--unseen", "--json", f"--file={file}"),
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    os.close(terminal)
    out, error = await process.communicate()
    os.close(person)
    assert (process.returncode, list(secrets_file.read(file))) == (code, left)
    assert b"Drop old? Who uses it then is refused." in error
    assert (b"?" in out, bool(out)) == (False, code == 0)


@pytest.mark.parametrize(("words", "told"), [((), True), (("--json",), False)])
async def test_a_terminal_is_told_how_far_it_is_but_no_program(
    tmp_path: Path,
    words: tuple[str, ...],
    told: bool,  # noqa: FBT001
) -> None:
    person, terminal = os.openpty()
    async with listening(reply(b"{}")) as listener:
        process = await asyncio.create_subprocess_exec(
            *(*BRIDGE, "simulate", "--rate=9", "--seconds=3", "--url", listener.url, *words),
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            stdout=asyncio.subprocess.PIPE,
            stderr=terminal,
        )
        os.close(terminal)
        out, _ = await process.communicate()
    shown = said_on(person)
    assert ("seconds" in shown, out.startswith(b"{")) == (told, not told)
    assert bool(shown) is told


@pytest.mark.parametrize(
    "line",
    [
        "openim-bridge config check",
        "openim-bridge config show",
        "openim-bridge decide BeforeAddFriend",
        "openim-bridge journal status",
        "openim-bridge journal verify",
        "openim-bridge journal dump",
        "openim-bridge secrets show --file secrets --url http://127.0.0.1:1",
        "openim-bridge secrets rotate --file one",
        "openim-bridge secrets drop old --file secrets --unseen --yes",
        "openim-bridge send --list",
        "openim-bridge webhooks-yml write webhooks.yml --enable friend.*",
        "openim-consumers config check",
        "openim-consumers config show",
        "openim-consumers subscriptions list",
        "openim-consumers doctor",
        "openim-bridge doctor",
    ],
)
def test_json_is_all_that_is_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BRIDGE_AMQP_URL", NOWHERE)
    monkeypatch.setenv("CONSUMERS_AMQP_URL", NOWHERE)
    secrets_file.write(tmp_path / "secrets", {"old": "o" * 43, "new": "n" * 43})
    secrets_file.write(tmp_path / "one", {"old": "o" * 43})
    program, *words = shlex.split(line)
    ended = CliRunner().invoke(PROGRAMS[program], [*words, "--json"])
    assert ended.exit_code in {0, 1}, ended.output
    assert all(isinstance(json.loads(each), dict) for each in ended.stdout.splitlines())
