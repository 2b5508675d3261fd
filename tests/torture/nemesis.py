"""Has faults happen under load, one after the other, and checks after each."""

import asyncio
import time
from dataclasses import dataclass

from tests.torture.faults import Fault
from tests.torture.ledger import Counts, Fate
from tests.torture.rig import Rig

QUIET = 0.4
"""Seconds of load before and after each fault."""

NO_FAULT = "no fault"


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One fault, and what was counted around it."""

    fault: Fault
    seconds: float
    waiting: int
    """Callbacks that were answered and had not arrived when the fault was over."""
    recovered: float
    """Seconds from then until all had arrived."""
    counts: Counts
    wrong: list[str]
    """What does not add up."""

    def __str__(self) -> str:
        """Give a line for people who watch."""
        counts = self.counts
        fates = " ".join(
            f"{fate.name.lower().replace('_', ' ')} {counts.fates[fate]}"
            for fate in (Fate.ANSWERED, Fate.REFUSED, Fate.CUT, Fate.NOT_SENT)
        )
        return (
            f"{time.strftime('%H:%M:%S')}  {self.fault.name:31}{self.seconds:5.1f} s  {fates}"
            f"  copies {counts.copies}  {'; '.join(self.wrong) or 'well'}"
        )


async def endure(rig: Rig, fault: Fault) -> Phase:
    """Have one fault happen under load; wait until all has arrived, and check."""
    started = time.monotonic()
    ledger, callers = rig.ledger, rig.callers
    ledger.fresh()
    ledger.ordered = not fault.reorders
    callers.go()
    await asyncio.sleep(QUIET)
    callers.phase = fault.name
    async with fault.strike(rig):
        await asyncio.sleep(fault.seconds * rig.chance.uniform(0.5, 1.5))
        wrong = await rig.watch.shows(fault.sign)
    callers.phase = NO_FAULT
    over, waiting = time.monotonic(), ledger.missing
    await asyncio.sleep(QUIET)
    wrong += await rig.settled()
    recovered = time.monotonic() - over
    wrong += await rig.watch.clear()
    ledger.ordered = True
    wrong += [
        f"{fate.name}: {ledger.counts.fates[fate]} ({callers.failures})"
        for fate in sorted(set(Fate) - fault.seen - {Fate.ANSWERED})
        if ledger.counts.fates[fate]
    ]
    return Phase(
        fault=fault,
        seconds=time.monotonic() - started,
        waiting=waiting,
        recovered=recovered,
        counts=ledger.counts,
        wrong=wrong,
    )
