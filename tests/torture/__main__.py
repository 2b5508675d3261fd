"""Tortures a receiver with faults at random, and reports what it found.

`python -m tests.torture workers` does it to workers.
"""

import argparse
import asyncio
import logging
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import click

from tests.brokers import OwnBroker, RabbitMQ, rabbitmq, virtual_host
from tests.torture.faults import FAULTS, Fault
from tests.torture.nemesis import Phase, endure
from tests.torture.report import Run, markdown, version_of
from tests.torture.rig import Rig, rig
from tests.torture.workers import command as workers

EVIDENCE = Path(".run")
"""Where the receiver's log and journal are kept when something does not add up."""


def main() -> None:
    """Run a nemesis; exit with 1 if anything does not add up."""
    # That RabbitMQ is away is no news here.
    logging.disable()
    if sys.argv[1:2] == ["workers"]:
        workers.main(sys.argv[2:])
    else:
        _torture_a_receiver()


def _torture_a_receiver() -> None:
    arguments = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    arguments.add_argument("--minutes", type=float, default=60, help="how long; default 60")
    arguments.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="of the faults' order and lengths; default: a new one, which is shown",
    )
    arguments.add_argument("--processes", type=int, default=3, help="of OpenIM; default 3")
    arguments.add_argument(
        "--only",
        choices=[fault.name for fault in FAULTS],
        action="append",
        help="this fault; may be given several times",
    )
    arguments.add_argument("--report", type=Path, help="a file to write the report to as well")
    chosen = arguments.parse_args()
    faults = [fault for fault in FAULTS if not chosen.only or fault.name in chosen.only]
    click.echo(f"seed {chosen.seed}")
    with rabbitmq() as server:
        run = asyncio.run(
            torture(server, faults, chosen.minutes, chosen.seed, chosen.processes)
        )
    report = markdown(run)
    click.echo(report)
    if chosen.report is not None:
        chosen.report.write_text(report)
    sys.exit(any(phase.wrong for phase in run.phases))


async def torture(
    server: RabbitMQ, faults: list[Fault], minutes: float, seed: int, processes: int
) -> Run:
    """Have faults happen until the time is over or something does not add up."""
    folder = Path(tempfile.mkdtemp(prefix="torture-"))
    started = time.monotonic()
    phases: list[Phase] = []
    try:
        async with virtual_host(server) as url:
            broker = OwnBroker(server, url)
            async with rig(folder, broker, processes=processes, seed=seed) as tortured:
                while time.monotonic() < started + 60 * minutes and not _wrong(phases):
                    phases.append(await endure(tortured, _next(faults, phases, tortured)))
                    click.echo(phases[-1])
                if _wrong(phases):
                    _keep(folder, seed)
                return Run(
                    seed=seed,
                    minutes=(time.monotonic() - started) / 60,
                    total=tortured.ledger.total,
                    phases=phases,
                    times=tortured.callers.times,
                    lost=len(list(tortured.ledger.lost())),
                    copies_allowed=tortured.receiver.copies_allowed(),
                    peaks=tortured.watch.peaks,
                    rabbitmq=await version_of(server),
                )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _next(faults: list[Fault], phases: list[Phase], tortured: Rig) -> Fault:
    """Choose a fault: each once, then any."""
    had = {phase.fault.name for phase in phases}
    return tortured.chance.choice([f for f in faults if f.name not in had] or faults)


def _wrong(phases: list[Phase]) -> bool:
    return bool(phases) and bool(phases[-1].wrong)


def _keep(folder: Path, seed: int) -> None:
    kept = EVIDENCE / f"torture-{seed}"
    shutil.copytree(folder, kept, dirs_exist_ok=True)
    click.echo(f"log and journal are kept in {kept}")


if __name__ == "__main__":
    main()
