"""A receiver to test against, and what tests ask of it and of RabbitMQ."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import aio_pika
from aio_pika.abc import AbstractIncomingMessage

from bridge import openim, server
from bridge.settings import Receiver as Settings
from bridge.topology import CALLBACKS, UNROUTED

Answer = TypeVar("Answer")

DEADLINE = 60.0
"""Seconds that anything awaited may take before a test fails."""

NOWHERE = "amqp://nobody:nothing@127.0.0.1:1/"
"""No broker answers here."""


def settings(folder: Path, amqp_url: str = NOWHERE, **changed: Any) -> Settings:  # noqa: ANN401
    """Give a receiver's settings for a test."""
    values: dict[str, Any] = {
        "port": 0,
        "journal_path": str(folder / "journal"),
        "grace_period": 0.5,
    }
    return Settings(amqp_url=amqp_url, **(values | changed))


@dataclass
class Bridge:
    """A receiver that runs in this process, and OpenIM in front of it."""

    url: str
    port: int
    openim: openim.Process
    running: server.Running

    async def connected(self) -> None:
        """Wait until RabbitMQ is there."""
        await until(lambda: self.running.forwarder.link.connected)

    async def drained(self) -> None:
        """Wait until RabbitMQ has everything."""
        await until(lambda: self.running.journal.depth == 0)


@asynccontextmanager
async def bridge(
    folder: Path,
    amqp_url: str = NOWHERE,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[Bridge]:
    """Run a receiver during the block."""
    chosen = settings(folder, amqp_url, **changed)
    async with server.running(chosen) as running:
        url = f"http://127.0.0.1:{running.port}{chosen.path}"
        async with openim.process(url) as process:
            yield Bridge(url, running.port, process, running)


async def until(condition: Callable[[], bool], seconds: float = DEADLINE) -> None:
    """Wait until `condition` holds; fail after so long."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110  # conditions have no events
            await asyncio.sleep(0.01)


async def eventually(
    ask: Callable[[], Awaitable[Answer]],
    wanted: Callable[[Answer], bool],
    seconds: float = DEADLINE,
) -> Answer:
    """Ask until the answer is the wanted one; fail after so long."""
    async with asyncio.timeout(seconds):
        while not wanted(answer := await ask()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return answer


@dataclass
class Everything:
    """A queue that takes every message the bridge publishes."""

    messages: list[AbstractIncomingMessage] = field(default_factory=list)

    async def have(self, count: int) -> list[AbstractIncomingMessage]:
        """Wait for `count` messages."""
        await until(lambda: len(self.messages) >= count)
        return self.messages


@asynccontextmanager
async def everything(amqp_url: str) -> AsyncIterator[Everything]:
    """Collect all that is published, routed or not, as a subscriber with plain aio-pika."""
    seen = Everything()

    async def take(message: AbstractIncomingMessage) -> None:
        seen.messages.append(message)
        await message.ack()

    async with await aio_pika.connect(amqp_url) as connection, connection.channel() as channel:
        unrouted = await channel.declare_exchange(UNROUTED, "fanout", durable=True)
        callbacks = await channel.declare_exchange(
            CALLBACKS, "topic", durable=True, arguments={"alternate-exchange": UNROUTED}
        )
        queue = await channel.declare_queue("everything", durable=True)
        await queue.bind(callbacks, "#")
        await queue.bind(unrouted)
        await queue.consume(take)
        yield seen
