"""Runs RabbitMQ, receiver, worker, friends API and console here, without containers.

    .run/rabbitmq     a private RabbitMQ, unless AMQP_URL names another
    .run/journal      the receiver's journal
    .run/friends.db   what the worker writes
    .run/token        what the friends API asks for, unless FRIENDS_API_TOKEN is set
    .run/password     of admin in the console, unless CONSOLE_PASSWORD is set

All listen on loopback, and all stop on Ctrl-C, in the reverse order.
"""

# ruff: noqa: INP001, T201 (a program, and it speaks to a person)

import asyncio
import contextlib
import fcntl
import http.client
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

from next_steps import next_steps
from private_services import (
    LOOPBACK,
    STOP_TIMEOUT,
    CannotStart,
    PrivateRabbitMQ,
    port_is_free,
    tied,
)

HERE = Path(__file__).resolve().parents[1]
RUN = HERE / ".run"
COMMANDS = HERE / ".venv" / "bin"
DATABASE = "sqlite:///.run/friends.db"

PORTS = {
    "BRIDGE_PORT": "10006",
    "FRIENDS_API_PORT": "10007",
    "CONSUMERS_PORT": "10008",
    "CONSOLE_PORT": "10009",
}
"""Ports to listen on, and what they are if nobody sets them; the first is OpenIM's default."""


def main() -> None:
    """Run everything until SIGTERM or Ctrl-C."""
    # Until the event loop takes over, either is an exception that unwinds what has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as broker:
            for variable in PORTS:
                check_port(variable)
            claim_files(broker)
            amqp_url = os.environ.get("AMQP_URL") or start_rabbitmq(broker)
            problem = asyncio.run(run(amqp_url))
            print("Stopping RabbitMQ" if problem is None else problem, flush=True)
    except KeyboardInterrupt:
        return
    except CannotStart as error:
        sys.exit(str(error))
    sys.exit(problem is not None)


def port(variable: str = "BRIDGE_PORT") -> int:
    """The port that a variable sets."""
    number = os.environ.get(variable, PORTS[variable])
    if not number.isdecimal() or not 0 < int(number) < 2**16:
        raise CannotStart(f"{variable} is {number!r}, which is no port: 1 to 65535 are")
    return int(number)


def check_port(variable: str) -> None:
    """Say what to do when somebody has a port."""
    number = port(variable)
    if not port_is_free(number):
        raise CannotStart(
            f"Port {number} is taken. If this is not the bridge that runs already,"
            f" choose another: {variable}={number + 10} make run"
        )


def claim_files(until: ExitStack) -> None:
    """Keep others out of `.run` as long as `until`: two RabbitMQs would ruin their files."""
    RUN.mkdir(exist_ok=True)
    lock = until.enter_context((RUN / "lock").open("w"))
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise CannotStart("`make run` runs in this checkout already; stop it first") from error


def start_rabbitmq(until: ExitStack) -> str:
    """Start a RabbitMQ that runs as long as `until`, and give its URL."""
    print("Starting a private RabbitMQ", flush=True)
    node = until.enter_context(
        PrivateRabbitMQ(RUN / "rabbitmq", amqp_port=5672, management_port=15672)
    )
    print(f"RabbitMQ runs, its page is {node.management_url}", flush=True)
    return node.amqp_url


def programs(amqp_url: str) -> dict[str, tuple[tuple[str | Path, ...], dict[str, str]]]:
    """Give all but RabbitMQ in the order in which they start: commands and variables."""
    bridge, consumers = COMMANDS / "openim-bridge", COMMANDS / "openim-consumers"
    return {
        "worker": (
            (consumers, "work"),
            {
                "CONSUMERS_AMQP_URL": amqp_url,
                "CONSUMERS_DATABASE_URL": DATABASE,
                "CONSUMERS_PORT": str(port("CONSUMERS_PORT")),
                "CONSUMERS_LOG_FORMAT": "text",
            },
        ),
        "api": (
            (consumers, "api", "--token-file", RUN / "token"),
            {"FRIENDS_API_DATABASE_URL": DATABASE, "FRIENDS_API_LOG_FORMAT": "text"},
        ),
        "console": (
            (bridge, "console", "--password-file", RUN / "password"),
            {
                "CONSOLE_AMQP_URL": amqp_url,
                "CONSOLE_CALLBACK_URL": callback_url(),
                "CONSOLE_DATABASE_URL": DATABASE,
                "CONSOLE_INDEX_PATH": str(RUN / "index.db"),
                "CONSOLE_LOG_FORMAT": "text",
            },
        ),
        "receiver": (
            (bridge, "receive"),
            {
                "BRIDGE_AMQP_URL": amqp_url,
                "BRIDGE_JOURNAL_PATH": str(RUN / "journal"),
                "BRIDGE_LOG_FORMAT": "text",
            },
        ),
    }


async def run(amqp_url: str) -> str | None:
    """Run all but RabbitMQ until a signal; gives what went wrong, if anything did."""
    stop, working = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as running:
        # What is entered last stops first: OpenIM hears of the end before the worker.
        children = {
            name: await running.enter_async_context(child(name, working, *command, **variables))
            for name, (command, variables) in programs(amqp_url).items()
        }
        return await watch(children, working, stop)


@asynccontextmanager
async def child(
    name: str, working: asyncio.Event, *command: str | Path, **variables: str
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run `command` with `variables`, its lines shown behind `name`; stop it afterwards."""
    process = await asyncio.create_subprocess_exec(
        *tied(*command),
        cwd=HERE,
        env={**os.environ, "PYTHONUNBUFFERED": "1", **variables},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        # Ctrl-C reaches this program only, which stops them in order.
        process_group=0,
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(show(name, process, working))
        try:
            yield process
        finally:
            await end(process)


async def show(name: str, process: asyncio.subprocess.Process, working: asyncio.Event) -> None:
    """Print what `process` says, line by line, and notice when it says that it works."""
    if process.stdout is None:
        return
    async for line in process.stdout:
        text = line.decode(errors="replace").rstrip()
        print(f"{name:8} | {text}", flush=True)
        if " working " in text:
            working.set()


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop `process` in good order, by force where that takes too long."""
    # Not `process.terminate()`, which on Python 3.11 takes the exit code from asyncio.
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGTERM)
    try:
        await asyncio.wait_for(process.wait(), STOP_TIMEOUT)
    except TimeoutError:
        process.kill()


async def watch(
    processes: dict[str, asyncio.subprocess.Process],
    working: asyncio.Event,
    stop: asyncio.Event,
) -> str | None:
    """Wait for `stop` or the end of a process; on the way, say when all is ready."""
    said = False
    while not stop.is_set():
        for name, process in processes.items():
            if process.returncode is not None:
                return f"The {name} ended by itself, with exit code {process.returncode}"
        if not said and working.is_set() and ready():
            print(instructions(), flush=True)
            said = True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), 0.2)
    return None


def ready() -> bool:
    """Whether the receiver takes callbacks, the worker consumes, API and console answer."""
    return all(answers(port(variable)) for variable in PORTS)


def answers(number: int) -> bool:
    """Whether who listens on a port says that it is ready."""
    asked = http.client.HTTPConnection(LOOPBACK, number, timeout=1)
    with contextlib.closing(asked):
        try:
            asked.request("GET", "/readyz")
            return asked.getresponse().status == HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False


def callback_url() -> str:
    """Where OpenIM sends callbacks."""
    return f"http://{LOOPBACK}:{port()}" + os.environ.get("BRIDGE_PATH", "/callbackExample")


def instructions() -> str:
    """What to do next."""
    url = callback_url()
    given = os.environ.get("CONSOLE_PASSWORD")
    password = "echo $CONSOLE_PASSWORD" if given else "cat .run/password"
    return next_steps(
        url,
        send=f".venv/bin/openim-bridge send --url {url}",
        watch="its line appears here",
        show=f"CONSUMERS_DATABASE_URL={DATABASE} .venv/bin/openim-consumers friends",
        api=f"http://{LOOPBACK}:{port('FRIENDS_API_PORT')}",
        token="$FRIENDS_API_TOKEN"
        if "FRIENDS_API_TOKEN" in os.environ
        else "$(cat .run/token)",
        console=f"http://{LOOPBACK}:{port('CONSOLE_PORT')}",
        password=password,
        stop="To stop: Ctrl-C. To forget its data as well: make clean",
    )


if __name__ == "__main__":
    main()
