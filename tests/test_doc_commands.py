"""Commands in the documents do what they say: run on a whole stack, or looked at."""

import asyncio
import json
import os
import re
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.brokers import Address
from tests.commands import CONSUMERS, started
from tests.documented import BLOCKS, COMMANDS, SHELL, SOURCE, Block
from tests.friends_api import TOKEN, address, serving
from tests.running import bridge
from tests.test_worker import declared

SECONDS = 60.0
"""That a block may take."""

HANDLERS = "consumers.handlers.friend_verification,consumers.handlers.message_archive,shop"

FAILED, NO_LETTER, NOT_TAKEN, STILL_OPEN = 1, 1, 22, 28
"""Exit codes of ours, and of curl: for a status from 400, and after its `max-time`."""

OTHERWISE = {
    "openim-bridge why": FAILED,
    "openim-consumers dead-letters show": NO_LETTER,
    "openim-consumers dead-letters replay": NO_LETTER,
    "openim-consumers dead-letters discard": NO_LETTER,
    "--webhooks-yml /path/to/": FAILED,
    "--file /etc/openim-bridge/": FAILED,
    "friends/verifications?cursor=…": NOT_TAKEN,
    "Last-Event-ID: 42": NOT_TAKEN,
    "curl --no-buffer": STILL_OPEN,
}
"""What commands end with, by words in them, where it is not 0: files are elsewhere than on
this machine, no callback has that id, there are no dead letters, an ellipsis is no cursor, no
event has come before, and a stream does not end."""


@asynccontextmanager
async def stack(broker: Address, amqp_url: str, folder: Path) -> AsyncIterator[dict[str, str]]:
    """Run a receiver, a worker with the README's handler, and the friends API.

    Gives what commands need to find them.
    """
    database_url = f"sqlite:///{folder / 'friends.db'}"
    (handler,) = (block for block in BLOCKS if block.text.startswith("# shop.py\nfrom bridge"))
    (folder / "shop.py").write_text(handler.text)
    (folder / "tests").symlink_to(SOURCE / "tests")
    (folder / ".curlrc").write_text("fail\nsilent\nmax-time = 3\n")
    variables = {
        "BRIDGE_AMQP_URL": amqp_url,
        "BRIDGE_MANAGEMENT_URL": broker.management_url,
        "CONSUMERS_AMQP_URL": amqp_url,
        "CONSUMERS_DATABASE_URL": database_url,
        "CONSUMERS_HANDLERS": HANDLERS,
        "CURL_HOME": str(folder),
        "TOKEN": TOKEN,
    }
    async with AsyncExitStack() as running:
        receiver = await running.enter_async_context(bridge(folder, amqp_url))
        await receiver.connected()
        await running.enter_async_context(
            started(CONSUMERS, "work", folder=folder, **variables)
        )
        for name in ("shop", "friend_verification", "message_archive"):
            await declared(amqp_url, name)
        backend = await running.enter_async_context(serving(database_url))
        ports = {"10006": str(receiver.port), "10007": str(address(backend).port)}
        yield variables | {f"PORT_{old}": new for old, new in ports.items()}


async def codes(block: Block, folder: Path, variables: dict[str, str]) -> dict[str, int]:
    """Run a block as one script; give what each of its commands ended with."""
    script = "".join(f"{line}\necho $? >>codes\n" for line in block.commands)
    for old in ("10006", "10007"):
        script = script.replace(f"127.0.0.1:{old}", f"127.0.0.1:{variables[f'PORT_{old}']}")
    (folder / "codes").unlink(missing_ok=True)
    person, terminal = os.openpty()
    os.write(person, b"y\n" * 10)
    process = await asyncio.create_subprocess_exec(
        *("bash", "-c", script),
        cwd=folder,
        env={
            **os.environ,
            **variables,
            "PATH": f"{SOURCE / '.venv' / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(SOURCE),
        },
        stdin=terminal,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    os.close(terminal)
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    os.close(person)
    print(script, said.decode())  # noqa: T201  # shown where the test fails
    ended = [int(line) for line in (folder / "codes").read_text().split()]
    return dict(zip(block.commands, ended, strict=True))


def wanted(command: str) -> int:
    """Give what a command ought to end with."""
    return next((code for words, code in OTHERWISE.items() if words in command), 0)


@pytest.mark.timeout(600)
async def test_the_commands_in_the_documents_do_what_they_say(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    ended: dict[str, int] = {}
    async with stack(broker, amqp_url, tmp_path) as variables:
        for block in sorted(
            (b for b in SHELL if b.runs()), key=lambda b: "subscribe " not in b.text
        ):
            ended |= await codes(block, tmp_path, variables)
    assert len(ended) > 20
    assert {
        line: (code, wanted(line)) for line, code in ended.items() if code != wanted(line)
    } == {}


@pytest.mark.parametrize("command", [each for each in COMMANDS if " make " in f" {each} "])
def test_what_is_to_be_made_is_in_the_makefile(command: str) -> None:
    makefile = (SOURCE / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"(?<![\w=\"'-])[a-z]+(?![\w=\"'-])", command.partition("make")[2])
    variables = re.findall(r"\b([A-Z]+)=", command.partition("make")[2])
    assert set(targets[:1]) <= set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    assert [name for name in variables if f"{name})" not in makefile] == []


@pytest.mark.parametrize("command", [each for each in COMMANDS if "docker compose" in each])
def test_the_services_of_compose_exist(command: str) -> None:
    services = YAML(typ="safe").load(SOURCE / "docker-compose.yml")["services"]
    named = re.findall(r"(?:exec(?: -T)?|HUP|--scale) ([a-z]+)", command)
    assert [name for name in named if name not in services] == []


@pytest.mark.parametrize(
    "block", BLOCKS, ids=lambda block: f"{block.document}: {block.text[:30]}"
)
def test_what_is_shown_can_be_read(block: Block) -> None:
    assert read_as(block)


def read_as(block: Block) -> Any:  # noqa: ANN401, PLR0911  # a kind each
    """Read a block as what it is, and fail if it is nothing that is known."""
    if block.is_shell():
        return block.commands
    if "►" in block.text or block.text.startswith(("id: 42\n", "FROM ", "2026-01:", "login ")):
        # Pictures, an event of a stream, a Dockerfile, secrets, and what a command says.
        return block.text
    if block.text.startswith("// "):
        # A decision handler in Node; its own test runs it.
        return block.text
    if block.text.startswith("{"):
        return [json.loads(line.replace("…", "")) for line in block.text.splitlines()]
    if block.text.startswith("url: "):
        # One after the other, where there are several.
        return [YAML(typ="safe").load(part) for part in re.split(r"\n(?=url: )", block.text)]
    if re.match(r"(# policy\.toml|\[)", block.text):
        return tomllib.loads(block.text)
    if re.search(r"^(import|from|async def|@|class) ?", block.text, re.MULTILINE):
        return compile(block.text, block.document, "exec")
    return YAML(typ="safe").load(block.text)
