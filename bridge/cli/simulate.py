"""The command `openim-bridge simulate`."""

import asyncio
import math
import sys
from collections.abc import Iterator

import click
from yarl import URL

from bridge import openim, people, population
from bridge.cli.grammar import JSON, Number, Option, Tell, progress
from bridge.cli.grammar import URL as URL_OPTION
from bridge.cli.send import where
from bridge.commands import FAILED, UNREACHABLE, fail, run, show
from bridge.population import Counts, Outcome, Plan

MIXES = {
    "realistic": people.REALISTIC,
    "all": dict.fromkeys(openim.commands(), 1.0),
}

CONNECTING = 5.0
"""Seconds in which somebody has to listen."""


class Mix(click.ParamType[dict[str, float]]):
    """The name of a mix, or commands with weights."""

    name = "mix"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> dict[str, float]:
        """Read it."""
        if str(value) in MIXES:
            return dict(MIXES[str(value)])
        try:
            pairs = (part.partition("=") for part in str(value).split(","))
            mix = {openim.sample(name)[0]: float(weight or 1) for name, _, weight in pairs}
        except (openim.UnknownSample, ValueError) as error:
            self.fail(str(error), param, ctx)
        if not all(0 < weight < float("inf") for weight in mix.values()):
            self.fail("a weight is a number above 0", param, ctx)
        return mix


def _many(what: str, default: int) -> Option:
    return click.option(
        f"--{what}",
        default=default,
        show_default=True,
        type=click.IntRange(1, 10_000_000),
        help=f"How many {what} there are.",
    )


@click.command()
@click.option(
    "--rate",
    required=True,
    type=Number(0, 20_000, min_open=True),
    help="Operations a second that have a callback, at random intervals.",
)
@click.option(
    "--mix",
    type=Mix(),
    default="realistic",
    show_default=True,
    help="`realistic`, `all`, or commands with weights: AfterUserOnline=3,BeforeAddFriend.",
)
@click.option(
    "--seconds",
    default=10.0,
    show_default=True,
    type=Number(0, 3600, min_open=True),
    help="How long.",
)
@click.option(
    "--processes",
    default=8,
    show_default=True,
    type=click.IntRange(1, 200),
    help="Of OpenIM, each with two workers and a queue of 100.",
)
@_many("users", 1000)
@_many("groups", 100)
@URL_OPTION
@JSON
def simulate(  # noqa: PLR0913  # the options of a command
    *,
    rate: float,
    mix: dict[str, float],
    seconds: float,
    processes: int,
    users: int,
    groups: int,
    url: str | None,
    as_json: bool,
) -> None:
    """Be many OpenIM processes at work for a while, and say what they would have lost.

    They send made callbacks of users such as simulated-user-7, which go where others go. An
    operation is due at its time whatever became of those before, and times count from then.

    Exits with 1 if OpenIM would have lost a callback, or failed an operation over one.

    Example: openim-bridge simulate --rate 200 --seconds 60
    """
    plan = Plan(
        processes=processes, rate=rate, seconds=seconds, mix=mix, users=users, groups=groups
    )
    outcome, target = Outcome(), where(url)
    try:
        with progress("seconds", math.ceil(seconds)) as tell:
            run(_simulate(target, plan, outcome, tell))
    except OSError as error:
        there = URL(target, encoded=True)
        fail(f"nobody listens at {there.host}:{there.port}: {error}", UNREACHABLE)
    finally:
        if outcome.seconds:
            show(_figures(plan, outcome), "\n".join(_table(outcome)), as_json=as_json)
    sys.exit(FAILED if outcome.lost else 0)


async def _simulate(url: str, plan: Plan, outcome: Outcome, tell: Tell) -> None:
    there = URL(url, encoded=True)
    async with asyncio.timeout(CONNECTING):
        _, writer = await asyncio.open_connection(there.host, there.port)
    writer.close()
    await writer.wait_closed()
    await population.simulate(url, plan, outcome, tell)


ROWS = ("sent", "answered", "refused", "failed", "dropped", "unfinished")


def _table(outcome: Outcome) -> Iterator[str]:
    before, after = outcome.phases["before"], outcome.phases["after"]
    yield f"{'':28}{'before':>12}{'after':>12}"
    for name in ROWS:
        yield f"{name:28}{getattr(before, name):12,}{getattr(after, name):12,}"
    yield f"{'operations that blocked':28}{0:12,}{after.blocked.count:12,}"
    for name, figures in _times(before).items():
        others = _times(after)[name]
        yield f"{name + ', ms':28}{figures:12,.2f}{others:12,.2f}"
    yield (
        f"{outcome.seconds:.1f} s, {outcome.connections:,} connections;"
        f" OpenIM would have lost {outcome.lost:,}"
    )
    if outcome.late > population.LATE:
        yield (
            f"This program was up to {1000 * outcome.late:,.0f} ms late itself: its machine is"
            " too slow for this rate, and times are longer than the receiver's."
        )


def _times(counts: Counts) -> dict[str, float]:
    kinds = {"answer": counts.replies, "blocked": counts.blocked}
    return {
        f"{kind}, {what}": value
        for kind, times in kinds.items()
        for what, value in (
            ("p50", times.percentile(50)),
            ("p99", times.percentile(99)),
            ("longest", times.longest),
        )
    }


def _figures(plan: Plan, outcome: Outcome) -> dict[str, object]:
    found: dict[str, object] = {
        "rate": plan.rate,
        "seconds": outcome.seconds,
        "processes": plan.processes,
        "connections": outcome.connections,
        "lost": outcome.lost,
        "late_ms": outcome.late * 1000,
    }
    for phase, counts in outcome.phases.items():
        figures = {f"{name.replace(', ', '_')}_ms": v for name, v in _times(counts).items()}
        numbers = {name: getattr(counts, name) for name in ROWS}
        found[phase] = numbers | {"blocked": counts.blocked.count} | figures
    return found
