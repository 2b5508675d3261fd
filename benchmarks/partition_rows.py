"""Measures how long events wait while partitions go from worker to worker.

Workers, events and their changes are those of `make torture ARGS=workers`, which also checks
that nothing is lost, repeated or overtaken.
"""

import asyncio
import random
from collections.abc import Iterator, Sequence

from private_services import PrivatePostgres
from table import Row, both, most
from under_test import Bench

from tests.torture.workers.changes import CHANGES, Change
from tests.torture.workers.events import Events
from tests.torture.workers.nemesis import Phase, torture
from tests.torture.workers.report import waits_in
from tests.torture.workers.rig import Rig

RATE = 200
KEYS = 1000
WORKERS = 4
BARS = {"one is killed": 10, "one joins": 5}
"""Changes in their order, and seconds within which what is handed over is handled."""

OTHERS = 1
"""Seconds within which all else is."""


def partitions(bench: Bench) -> None:
    """Have a worker of four die, and another join."""
    if bench.rabbitmq is None:
        return
    with PrivatePostgres(durable=True) as postgres:
        run = asyncio.run(
            torture(
                bench.rabbitmq,
                postgres.url,
                Events(RATE, KEYS, random.Random()),  # noqa: S311  # nothing to keep secret
                again=lambda changes: changes < len(BARS),
                choose=_next,
                workers=WORKERS,
            )
        )
    if run.wrong:
        raise RuntimeError(f"it does not add up: {run.wrong}")
    for phase in run.phases:
        waits = waits_in([phase], run.ledger)
        bench.note(f"{phase.change.name} moved", waits.moved.longest / 1000)
        bench.note(f"{phase.change.name} stayed", waits.stayed.longest / 1000)


def _next(_rig: Rig, phases: Sequence[Phase]) -> Change:
    name = list(BARS)[len(phases)]
    return next(change for change in CHANGES if change.name == name)


MEASUREMENTS = (partitions,)


def handing_over(bench: Bench) -> Iterator[Row]:
    """Say how long an event waits at most, when a worker dies or joins."""
    for name, bar in BARS.items():
        if f"{name} moved" not in bench.results:
            return
        moved, stayed = (bench.median(f"{name} {kind}") for kind in ("moved", "stayed"))
        yield Row(
            f"of {WORKERS} workers, {name}: longest wait, partitions that move",
            f"{moved:.2f} s",
            f"all others {stayed:.2f} s",
            both(most(bar, moved), most(OTHERS, stayed)),
        )
