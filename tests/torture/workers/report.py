"""What a run of changes found, as Markdown."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from bridge.openim import Times
from tests.torture.workers.changes import CHANGES
from tests.torture.workers.ledger import WRONG, Handled, Ledger
from tests.torture.workers.nemesis import HANDING_OVER, Phase, Run

BEFORE = 2000
"""Milliseconds before a change in which something came to most partitions."""


def markdown(run: Run) -> str:
    """Say what a run found."""
    wrong = [f"- {what}" for what in run.wrong]
    return "\n".join(
        [
            *_counted(run),
            "",
            *_waited(run),
            "",
            *(["What does not add up:", "", *wrong] if wrong else ["Everything adds up."]),
            "",
        ]
    )


def _counted(run: Run) -> list[str]:
    rows = {
        "events sent": f"{run.sent:,}",
        "effects": f"{run.ledger.effects:,}",
        **{f"**{name}**": f"{getattr(run.ledger, name):,}" for name in WRONG},
        "dead letters": f"{run.dead_letters:,}",
        "all handled after the last was sent, within": f"{run.drained:.1f} s",
    }
    if run.storms:
        rows["cores that RabbitMQ took while all were killed again and again, at most"] = (
            f"{max(run.storms):.2f}"
        )
    return ["| | |", "|---|---:|", *(f"| {name} | {value} |" for name, value in rows.items())]


def _waited(run: Run) -> list[str]:
    """Tell of each change how long events waited; the longest, in two kinds of partitions."""
    by_change: dict[str, list[Phase]] = defaultdict(list)
    for phase in run.phases:
        by_change[phase.change.name].append(phase)
    lines = [
        "| ms from sending to handling, when | times | events | p50 | p99 | moved | stayed |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    rows = [
        _row(change.name, by_change[change.name], run.ledger)
        for change in CHANGES
        if by_change[change.name]
    ]
    return lines + rows


def _row(name: str, phases: Sequence[Phase], ledger: Ledger) -> str:
    waits = waits_in(phases, ledger)
    every = waits.every
    figures = (
        every.percentile(50),
        every.percentile(99),
        waits.moved.longest,
        waits.stayed.longest,
    )
    cells = " | ".join(f"{figure:,.0f}" for figure in figures)
    return f"| {name} | {len(phases)} | {every.count:,} | {cells} |"


@dataclass(frozen=True)
class Waits:
    """Milliseconds from sending to handling."""

    every: Times = field(default_factory=Times)
    moved: Times = field(default_factory=Times)
    """In partitions that went to another worker, or whose worker it happened to."""
    stayed: Times = field(default_factory=Times)
    """In all others."""


def waits_in(phases: Iterable[Phase], ledger: Ledger) -> Waits:
    """Give how long events waited that were sent in some phases."""
    waits = Waits()
    for phase in phases:
        for handled in ledger.handled.values():
            some = list(_during(handled, phase))
            workers = {each.worker for each in [*some, *_before(handled, phase)]}
            same = len(workers) == 1 and not workers & phase.touched
            for each in some:
                waits.every.add(each.waited_ms)
                (waits.stayed if same else waits.moved).add(each.waited_ms)
    return waits


def _during(handled: Iterable[Handled], phase: Phase) -> Iterator[Handled]:
    since, until = phase.began_ms, phase.over_ms + 1000 * HANDING_OVER
    return (each for each in handled if since <= each.sent_ms < until)


def _before(handled: Iterable[Handled], phase: Phase) -> Iterator[Handled]:
    """Give what shows whose a partition was until then."""
    return (e for e in handled if phase.began_ms - BEFORE <= e.sent_ms < phase.began_ms)
