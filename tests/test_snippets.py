"""The consumers that `openim-bridge subscribe` prints, run as they are printed."""

import asyncio
import os
import re
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aio_pika
import pytest
from private_services import install

from bridge import openim
from bridge.cli.subscribe import LANGUAGES
from tests.brokers import Address
from tests.commands import BRIDGE, Command, ran, started
from tests.running import bridge, eventually

BUILDING = 300.0
"""Seconds that fetching and compiling may take."""

pytestmark = pytest.mark.timeout(600)

JARS = "/usr/share/java/amqp-client.jar:/usr/share/java/slf4j-api.jar"


@dataclass(frozen=True)
class Tools:
    """What a language needs, and what runs a consumer in it."""

    packages: tuple[str, ...] = ()
    """Debian's."""

    proof: tuple[str, ...] = ()
    """Files and programs that are there when they are installed."""

    build: tuple[str, ...] = ()
    run: tuple[str, ...] = ()
    variables: dict[str, str] = field(default_factory=dict)


TOOLS = {
    "python": Tools(run=(sys.executable, "consumer.py")),
    "node": Tools(
        packages=("nodejs", "npm"),
        proof=("node", "npm"),
        build=("npm", "install", "--no-audit", "--no-fund", "--silent", "amqplib@2"),
        run=("node", "consumer.js"),
    ),
    "go": Tools(
        packages=("golang-go", "golang-github-rabbitmq-amqp091-go-dev"),
        proof=("go", "/usr/share/gocode/src/github.com/rabbitmq/amqp091-go"),
        build=("go", "build", "-o", "consumer", "consumer.go"),
        run=("./consumer",),
        # The packages are sources where Go looked for them before it had modules.
        variables={"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOFLAGS": ""},
    ),
    "java": Tools(
        packages=("default-jdk-headless", "librabbitmq-client-java"),
        proof=("javac", *JARS.split(":")),
        build=("javac", "-Xlint:all", "-Werror", "-cp", JARS, "OpenIMConsumer.java"),
        run=("java", "-cp", f"{JARS}:.", "OpenIMConsumer"),
    ),
}


@pytest.fixture(params=TOOLS)
def language(request: pytest.FixtureRequest) -> str:
    """A language whose tools are here: CI, which may skip nothing, gets them."""
    name: str = request.param
    tools = TOOLS[name]
    if not all(shutil.which(each) or Path(each).exists() for each in tools.proof):
        if not os.environ.get("NO_SKIPS"):
            pytest.skip(f"for {name} there must be {', '.join(tools.packages)}")
        install(*tools.packages)
    return name


async def built(language: str, folder: Path, printed: str) -> None:
    """Make of what was printed a program in `folder`."""
    file = LANGUAGES[language]
    (folder / file).write_text(printed.partition(f"----- {file}\n")[2])
    await prepared(language, folder)


async def prepared(language: str, folder: Path) -> None:
    """Fetch and compile what the program in `folder` needs."""
    tools = TOOLS[language]
    if tools.build:
        process = await asyncio.create_subprocess_exec(
            *tools.build,
            cwd=folder,
            env={**os.environ, **tools.variables},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await asyncio.wait_for(process.communicate(), BUILDING)
        assert process.returncode == 0, said.decode()


@asynccontextmanager
async def consuming(language: str, folder: Path, amqp_url: str) -> AsyncIterator[Command]:
    """Run the program that `built` made."""
    async with started(TOOLS[language].run, folder=folder, AMQP_URL=amqp_url) as command:
        yield command


def ids(command: Command) -> list[str]:
    """Give the message ids that a consumer has printed, each after its command."""
    return re.findall(r"^callback\w+ ([0-9a-f-]{36}) \{", command.out, re.MULTILINE)


@dataclass(frozen=True)
class Subscribed:
    """A subscription, as it was printed."""

    queue: str
    url: str
    printed: str


async def subscribed(broker: Address, amqp_url: str, folder: Path, *words: str) -> Subscribed:
    """Subscribe to everything, under a name of its own."""
    name = f"team-{uuid.uuid4().hex[:12]}"
    command = await ran(
        BRIDGE,
        *("subscribe", name, "--commands", "#", *words),
        folder=folder,
        BRIDGE_AMQP_URL=amqp_url,
        BRIDGE_MANAGEMENT_URL=broker.management_url,
    )
    (url,) = re.findall(r"^AMQP_URL +(\S+)$", command.out, re.MULTILINE)
    return Subscribed(f"openim.sub.{name}", url, command.out)


async def printed(command: Command) -> list[str]:
    """Give what a consumer has printed so far; fail if it has ended."""
    assert command.process.returncode is None, command.err
    return ids(command)


async def again(amqp_url: str, folder: Path, queue: str) -> None:
    """Bring a queue all that was published a second time."""
    command = await ran(
        *(BRIDGE, "replay", "--to", queue), folder=folder, BRIDGE_AMQP_URL=amqp_url
    )
    assert command.process.returncode == 0, command.err


async def waiting(amqp_url: str, queue: str) -> tuple[int, int]:
    """Count the consumers of a queue, and the messages that no consumer has."""
    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        found = (await channel.declare_queue(queue, passive=True)).declaration_result
    return found.consumer_count or 0, found.message_count or 0


async def test_a_printed_consumer_handles_each_callback_once_and_acks_it(
    broker: Address, amqp_url: str, tmp_path: Path, language: str
) -> None:
    team = await subscribed(broker, amqp_url, tmp_path, "--language", language)
    await built(language, tmp_path, team.printed)
    names = openim.commands()[:30]
    async with bridge(tmp_path, amqp_url) as running:
        for name in names:
            await running.openim.post(*openim.sample(name))
        await running.drained()
        await again(amqp_url, tmp_path, team.queue)
        async with consuming(language, tmp_path, team.url) as command:
            for count in (31, 32):
                await running.openim.post(*openim.sample("AfterUserOnline"))
                await eventually(lambda: printed(command), reached(count))
    assert len(ids(command)) == len(set(ids(command))) == 32
    # What was acked before the last one was handled is gone; the last may come again.
    _, left = await eventually(lambda: waiting(amqp_url, team.queue), lambda one: one[0] == 0)
    assert left <= 1


@pytest.mark.parametrize("language", ["python"], indirect=True)
async def test_what_a_printed_consumer_could_not_handle_comes_again(
    broker: Address, amqp_url: str, tmp_path: Path, language: str
) -> None:
    team = await subscribed(broker, amqp_url, tmp_path, "--language", language)
    failing = team.printed.replace(
        "    print(message.type", "    1 / 0\n    print(message.type"
    )
    await built(language, tmp_path, failing)
    async with bridge(tmp_path, amqp_url) as running:
        await running.openim.post(*openim.sample("AfterUserOnline"))
        async with consuming(language, tmp_path, team.url) as command:
            assert await command.ended() == 1
        await built(language, tmp_path, team.printed)
        async with consuming(language, tmp_path, team.url) as command:
            await eventually(lambda: printed(command), reached(1))


async def test_a_printed_consumer_keeps_the_order_of_an_ordered_subscription(
    broker: Address, amqp_url: str, tmp_path: Path, language: str
) -> None:
    team = await subscribed(broker, amqp_url, tmp_path, "--language", language, "--ordered")
    await built(language, tmp_path, team.printed)
    async with bridge(tmp_path, amqp_url) as running:
        for number in range(100):
            body = b'{"userID":"u%d","seq":%d}' % (number % 5, number)
            await running.openim.post("callbackAfterUserOnlineCommand", body)
        async with consuming(language, tmp_path, team.url) as command:
            await eventually(lambda: printed(command), reached(100))
    seen = re.findall(r'"userID":"(u\d)","seq":(\d+)', command.out)
    by_user = {user: [int(n) for each, n in seen if each == user] for user, _ in seen}
    assert by_user == {f"u{user}": list(range(user, 100, 5)) for user in range(5)}


def reached(count: int) -> Callable[[list[str]], bool]:
    """Say whether so many were printed."""
    return lambda found: len(found) >= count
