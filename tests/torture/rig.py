"""All that is tortured, set up and connected, and the phases it goes through."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bridge import openim
from tests.brokers import OwnBroker
from tests.line import Line, line_to
from tests.torture import receiver as receivers
from tests.torture.callers import Callers
from tests.torture.collector import Collector
from tests.torture.ledger import Ledger
from tests.torture.receiver import Receiver
from tests.torture.watch import Watch

DRAINING = 60.0
"""Seconds within which all that was answered has to arrive once a fault is over."""

LISTED = 5
"""Callbacks of a kind that are named; the rest is counted."""


@dataclass(frozen=True, kw_only=True)
class Rig:
    """A receiver, RabbitMQ behind a line, OpenIM in front, and the ledger."""

    folder: Path
    broker: OwnBroker
    line: Line
    receiver: Receiver
    callers: Callers
    ledger: Ledger
    watch: Watch
    chance: random.Random

    async def settled(self) -> list[str]:
        """Hold the callers, wait until all has arrived, and say what does not add up."""
        await self.callers.hold()
        try:
            async with asyncio.timeout(DRAINING):
                while self.ledger.missing:  # noqa: ASYNC110  # the ledger has no events
                    await asyncio.sleep(0.02)
        except TimeoutError:
            lost = list(self.ledger.lost())
            self.ledger.wrong.append(f"lost: {len(lost)}, such as {', '.join(lost[:LISTED])}")
        allowed = self.receiver.copies_allowed()
        if self.ledger.total.copies > allowed:
            self.ledger.wrong.append(f"{self.ledger.total.copies} copies, {allowed} allowed")
        if outcry := self.receiver.outcry():
            self.ledger.wrong.append(f"the receiver cried out: {outcry[-1]}")
        return self.ledger.wrong


@asynccontextmanager
async def rig(
    folder: Path, broker: OwnBroker, *, processes: int = 3, seed: int = 1
) -> AsyncIterator[Rig]:
    """Set everything up; callers wait to be let go.

    Args:
        folder: For the journal and the logs.
        broker: To be handled as the faults like.
        processes: Of OpenIM.
        seed: Of all that is random.

    """
    chance = random.Random(seed)  # noqa: S311  # to be repeated, not to be secret
    ledger = Ledger(processes * openim.WORKERS)
    async with (
        Collector(broker.amqp_url, ledger).running(),
        line_to(broker.amqp_url) as line,
        receivers.started(folder, line.url) as receiver,
    ):
        callers = Callers(receiver.url, ledger, chance)
        watch = Watch(receiver)
        async with callers.running(processes), watch.running():
            yield Rig(
                folder=folder,
                broker=broker,
                line=line,
                receiver=receiver,
                callers=callers,
                ledger=ledger,
                watch=watch,
                chance=chance,
            )
