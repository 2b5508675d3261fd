"""The page Flow: the way of a callback as a picture, with rates and depths on it."""

from collections.abc import Sequence
from dataclasses import dataclass

from bridge.topology import ARCHIVE, CALLBACKS, REFUSED, UNROUTED
from consumers.console.health import Level, counted
from consumers.console.plots import short
from consumers.console.rabbitmq import State, Subscription
from consumers.console.receivers import Receivers
from consumers.console.rendering import Shown
from consumers.console.sources import Asked, Sources

STEP, TALL, WIDE = 66, 48, 164
"""Of the picture: from one row to the next, height and width of a box."""

COLUMNS = (10, 222, 434, 646)
"""Where the boxes of each column begin."""

MOST_ROWS = 12
"""Subscriptions in the picture; the others are in the list below it."""


@dataclass(frozen=True, kw_only=True)
class Box:
    """A place where callbacks are."""

    name: str
    said: str
    """What is to be known of it, in few words."""
    x: int
    y: int
    level: Level = Level.WELL
    of: str = ""
    """The subscription that it is of, if its name does not say that."""

    @property
    def in_full(self) -> str:
        """What it is called where it stands alone."""
        return f"{self.of}, {self.name}" if self.of else self.name


@dataclass(frozen=True, kw_only=True)
class Way:
    """What leads from a place to the next."""

    x1: int
    y1: int
    x2: int
    y2: int
    said: str
    level: Level = Level.WELL
    moving: bool = False

    @property
    def at(self) -> tuple[int, int]:
        """Where stands what is said of it: near its end, where ways are apart."""
        return self.x2 - 25, self.y2 - 7

    @property
    def path(self) -> str:
        """How it is drawn."""
        middle = (self.x1 + self.x2) // 2
        if self.y2 - self.y1 > abs(self.x2 - self.x1) or self.x2 < self.x1:
            between = (self.y1 + self.y2) // 2
            bend = f"C{self.x1} {between} {self.x2} {between}"
            return f"M{self.x1} {self.y1}{bend} {self.x2} {self.y2}"
        return f"M{self.x1} {self.y1}C{middle} {self.y1} {middle} {self.y2} {self.x2} {self.y2}"


@dataclass(frozen=True, kw_only=True)
class Picture:
    """All places and ways."""

    boxes: Sequence[Box]
    ways: Sequence[Way]
    height: int

    @property
    def stuck(self) -> list[Box]:
        """Where something waits that does not go on by itself."""
        return [box for box in self.boxes if box.level >= Level.WARNING]


async def page(sources: Sources, _asked: Asked) -> Shown:
    """Show the way of a callback."""
    return {
        "picture": picture(sources.receivers, sources.rabbitmq),
        "rabbitmq": sources.rabbitmq,
    }


def picture(receivers: Receivers, rabbitmq: State) -> Picture:
    """Draw the way of a callback, from OpenIM to the handlers."""
    subscriptions = rabbitmq.subscriptions()[:MOST_ROWS]
    rows = max(len(subscriptions), 3)
    middle = 10 + (rows - 1) * STEP // 2
    rate = sum(rate for _, rate in receivers.rates())
    receiver, broker = _receivers(receivers, middle), _exchange(receivers, rabbitmq, middle)
    archive, unrouted, refused, between = _aside(rabbitmq, rows)
    boxes = [receiver, broker, archive, unrouted, refused, between]
    ways = [
        _way(receiver, broker, rate, stuck=receivers.away_since is not None),
        *(_way(broker, each, 0.0) for each in (archive, unrouted, refused)),
    ]
    for row, each in enumerate(subscriptions):
        queue, end = _of(each, row)
        boxes += [queue, end]
        ways += [
            _way(broker, queue, each.coming),
            _way(queue, end, each.going, stuck=each.orphaned),
        ]
    return Picture(boxes=boxes, ways=ways, height=30 + rows * STEP + TALL)


def _receivers(receivers: Receivers, y: int) -> Box:
    there = [each for each in receivers.each if not each.trouble]
    level = Level.WELL if len(there) == len(receivers.each) else Level.ERROR
    if receivers.depth and receivers.away_since is not None:
        level = Level.ERROR
    return Box(
        name="Receiver" if len(receivers.each) == 1 else f"{len(there)} receivers",
        said=f"{short(receivers.depth)} in the journal" if there else "does not answer",
        x=COLUMNS[0],
        y=y,
        level=level,
    )


def _exchange(receivers: Receivers, rabbitmq: State, y: int) -> Box:
    away = receivers.away_since is not None
    stopped = away or bool(rabbitmq.alarms)
    said = "away" if away else "takes nothing" if rabbitmq.alarms else f"{CALLBACKS}"
    return Box(
        name="RabbitMQ",
        said=said,
        x=COLUMNS[1],
        y=y,
        level=Level.ERROR if stopped else Level.WELL,
    )


def _aside(rabbitmq: State, rows: int) -> tuple[Box, ...]:
    """Give what does not lead on: the archive, and what nobody wanted or took."""
    places = (
        ("Archive", "kept", rabbitmq.count(ARCHIVE), Level.WELL),
        ("Unrouted", "kept", rabbitmq.count(UNROUTED), Level.NOTICE),
        ("Refused", "kept", rabbitmq.count(REFUSED), Level.WARNING),
        ("Between attempts", "wait", rabbitmq.between, Level.NOTICE),
    )
    return tuple(
        Box(
            name=name,
            said=f"{short(count)} {does}",
            x=x,
            y=20 + rows * STEP,
            level=level if count else Level.WELL,
        )
        for x, (name, does, count, level) in zip(COLUMNS, places, strict=True)
    )


def _of(each: Subscription, row: int) -> tuple[Box, Box]:
    """Give the queue of a subscription, and who works for it."""
    y = 10 + row * STEP
    queue = Box(
        name=each.name,
        said=f"{short(each.messages)} in the queue" + (", paused" if each.paused else ""),
        x=COLUMNS[2],
        y=y,
        level=_level(each),
    )
    dead = f", {short(each.dead)} dead" if each.dead else ""
    end = Box(
        name=counted(each.consumers, "consumer"),
        of=each.name,
        said=f"{short(each.going)}/s settled{dead}",
        x=COLUMNS[3],
        y=y,
        level=max(_level(each), Level.WARNING if each.dead else Level.WELL),
    )
    return queue, end


def _level(each: Subscription) -> Level:
    if each.orphaned:
        return Level.ERROR
    return Level.WARNING if each.paused else Level.WELL


def _way(start: Box, end: Box, rate: float, *, stuck: bool = False) -> Way:
    if end.y > start.y and end.said.endswith("kept"):
        # To what lies below.
        x1, y1, x2, y2 = start.x + WIDE // 2, start.y + TALL, end.x + WIDE // 2, end.y
    else:
        x1, y1, x2, y2 = start.x + WIDE, start.y + TALL // 2, end.x, end.y + TALL // 2
    return Way(
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        said="stuck" if stuck else f"{short(rate)}/s" if rate else "",
        level=Level.ERROR if stuck else Level.WELL,
        moving=rate > 0 and not stuck,
    )
