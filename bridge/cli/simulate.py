"""The command `openim-bridge simulate`."""

import asyncio
import sys
from collections.abc import Iterator

import click
import orjson
from yarl import URL

from bridge import openim, people, population, sending
from bridge.commands import FAILED, UNREACHABLE, echo, fail, own_url, run
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


@click.command()
@click.option(
    "--rate",
    required=True,
    type=click.FloatRange(0, 20_000, min_open=True),
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
    "--seconds", default=10.0, show_default=True, type=click.FloatRange(0, 3600, min_open=True)
)
@click.option(
    "--processes",
    default=8,
    show_default=True,
    type=click.IntRange(1, 200),
    help="Of OpenIM, each with two workers and a queue of 100.",
)
@click.option("--users", default=1000, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option("--groups", default=100, show_default=True, type=click.IntRange(1, 10_000_000))
@click.option("--url", help="As in OpenIM's webhooks.yml; default: where the receiver listens.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
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
    """
    plan = Plan(
        processes=processes, rate=rate, seconds=seconds, mix=mix, users=users, groups=groups
    )
    outcome = Outcome()
    try:
        where = own_url() if url is None else sending.checked(url)
    except sending.CannotSend as error:
        raise click.UsageError(str(error)) from error
    try:
        run(_simulate(where, plan, outcome))
    except OSError as error:
        fail(f"nobody listens at {URL(where).host}:{URL(where).port}: {error}", UNREACHABLE)
    finally:
        if outcome.seconds:
            for line in [_json(plan, outcome)] if as_json else _table(outcome):
                echo(line)
    sys.exit(FAILED if outcome.lost else 0)


async def _simulate(url: str, plan: Plan, outcome: Outcome) -> None:
    async with asyncio.timeout(CONNECTING):
        _, writer = await asyncio.open_connection(URL(url).host, URL(url).port)
    writer.close()
    await writer.wait_closed()
    await population.simulate(url, plan, outcome, _tell)


def _tell(outcome: Outcome) -> None:
    """Show people that it goes on."""
    sent = sum(counts.sent for counts in outcome.phases.values())
    if sys.stderr.isatty():
        click.echo(f"\r{sent:,} sent, {outcome.lost:,} lost", err=True, nl=False)


ROWS = ("sent", "answered", "refused", "failed", "dropped", "unfinished")


def _table(outcome: Outcome) -> Iterator[str]:
    if sys.stderr.isatty():
        click.echo(err=True)
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


def _json(plan: Plan, outcome: Outcome) -> str:
    found = {
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
        found[phase] = numbers | {"blocked": counts.blocked.count} | figures  # type: ignore[assignment]
    return orjson.dumps(found).decode()


COMMANDS: tuple[click.Command, ...] = (simulate,)
