"""Everything that goes wrong, for real, each fault with its end.

A fault is a block: it begins where the block does and is over after it.
"""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import aio_pika

from bridge.topology import CALLBACKS
from tests.running import until
from tests.torture.ledger import Fate
from tests.torture.receiver import mounted, unmounted
from tests.torture.rig import Rig
from tests.torture.tracing import traced
from tests.torture.watch import BROKER, FULL, FULL_QUEUE, SILENT, SLOW_DISK

Strike: TypeAlias = Callable[[Rig], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that goes wrong, and what callers may see of it."""

    name: str
    strike: Strike
    sign: str
    """What an operator sees of it."""
    seconds: float = 2.0
    """How long it lasts at least; it does not end before its sign is seen."""
    seen: frozenset[Fate] = frozenset()
    """What may come of a callback besides an answer."""
    reorders: bool = False
    """Whether what is stored later may arrive earlier."""


FAULTS: list[Fault] = []


def _fault(
    name: str, sign: str, *seen: Fate, seconds: float = 2.0, reorders: bool = False
) -> Callable[[Callable[[Rig], AsyncIterator[None]]], Strike]:
    """Enter a fault into the list."""

    def enter(strike: Callable[[Rig], AsyncIterator[None]]) -> Strike:
        fault = Fault(
            name=name,
            strike=asynccontextmanager(strike),
            sign=sign,
            seconds=seconds,
            seen=frozenset(seen),
            reorders=reorders,
        )
        FAULTS.append(fault)
        return fault.strike

    return enter


# The receiver


@_fault("receiver killed", SILENT, Fate.CUT, Fate.NOT_SENT, seconds=0.5)
async def _receiver_killed(rig: Rig) -> AsyncIterator[None]:
    await rig.receiver.kill()
    yield
    await rig.receiver.start()


@_fault("receiver killed with a backlog", BROKER, Fate.CUT, Fate.NOT_SENT, seconds=2.0)
async def _receiver_killed_with_a_backlog(rig: Rig) -> AsyncIterator[None]:
    rig.line.silence()
    yield
    rig.line.resume()
    await asyncio.sleep(rig.chance.uniform(0, 0.3))
    await rig.receiver.kill()
    await rig.receiver.start()


@_fault("receiver restarted", SILENT, Fate.NOT_SENT, seconds=0.5)
async def _receiver_restarted(rig: Rig) -> AsyncIterator[None]:
    await rig.receiver.stop()
    yield
    await rig.receiver.start()


@_fault("receiver stopped for a moment", SILENT, seconds=1.5)
async def _receiver_frozen(rig: Rig) -> AsyncIterator[None]:
    rig.receiver.signal(signal.SIGSTOP)
    yield
    rig.receiver.signal(signal.SIGCONT)


# RabbitMQ


@_fault("broker killed", BROKER, seconds=1.0)
async def _broker_killed(rig: Rig) -> AsyncIterator[None]:
    await rig.broker.kill()
    yield
    await rig.broker.start()


@_fault("broker restarted", BROKER, seconds=1.0)
async def _broker_restarted(rig: Rig) -> AsyncIterator[None]:
    await rig.broker.stop()
    yield
    await rig.broker.start()


@_fault("broker frozen", BROKER, seconds=3.0)
async def _broker_frozen(rig: Rig) -> AsyncIterator[None]:
    await rig.broker.pause()
    yield
    await rig.broker.resume()


@_fault("memory alarm", BROKER, seconds=3.0)
async def _memory_alarm(rig: Rig) -> AsyncIterator[None]:
    await rig.broker.control("set_vm_memory_high_watermark", "0.000001")
    try:
        yield
    finally:
        await rig.broker.control("set_vm_memory_high_watermark", "0.6")


@_fault("full queue", FULL_QUEUE, seconds=3.0)
async def _full_queue(rig: Rig) -> AsyncIterator[None]:
    async with await aio_pika.connect(rig.broker.amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(
            "full", arguments={"x-max-length": 5, "x-overflow": "reject-publish"}
        )
        await queue.bind(CALLBACKS, "friend.#")
        yield
        await queue.delete(if_unused=False, if_empty=False)


# The line


@_fault("line cut", BROKER, seconds=1.0)
async def _line_cut(rig: Rig) -> AsyncIterator[None]:
    rig.line.cut()
    yield
    await rig.line.mend()


@_fault("line cut in mid-frame", BROKER, seconds=1.0)
async def _line_cut_in_mid_frame(rig: Rig) -> AsyncIterator[None]:
    rig.line.cut_after = rig.line.passed + rig.chance.randrange(100_000)
    yield
    await until(lambda: rig.line.cut_after is None)
    await rig.line.mend()


@_fault("line silent", BROKER, seconds=3.0)
async def _line_silent(rig: Rig) -> AsyncIterator[None]:
    rig.line.silence()
    yield
    rig.line.resume()


# The disk


@_fault("disk slow", SLOW_DISK, Fate.REFUSED, seconds=4.0)
async def _disk_slow(rig: Rig) -> AsyncIterator[None]:
    async with _injected(rig, "delay_enter=2000000"):
        yield


@_fault("disk failing", SILENT, Fate.REFUSED, Fate.CUT, Fate.NOT_SENT, seconds=0.5)
async def _disk_failing(rig: Rig) -> AsyncIterator[None]:
    async with _injected(rig, "error=EIO:when=5"):
        assert await rig.receiver.ended() == 1
        yield
    await rig.receiver.start()


def _injected(rig: Rig, what: str) -> AbstractAsyncContextManager[object]:
    return traced(
        rig.receiver.pid,
        rig.folder / "strace",
        "--trace=fdatasync",
        f"--inject=fdatasync:{what}",
    )


@_fault("disk full", FULL, Fate.REFUSED, Fate.NOT_SENT, seconds=3.0, reorders=True)
async def _disk_full(rig: Rig) -> AsyncIterator[None]:
    # The journal moves to a disk with room for one segment, and back again.
    await _emptied(rig)
    await mounted(rig.receiver.journal, "20m")
    rig.callers.padding = 100_000
    await rig.receiver.start()
    rig.callers.go()
    rig.line.cut()
    yield
    await rig.line.mend()
    await _emptied(rig)
    rig.callers.padding = 0
    await unmounted(rig.receiver.journal)
    await rig.receiver.start()
    rig.callers.go()


async def _emptied(rig: Rig) -> None:
    """Stop the receiver when all has arrived, so that nothing is in its journal."""
    await rig.settled()
    await rig.receiver.stop()
