"""The command `python -m tests.torture workers`."""

import argparse
import asyncio
import random
import sys
import time
from pathlib import Path

import click

from tests.brokers import postgres, rabbitmq
from tests.torture.report import version_of, where
from tests.torture.workers.events import Events
from tests.torture.workers.nemesis import any_change, torture
from tests.torture.workers.report import markdown

PACKAGES = ("aio-pika", "sqlalchemy", "asyncpg", "uvloop")


def main(words: list[str]) -> None:
    """Have workers die, come and go; exit with 1 if anything does not add up."""
    arguments = argparse.ArgumentParser(prog="python -m tests.torture workers")
    arguments.add_argument("--minutes", type=float, default=10, help="how long; default 10")
    arguments.add_argument("--rate", type=int, default=500, help="events a second; default 500")
    arguments.add_argument("--keys", type=int, default=1000, help="their keys; default 1000")
    arguments.add_argument(
        "--seed",
        type=int,
        default=random.SystemRandom().randrange(10**6),
        help="of the changes' order; default: a new one, which is shown",
    )
    arguments.add_argument("--report", type=Path, help="a file to write the report to as well")
    chosen = arguments.parse_args(words)
    click.echo(f"seed {chosen.seed}")
    chance = random.Random(chosen.seed)  # noqa: S311  # to be repeated, not to be secret
    ends = time.monotonic() + 60 * chosen.minutes
    with rabbitmq() as server, postgres() as database_url:
        run = asyncio.run(
            torture(
                server,
                database_url,
                Events(chosen.rate, chosen.keys, chance),
                again=lambda _: time.monotonic() < ends,
                choose=any_change,
            )
        )
        what = (
            f"{chosen.minutes:g} minutes, seed {chosen.seed}, {len(run.phases)} changes,"
            f" {chosen.rate:,} events a second of {chosen.keys:,} keys"
        )
        there = where(asyncio.run(version_of(server)), PACKAGES)
    report = f"{what}; {there}.\n\n{markdown(run)}"
    click.echo(report)
    if chosen.report is not None:
        chosen.report.write_text(report)
    sys.exit(bool(run.wrong))
