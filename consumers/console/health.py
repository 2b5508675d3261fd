"""The plain sentences on top: what is wrong, and what that means for data."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from bridge.topology import REFUSED, UNROUTED
from consumers.console.rabbitmq import State
from consumers.console.receivers import Receivers


class Level(IntEnum):
    """How bad something is."""

    WELL = 0
    NOTICE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that somebody may have to look at."""

    level: Level
    what: str
    """What is so."""
    means: str
    """What that means for data, and what to do."""
    link: str = ""


WELL = Finding(
    level=Level.WELL,
    what="All is well.",
    means="Every callback that was answered has reached RabbitMQ, and every subscription has"
    " somebody who works for it.",
)


def findings(receivers: Receivers, rabbitmq: State) -> list[Finding]:
    """Give what is to be said, the worst first; never nothing."""
    found = [
        *_of_receivers(receivers),
        *_of_the_broker(receivers, rabbitmq),
        *_of_subscriptions(rabbitmq),
        *_of_leftovers(rabbitmq),
    ]
    return sorted(found, key=lambda each: -each.level) or [WELL]


def _of_receivers(receivers: Receivers) -> Iterator[Finding]:
    silent = [each for each in receivers.each if each.trouble]
    names = ", ".join(each.url for each in silent)
    if silent and len(silent) == len(receivers.each):
        yield Finding(
            level=Level.ERROR,
            what=f"No receiver answers ({names}).",
            means="If it does not run, OpenIM's after callbacks are lost, and operations with"
            " before callbacks fail. Start it: what it has stored is on its disk.",
        )
    elif silent:
        yield Finding(
            level=Level.WARNING,
            what=f"A receiver does not answer ({names}).",
            means="The others go on. What it has stored is on its disk.",
        )
    if receivers.unjournalled:
        yield Finding(
            level=Level.WARNING,
            what="The journal has no room.",
            means="Callbacks wait for RabbitMQ's confirm instead: none is lost, replies are"
            " slower. Free disk, or raise BRIDGE_JOURNAL_QUOTA.",
        )
    rejected = receivers.rejected()
    if rejected:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejected.items())
        yield Finding(
            level=Level.WARNING,
            what=f"Requests were refused in the last minute: {reasons}.",
            means="What was refused is not stored. The reference lists the reasons.",
        )


def _of_the_broker(receivers: Receivers, rabbitmq: State) -> Iterator[Finding]:
    since = receivers.away_since
    waiting = f"{receivers.depth:,} callbacks wait in the journal"
    if since is not None:
        yield Finding(
            level=Level.ERROR,
            what=f"RabbitMQ is away since {moment(since)} ({ago(since)}).",
            means=f"Nothing is lost: {waiting} on disk and are published when it is back."
            " Until then no handler gets any.",
        )
    elif rabbitmq.trouble:
        yield Finding(
            level=Level.NOTICE,
            what="RabbitMQ's management API does not answer.",
            means=f"Queues are shown as they were. Callbacks do not go through it."
            f" ({rabbitmq.trouble})",
        )
    if rabbitmq.alarms and not rabbitmq.trouble:
        yield Finding(
            level=Level.ERROR,
            what=f"RabbitMQ is short of {' and '.join(rabbitmq.alarms)}, and takes nothing.",
            means=f"Nothing is lost: {waiting} on disk. Give it more.",
        )


def _of_subscriptions(rabbitmq: State) -> Iterator[Finding]:
    for each in rabbitmq.subscriptions():
        if each.paused:
            yield Finding(
                level=Level.WARNING,
                what=f"{each.name} is paused by {each.paused.who} since"
                f" {moment(each.paused.at)}: {each.paused.reason}",
                means=f"{counted(each.messages, 'callback')} in its queue, none is lost. They"
                " are handled when somebody resumes it.",
                link="/subscriptions",
            )
        if each.orphaned:
            yield Finding(
                level=Level.ERROR if each.ours else Level.WARNING,
                what=f"Nobody works for {each.name}.",
                means=f"{each.messages:,} callbacks wait in its queue, none is lost. Start a"
                " worker with its handlers."
                if each.ours
                else f"{each.messages:,} callbacks wait for that team; above its bound the"
                " oldest are dropped.",
                link="/subscriptions",
            )


def _of_leftovers(rabbitmq: State) -> Iterator[Finding]:
    dead = sum(rabbitmq.dead().values())
    if dead:
        yield Finding(
            level=Level.WARNING,
            what=f"{counted(dead, 'dead letter')} to be looked at.",
            means="No attempt could handle them. They are kept until somebody replays or"
            " discards them.",
            link="/dead-letters",
        )
    if refused := rabbitmq.count(REFUSED):
        yield Finding(
            level=Level.WARNING,
            what=f"{counted(refused, 'callback')} refused by a full queue.",
            means="RabbitMQ keeps them and offers them again every few minutes.",
            link="/flow",
        )
    if unrouted := rabbitmq.count(UNROUTED):
        yield Finding(
            level=Level.NOTICE,
            what=f"{counted(unrouted, 'callback')} that no subscription wanted.",
            means=f"They are kept in the queue {UNROUTED}.",
            link="/events?outcome=none",
        )


def counted(number: int, what: str) -> str:
    """Write a number of things."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def moment(at: float) -> str:
    """Write a time of day, with its date if that is not today."""
    then, now = datetime.fromtimestamp(at, UTC), datetime.now(UTC)
    return f"{then:%H:%M:%S}" if then.date() == now.date() else f"{then:%Y-%m-%d %H:%M:%S}"


def ago(at: float) -> str:
    """Write how long ago something was."""
    return lasting(time.time() - at)


def lasting(seconds: float) -> str:
    """Write a duration with its unit."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    if seconds >= 1:
        return f"{seconds:.0f} s"
    return f"{max(seconds, 0) * 1000:.3g} ms"
