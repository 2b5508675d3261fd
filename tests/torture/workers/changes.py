"""What becomes of workers: how they die, come and go."""

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeAlias

from tests.torture.workers.rig import Rig

FROZEN = 6.0
"""Seconds: longer than the others wait for a heartbeat."""

FLAPS = 5
"""Times that all are killed, one right after the other."""

Act: TypeAlias = Callable[[Rig], Awaitable[set[int]]]
"""Has something happen; gives the processes that it happened to."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that becomes of workers, and with how many of them it may."""

    name: str
    act: Act
    least: int
    most: int


CHANGES: list[Change] = []


def _change(name: str, least: int = 1, most: int = 6) -> Callable[[Act], Act]:
    """Enter a change into the list."""

    def enter(act: Act) -> Act:
        CHANGES.append(Change(name=name, act=act, least=least, most=most))
        return act

    return enter


@_change("one is killed", least=4)
async def _killed(rig: Rig) -> set[int]:
    victim = rig.any()
    await rig.staff.kill(victim)
    return {victim.process.pid}


@_change("one joins", most=5)
async def _joins(rig: Rig) -> set[int]:
    return {worker.process.pid for worker in await rig.staff.hire()}


@_change("one is stopped", least=4)
async def _stopped(rig: Rig) -> set[int]:
    victim = rig.any()
    await rig.staff.stop(victim)
    return {victim.process.pid}


@_change("one is killed and started again")
async def _restarted(rig: Rig) -> set[int]:
    victim = rig.any()
    await rig.staff.kill(victim)
    return {victim.process.pid} | await _joins(rig)


@_change("one stands still for a while")
async def _frozen(rig: Rig) -> set[int]:
    victim = rig.any()
    victim.signal(signal.SIGSTOP)
    await asyncio.sleep(FROZEN)
    victim.signal(signal.SIGCONT)
    return {victim.process.pid}


@_change("two are killed at once", least=5)
async def _two_killed(rig: Rig) -> set[int]:
    victims = rig.chance.sample(rig.staff.present, 2)
    await rig.staff.kill(*victims)
    return {victim.process.pid for victim in victims}


@_change("all are killed, again and again")
async def _flapping(rig: Rig) -> set[int]:
    pids, count = set(), len(rig.staff.present)
    started, took = time.monotonic(), await rig.broker_seconds()
    for _ in range(FLAPS):
        pids |= {worker.process.pid for worker in rig.staff.present}
        await rig.staff.kill(*rig.staff.present)
        pids |= {worker.process.pid for worker in await rig.staff.hire(count)}
        await asyncio.sleep(rig.chance.uniform(0, 1))
    took = await rig.broker_seconds() - took
    rig.storms.append(took / (time.monotonic() - started))
    return pids
