"""What a run found, as Markdown."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import aiohttp

from bridge import openim
from tests.brokers import RabbitMQ
from tests.torture.ledger import Counts, Fate
from tests.torture.nemesis import NO_FAULT, Phase
from tests.torture.watch import LIMITS

PACKAGES = ("aiohttp", "aio-pika", "uvloop")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is over."""

    seed: int
    minutes: float
    total: Counts
    phases: Sequence[Phase]
    times: Mapping[str, openim.Times]
    lost: int
    copies_allowed: int
    peaks: Mapping[str, float]
    """The most that the receiver took of what has LIMITS."""
    rabbitmq: str
    """Its version."""


def markdown(run: Run) -> str:
    """Say what a run found."""
    wrong = [f"- {phase.fault.name}: {what}" for phase in run.phases for what in phase.wrong]
    what = f"{run.minutes:.1f} minutes, seed {run.seed}, {len(run.phases)} faults"
    return "\n".join(
        [
            f"{what}; {where(run.rabbitmq, PACKAGES)}.",
            "",
            *_counted(run),
            "",
            *_timed(run),
            "",
            *_recovered(run),
            "",
            *_taken(run),
            "",
            *(["What does not add up:", "", *wrong] if wrong else ["Everything adds up."]),
            "",
        ]
    )


def where(rabbitmq: str, packages: Sequence[str]) -> str:
    """Say what was there: RabbitMQ of that version, and these packages."""
    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    python = platform.python_version()
    return f"RabbitMQ {rabbitmq}, Python {python}, {versions}, {platform.system()}"


async def version_of(server: RabbitMQ) -> str:
    """Ask RabbitMQ for its version."""
    async with (
        aiohttp.ClientSession(raise_for_status=True) as api,
        api.get(f"{server.management_url}/api/overview") as answer,
    ):
        return str((await answer.json())["rabbitmq_version"])


def _counted(run: Run) -> list[str]:
    fates = run.total.fates
    rows = {
        "sent": run.total.sent,
        "answered": fates[Fate.ANSWERED],
        "refused, in JSON": fates[Fate.REFUSED],
        "without a reply": fates[Fate.CUT],
        "nobody listened": fates[Fate.NOT_SENT],
        "arrived": run.total.arrived,
        "**answered and lost**": run.lost,
        "**invented or altered**": sum(
            "invented" in what for phase in run.phases for what in phase.wrong
        ),
        "copies, all under their first message id": run.total.copies,
        "copies that are allowed": run.copies_allowed,
    }
    return ["| callbacks | |", "|---|---:|", *(f"| {k} | {v:,} |" for k, v in rows.items())]


def _timed(run: Run) -> list[str]:
    counts: dict[str, int] = {}
    for phase in run.phases:
        counts[phase.fault.name] = counts.get(phase.fault.name, 0) + 1
    lines = [
        "| replies in ms during | times | replies | p50 | p99 | longest |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for name in [NO_FAULT, *sorted(counts)]:
        times = run.times.get(name)
        if times is not None and times.count:
            figures = (times.percentile(50), times.percentile(99), times.longest)
            cells = " | ".join(f"{figure:.1f}" for figure in figures)
            lines.append(f"| {name} | {counts.get(name, '')} | {times.count:,} | {cells} |")
    return lines


def _recovered(run: Run) -> list[str]:
    by_fault: dict[str, list[Phase]] = {}
    for phase in run.phases:
        by_fault.setdefault(phase.fault.name, []).append(phase)
    lines = [
        "| after | shown as | callbacks waiting, at most | all arrived within, at most |",
        "|---|---|---:|---:|",
    ]
    for name, phases in sorted(by_fault.items()):
        waiting = max(phase.waiting for phase in phases)
        recovered = max(phase.recovered for phase in phases)
        lines.append(f"| {name} | {phases[0].fault.sign} | {waiting:,} | {recovered:.1f} s |")
    return lines


def _taken(run: Run) -> list[str]:
    rows = [f"| {name} | {most:.0f} | {LIMITS[name]} |" for name, most in run.peaks.items()]
    return ["| the receiver took | at most | limit |", "|---|---:|---:|", *rows]
