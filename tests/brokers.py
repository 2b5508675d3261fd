"""A real RabbitMQ and PostgreSQL: containers where Docker answers, else private servers."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeAlias, TypeVar

import aiohttp
import pytest
from docker.errors import APIError  # type: ignore[import-untyped]
from private_services import (
    LOOPBACK,
    START_TIMEOUT,
    CannotStart,
    PrivatePostgres,
    PrivateRabbitMQ,
    free_port,
    serves,
)
from testcontainers.core.container import DockerContainer
from testcontainers.core.utils import inside_container

T = TypeVar("T")


@dataclass(frozen=True)
class Address:
    """Where a broker is."""

    amqp_url: str
    management_url: str
    metrics_url: str = ""


if inside_container():
    # Where it is anyway; unsaid, testcontainers takes this container's own network for those
    # that it starts, where no port can be published.
    os.environ.setdefault("DOCKER_HOST", "unix:///var/run/docker.sock")


@cache
def with_docker() -> bool:
    """Whether to use containers: as TEST_BROKER says, otherwise if Docker answers."""
    choice = os.environ.get("TEST_BROKER")
    if choice is not None:
        return {"docker": True, "native": False}[choice]
    try:
        asked = subprocess.run(
            ["docker", "info"],  # noqa: S607
            check=False,
            capture_output=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return asked.returncode == 0


class ContainerRabbitMQ:
    """RabbitMQ in a container, to be handled like a `PrivateRabbitMQ`."""

    def __init__(self) -> None:
        amqp, management, metrics = free_port(), free_port(), free_port()
        self.amqp_url = f"amqp://test:test@{LOOPBACK}:{amqp}/"
        self.management_url = f"http://test:test@{LOOPBACK}:{management}"
        self.tls_port = free_port()
        """Leads to port 5671, where nothing listens yet."""
        self.metrics_url = f"http://{LOOPBACK}:{metrics}"
        ports = {5672: amqp, 15672: management, 5671: self.tls_port, 15692: metrics}
        self._container = _container("rabbitmq:4-management", ports)
        self._container.with_envs(RABBITMQ_DEFAULT_USER="test", RABBITMQ_DEFAULT_PASS="test")  # noqa: S106
        # Its data lies in a folder named after the host.
        self._container.with_kwargs(hostname="broker")
        self._container.start()
        self._wait()

    def start(self) -> None:
        """Start it again after `stop` or `kill`, at the same ports."""
        self._container.get_wrapped_container().start()
        self._wait()

    def stop(self) -> None:
        """End it in good order."""
        self._container.get_wrapped_container().stop(timeout=30)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._container.get_wrapped_container().kill()

    def pause(self) -> None:
        """Let it fall silent, with its connections open."""
        _wait_until(self._is_paused)

    def _is_paused(self) -> bool:
        # A busy machine may be too slow to freeze a container at the first try.
        with contextlib.suppress(APIError):
            self._container.get_wrapped_container().pause()
            return True
        return False

    def resume(self) -> None:
        """Let it go on after `pause`."""
        self._container.get_wrapped_container().unpause()

    def rabbitmqctl(self, *arguments: str) -> str:
        """What `rabbitmqctl` answers, from the running node."""
        code, said = self._container.get_wrapped_container().exec_run(
            ["rabbitmqctl", "--quiet", *arguments]
        )
        if code != 0:
            raise RuntimeError(f"rabbitmqctl {arguments[0]} failed: {said.decode()}")
        return str(said.decode())

    def remove(self) -> None:
        """Remove it with all its data."""
        self._container.stop()

    def _wait(self) -> None:
        _wait_until(lambda: serves(self.amqp_url, self.management_url))


RabbitMQ: TypeAlias = ContainerRabbitMQ | PrivateRabbitMQ


@contextlib.contextmanager
def rabbitmq() -> Iterator[RabbitMQ]:
    """Run a RabbitMQ, gone afterwards with all its data."""
    if with_docker():
        container = ContainerRabbitMQ()
        try:
            yield container
        finally:
            container.remove()
        return
    directory = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    node = PrivateRabbitMQ(directory)
    try:
        node.start()
        yield node
    finally:
        # A stop in good order takes six seconds, and nobody needs its data.
        node.kill()
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Run a PostgreSQL; gives its URL."""
    if not with_docker():
        with PrivatePostgres() as server:
            yield server.url
        return
    port = free_port()
    # Nothing of it outlives the tests.
    container = _container("postgres:17", {5432: port}).with_command("-c fsync=off")
    with container.with_env("POSTGRES_PASSWORD", "test") as running:
        # The server that listens while the image sets itself up is not on TCP.
        ready = ["pg_isready", "--quiet", "--host", LOOPBACK]
        _wait_until(lambda: running.exec(ready).exit_code == 0)
        yield f"postgresql://postgres:test@{LOOPBACK}:{port}/postgres"


@contextlib.contextmanager
def started(server: AbstractContextManager[T]) -> Iterator[T]:
    """Run `server`; where it is missing, skip the test, but never in CI."""
    with ExitStack() as running:
        try:
            result = running.enter_context(server)
        except CannotStart as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        yield result


class OwnBroker:
    """A broker that a test may handle as it likes; its address stays the same.

    Attributes:
        amqp_url: An empty virtual host on it.
        restarted: Whether it has been started anew.

    """

    # A private server ends with the thread that started it, so that is never an event
    # loop's own.
    _thread = ThreadPoolExecutor(max_workers=1)

    def __init__(self, server: RabbitMQ, amqp_url: str) -> None:
        self.amqp_url = amqp_url
        self._server = server
        self.restarted = False
        self._running = True
        self._paused = False

    async def start(self) -> None:
        """Start it after `stop` or `kill`; returns when it takes connections."""
        await self._do(self._server.start)
        self._running = self.restarted = True

    async def stop(self) -> None:
        """Stop it in good order."""
        await self._do(self._server.stop)
        self._running = False

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        await self._do(self._server.kill)
        self._running = False

    async def pause(self) -> None:
        """Let it fall silent, with its connections open."""
        await self._do(self._server.pause)
        self._paused = True

    async def resume(self) -> None:
        """Let it go on after `pause`."""
        await self._do(self._server.resume)
        self._paused = False

    async def control(self, *arguments: str) -> None:
        """Have `rabbitmqctl` do something to it."""
        await self._do(lambda: self._server.rabbitmqctl(*arguments))

    async def restore(self) -> None:
        """Have it run, whatever was done to it."""
        if self._paused:
            await self.resume()
        if not self._running:
            await self.start()

    async def _do(self, act: Callable[[], object]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, act)


@contextlib.asynccontextmanager
async def virtual_host(broker: Address | RabbitMQ) -> AsyncIterator[str]:
    """Give the AMQP URL of an empty virtual host on `broker`, gone afterwards."""
    name = await new_virtual_host(broker)
    try:
        yield broker.amqp_url + name
    finally:
        await remove_virtual_host(broker, name)


async def new_virtual_host(broker: Address | RabbitMQ) -> str:
    """Make an empty virtual host on `broker`; gives its name."""
    name = f"test-{uuid.uuid4().hex}"
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.put(f"{broker.management_url}/api/vhosts/{name}")
    return name


async def remove_virtual_host(broker: Address | RabbitMQ, name: str) -> None:
    """Remove a virtual host with all that is in it."""
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.delete(f"{broker.management_url}/api/vhosts/{name}")


def _container(image: str, ports: dict[int, int]) -> DockerContainer:
    container = DockerContainer(image)
    for inside, outside in ports.items():
        # Docker's own form for "on loopback only", which the annotation leaves out.
        container.ports[str(inside)] = (LOOPBACK, outside)  # type: ignore[assignment]
    return container


def _wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not holds():
        if time.monotonic() > deadline:
            raise CannotStart(f"the container did not start within {START_TIMEOUT:.0f} s")
        time.sleep(0.1)
