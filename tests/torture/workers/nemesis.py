"""Has workers die, come and go while events keep flowing, and checks at the end."""

import asyncio
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from tests.brokers import RabbitMQ, virtual_host
from tests.torture.workers.changes import CHANGES, Change
from tests.torture.workers.effects import effects
from tests.torture.workers.events import Events
from tests.torture.workers.ledger import Ledger, judged
from tests.torture.workers.rig import Rig, rig
from tests.torture.workers.staff import Staff

WORKERS = 4
"""How many there are at first."""

SETTLED = 3.0
"""Seconds before the first change: what it changes is told by what was before."""

QUIET = 2.0
"""Seconds between the end of one change and the next, at least; at most three times that."""

HANDING_OVER = 5.0
"""Seconds that a change may go on to matter: the others wait for a heartbeat."""

DRAINING = 60.0
"""Seconds in which something is handled, while there is something to handle."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One change, and when it was."""

    change: Change
    began_ms: int
    over_ms: int
    workers: int
    """How many there were afterwards."""
    touched: frozenset[int]
    """Processes that it happened to."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is over."""

    phases: Sequence[Phase]
    sent: int
    ledger: Ledger
    dead_letters: int
    storms: Sequence[float]
    drained: float
    """Seconds from the last event sent to the last one handled."""
    wrong: Sequence[str]


async def torture(  # noqa: PLR0913  # all that makes a run
    server: RabbitMQ,
    database_url: str,
    events: Events,
    *,
    again: Callable[[int], bool],
    choose: Callable[[Rig, Sequence[Phase]], Change],
    workers: int = WORKERS,
) -> Run:
    """Have changes happen, one after the other.

    Args:
        server: RabbitMQ.
        database_url: An empty database of PostgreSQL.
        events: To be published all the while.
        again: Says whether to go on after so many changes.
        choose: Gives the next, after those that were.
        workers: How many there are at first.

    """
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    try:
        async with virtual_host(server) as url:
            staff = Staff(folder, url, database_url)
            async with rig(server, staff, events) as tortured:
                await staff.hire(workers)
                phases: list[Phase] = []
                async with events.flowing(url):
                    await asyncio.sleep(SETTLED)
                    while again(len(phases)):
                        phases.append(await endure(tortured, choose(tortured, phases)))
                        _tell(tortured, phases[-1], await tortured.waiting())
                return await _checked(tortured, phases)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def any_change(rig: Rig, phases: Sequence[Phase]) -> Change:
    """Choose a change: each that is possible once, then any."""
    count = len(rig.staff.present)
    possible = [change for change in CHANGES if change.least <= count <= change.most]
    had = {phase.change.name for phase in phases}
    return rig.chance.choice([c for c in possible if c.name not in had] or possible)


async def endure(rig: Rig, change: Change) -> Phase:
    """Have one change happen, and wait until it should not matter any more."""
    began = _now()
    touched = await change.act(rig)
    over = _now()
    await asyncio.sleep(HANDING_OVER + rig.chance.uniform(QUIET, 3 * QUIET))
    return Phase(
        change=change,
        began_ms=began,
        over_ms=over,
        workers=len(rig.staff.present),
        touched=frozenset(touched),
    )


def _now() -> int:
    return time.time_ns() // 1_000_000


def _tell(rig: Rig, phase: Phase, waiting: int) -> None:
    """Print a line for people who watch."""
    click.echo(
        f"{time.strftime('%H:%M:%S')}  {phase.change.name:36}{phase.workers} workers"
        f"  {rig.events.sent.total():,} sent, {waiting:,} wait"
    )


async def _checked(rig: Rig, phases: Sequence[Phase]) -> Run:
    """Wait until all is handled, and say what does not add up."""
    sent, ended = rig.events.sent.total(), time.monotonic()
    drained = await _drained(rig, sent) - ended
    wrong = rig.staff.missing()
    while rig.staff.present:
        await rig.staff.stop(rig.staff.present[0])
    ledger = await judged(effects(rig.database), rig.events.sent)
    dead_letters, waiting = await rig.dead_letters(), await rig.waiting()
    wrong += [*ledger.wrong, *rig.staff.wrong, *rig.events.wrong]
    wrong += [f"dead letters: {dead_letters}"] if dead_letters else []
    wrong += [f"still in RabbitMQ: {waiting}"] if waiting else []
    return Run(
        phases=phases,
        sent=sent,
        ledger=ledger,
        dead_letters=dead_letters,
        storms=rig.storms,
        drained=drained,
        wrong=wrong,
    )


async def _drained(rig: Rig, sent: int) -> float:
    """Wait until all is handled, or nothing is any more; give when that was."""
    count, progress = 0, time.monotonic()
    while count < sent and time.monotonic() < progress + DRAINING:
        await asyncio.sleep(0.2)
        now = await rig.effects()
        if now > count:
            count, progress = now, time.monotonic()
    return progress
