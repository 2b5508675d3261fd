"""What came of handling an event once, as told to whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from bridge.broker import Delivery


@dataclass(frozen=True)
class Handled:
    """The handler returned, or its inbox has the message already."""


@dataclass(frozen=True)
class Waits:
    """It failed, and is tried again."""

    reason: str
    seconds: float
    """Until the next attempt."""


@dataclass(frozen=True)
class DeadLetter:
    """It was rejected, cannot be read, or no attempt is left."""

    reason: str


@dataclass(frozen=True)
class Paused:
    """Something that all events need is away; the same attempt comes again."""

    reason: str


Outcome: TypeAlias = Handled | Waits | DeadLetter | Paused

Note: TypeAlias = Callable[[Delivery, Outcome], None]


def ignore(_delivery: Delivery, _outcome: Outcome) -> None:
    """Watch nothing."""
