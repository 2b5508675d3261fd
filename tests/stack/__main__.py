"""Kills and replaces every container of a running Compose stack, and counts what was lost.

The lines of RabbitMQ and PostgreSQL are cut as well. OpenIM sends at a rate, whatever becomes
of its callbacks. Where Prometheus is there, each kill also has to be told by an alert, and in
the end none may be left.
"""

import argparse
import asyncio
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import TypeAlias

import click

from bridge import openim
from bridge.commands import run
from bridge.population import QUEUE
from tests.stack import stack
from tests.stack.alerts import Alert, Prometheus
from tests.stack.collector import collecting, subscribed
from tests.torture.callers import Callers
from tests.torture.ledger import Counts, Fate, Ledger

ROLLED = ("receiver", "consumers")

CUT_OFF = ("rabbitmq", "postgres")
"""How the names of services begin whose lines are cut: those that all others wait for."""

NOTICED = {"proxy", "receiver"}
"""Services whose end OpenIM may notice; not that of a receiver that is replaced."""

Fault: TypeAlias = tuple[str, Callable[[], Awaitable[None]]]
"""What happens, to which service and container, and how."""

BETWEEN = 2.0
"""Seconds of load without a fault before the next."""

ARRIVING = 90.0
"""Seconds in which all that was answered arrives, once nothing more is sent."""


def main() -> None:
    """Do it; exit with 1 if anything does not add up."""
    arguments = argparse.ArgumentParser(prog="python -m tests.stack", description=__doc__)
    arguments.add_argument("--processes", type=int, default=8, help="of OpenIM; default 8")
    arguments.add_argument("--rate", type=float, default=300, help="a second; default 300")
    arguments.add_argument(
        "--cut", type=float, default=40, help="seconds that a line is cut; default 40"
    )
    arguments.add_argument("--only", action="append", help="this service; may be repeated")
    chosen = arguments.parse_args()
    # That connections break is no news here.
    logging.disable()
    wrong = run(_endure(chosen.processes, chosen.rate, chosen.cut, chosen.only))
    for line in wrong:
        click.echo(f"WRONG: {line}")
    sys.exit(bool(wrong))


async def _endure(processes: int, rate: float, cut: float, only: list[str] | None) -> list[str]:
    """Send load while everything happens in turn; give what must not be."""
    everything = await stack.containers()
    faults = [
        (name, act)
        for name, act in _faults(everything, cut)
        if only is None or name.split()[1] in only
    ]
    services = Counter(each.service for each in everything)
    if "prometheus" not in services:
        return await _face(faults, services, processes, rate, None)
    prometheus = Prometheus(await stack.published("prometheus", 9090))
    wrong = [f"not watched: {each}" for each in await prometheus.watches(services)]
    wrong += await _left(prometheus)
    wrong += await _face(faults, services, processes, rate, prometheus)
    return wrong + await _left(prometheus)


async def _face(
    faults: list[Fault],
    services: Iterable[str],
    processes: int,
    rate: float,
    prometheus: Prometheus | None,
) -> list[str]:
    """Have all faults happen under load."""
    workers = processes * openim.WORKERS
    ledger = Ledger(workers)
    # One callback may take the way by the other receiver and overtake.
    ledger.ordered = False
    callers = Callers(
        f"http://{await stack.published('proxy', 10006)}/callbackExample",
        ledger,
        random.Random(1),  # noqa: S311  # pauses, no secret
        pause=workers / rate,
        behind=processes * QUEUE / rate,
    )
    wrong: list[str] = []
    nodes = sorted(each for each in services if each.startswith("rabbitmq"))
    async with (
        subscribed() as url,
        collecting(url, nodes, ledger),
        callers.running(processes),
    ):
        began = time.monotonic()
        callers.go()
        for name, act in faults:
            before = await prometheus.firing() if prometheus else set()
            wrong += await _under_load(name, act, callers, ledger)
            if prometheus and name.startswith("kill"):
                wrong += await _told(prometheus, name, before)
        await callers.hold()
        click.echo(f"{ledger.total.sent / (time.monotonic() - began):.0f}/s over all")
        await _arrived(ledger)
    return wrong + _judged(ledger)


async def _told(prometheus: Prometheus, name: str, before: set[Alert]) -> list[str]:
    """Wait for the alert of a kill; give what is wrong with it."""
    took = await prometheus.told(name.split()[1], before)
    if took is None:
        return [f"{name}: no alert"]
    click.echo(f"{'':40} {took:5.1f} s until the alert")
    return []


async def _left(prometheus: Prometheus) -> list[str]:
    """Wait until no alert fires; give those that still do."""
    click.echo("waiting until no alert is left")
    return [f"still fires: {' '.join(alert)}" for alert in await prometheus.cleared()]


def _faults(everything: list[stack.Container], cut: float) -> list[Fault]:
    everything = sorted(everything, key=lambda each: each.name)
    kills = [
        (f"kill {each.service} {each.name}", partial(stack.kill, each)) for each in everything
    ]
    cuts = [
        (f"cut {each.service} {each.name}", partial(stack.cut, each, cut))
        for each in everything
        if each.service.startswith(CUT_OFF)
    ]
    services = sorted({each.service for each in everything})
    rolls = [
        (f"roll {name}", partial(stack.roll if name in ROLLED else stack.replace, name))
        for name in services
    ]
    return [*kills, *cuts, *rolls]


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
    quiet = name.split()[1] not in NOTICED or name == "roll receiver"
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
        f" {total.copies} copies, {len(twice)} received twice: lost {len(lost)} after callbacks"
    )
    if not total.arrived:
        wrong.append("nothing has arrived")
    return [*wrong, *(f"lost: {each}" for each in lost)]


if __name__ == "__main__":
    main()
