"""Kills and replaces every container of a running Compose stack, and counts what was lost."""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial

import click

from bridge import openim
from bridge.commands import run
from tests.stack import stack
from tests.stack.collector import collecting, subscribed
from tests.torture.callers import Callers
from tests.torture.ledger import Counts, Fate, Ledger

ROLLED = ("receiver", "consumers")
PASSIVE = {"prometheus", "grafana"}
"""What only looks on."""

UNNOTICED = {"consumers", "postgres", "api", "rabbitmq", "rabbitmq-2", "rabbitmq-3"}
"""Services whose end OpenIM never notices; nor that of a receiver that is replaced."""

BETWEEN = 2.0
"""Seconds of load without a fault before the next."""

ARRIVING = 90.0
"""Seconds in which all that was answered arrives, once nothing more is sent."""


def main() -> None:
    """Do it; exit with 1 if anything does not add up."""
    arguments = argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__)
    arguments.add_argument("--processes", type=int, default=3, help="of OpenIM; default 3")
    arguments.add_argument("--only", action="append", help="this service; may be repeated")
    chosen = arguments.parse_args()
    # That connections break is no news here.
    logging.disable()
    wrong = run(_endure(chosen.processes, chosen.only))
    for line in wrong:
        click.echo(f"WRONG: {line}")
    sys.exit(bool(wrong))


async def _endure(processes: int, only: list[str] | None) -> list[str]:
    """Send load while everything happens in turn; give what must not be."""
    everything = [c for c in await stack.containers() if c.service not in PASSIVE]
    nodes = sorted({c.service for c in everything if c.service.startswith("rabbitmq")})
    ledger = Ledger(processes * openim.WORKERS)
    # One callback may take the way by the other receiver and overtake.
    ledger.ordered = False
    url = f"http://{await stack.published('proxy', 10006)}/callbackExample"
    callers = Callers(url, ledger, random.Random(1))  # noqa: S311  # pauses, no secret
    wrong: list[str] = []
    async with collecting(await subscribed(), nodes, ledger), callers.running(processes):
        callers.go()
        for name, act in _faults(everything):
            if only is None or name.split()[1] in only:
                wrong += await _under_load(name, act, callers, ledger)
        await callers.hold()
        await _arrived(ledger)
    return wrong + _judged(ledger)


def _faults(
    everything: list[stack.Container],
) -> list[tuple[str, Callable[[], Awaitable[None]]]]:
    kills = [
        (f"kill {each.service} {each.name}", partial(stack.kill, each))
        for each in sorted(everything, key=lambda each: each.name)
    ]
    services = sorted({each.service for each in everything})
    rolls = [
        (f"roll {name}", partial(stack.roll if name in ROLLED else stack.replace, name))
        for name in services
    ]
    return [*kills, *rolls]


async def _under_load(
    name: str, act: Callable[[], Awaitable[None]], callers: Callers, ledger: Ledger
) -> list[str]:
    """Have something happen; give what OpenIM noticed and should not have."""
    ledger.fresh()
    callers.phase, began = name, time.monotonic()
    await act()
    took = time.monotonic() - began
    await asyncio.sleep(BETWEEN)
    counts, times = ledger.counts, callers.times[name]
    bad = {fate.name: counts.fates[fate] for fate in (Fate.REFUSED, Fate.CUT, Fate.NOT_SENT)}
    noticed = {fate: count for fate, count in bad.items() if count}
    click.echo(
        f"{name:40} {took:5.1f} s  {counts.sent / (took + BETWEEN):4.0f}/s"
        f"  p50 {times.percentile(50):5.1f} ms  p99 {times.percentile(99):6.1f} ms"
        f"  max {times.longest:6.0f} ms  {_shown(counts)} {noticed or ''}"
    )
    quiet = name.split()[1] in UNNOTICED or name == "roll receiver"
    return [f"{name}: OpenIM noticed {noticed}"] if quiet and noticed else []


def _shown(counts: Counts) -> str:
    return f"{counts.sent:6} sent {counts.fates[Fate.ANSWERED]:6} answered"


async def _arrived(ledger: Ledger) -> None:
    deadline = time.monotonic() + ARRIVING
    while ledger.missing and time.monotonic() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.2)


def _judged(ledger: Ledger) -> list[str]:
    """Say what does not add up in the end."""
    # A callback that a receiver died over is sent to another, and may be on disk at both.
    twice = [each for each in ledger.wrong if each.startswith("two message ids")]
    wrong = [each for each in ledger.wrong if each not in twice]
    lost = list(ledger.lost())
    total = ledger.total
    click.echo(
        f"{total.sent} sent, {total.fates[Fate.ANSWERED]} answered, {total.arrived} arrived,"
        f" {total.copies} copies, {len(twice)} received twice: lost {len(lost)}"
    )
    if not total.arrived:
        wrong.append("nothing has arrived")
    return [*wrong, *(f"lost: {each}" for each in lost)]


if __name__ == "__main__":
    main()
