"""What came of handling an event once, as told to whoever watches."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, NamedTuple, TypeAlias

from bridge.outcomes import DEAD_LETTER, DUPLICATE, HANDLED, PAUSED, WAITS
from consumers.lanes import Job

if TYPE_CHECKING:
    from bridge.span_kinds import Handling


@dataclass(frozen=True)
class Handled:
    """The handler returned, or its inbox has the message already."""

    duplicate: bool = field(default=False, compare=False)
    """Whether it was not called, for its inbox has the message."""

    @property
    def kind(self) -> str:
        """Its word, as `bridge.outcomes` has it."""
        return DUPLICATE if self.duplicate else HANDLED


@dataclass(frozen=True)
class Waits:
    """It failed, and is tried again."""

    kind: ClassVar[str] = WAITS
    reason: str
    seconds: float
    """Until the next attempt."""


@dataclass(frozen=True)
class DeadLetter:
    """It was rejected, cannot be read, or no attempt is left."""

    kind: ClassVar[str] = DEAD_LETTER
    reason: str


@dataclass(frozen=True)
class Paused:
    """Something that all events need is away; the same attempt comes again."""

    kind: ClassVar[str] = PAUSED
    reason: str


Outcome: TypeAlias = Handled | Waits | DeadLetter | Paused


class Tried(NamedTuple):
    """A handler's turn."""

    handler: str
    """"" if none takes the event."""

    began: float
    """Seconds since 1970."""

    seconds: float
    """How long it took, waiting for the database included."""

    span: "Handling | None" = None
    """Its span, if traces are made."""


Note: TypeAlias = Callable[[Job, Outcome, Tried], None]
"""Told what came of each attempt, from where it is settled: it must not take long."""


def ignore(_job: Job, _outcome: Outcome, _tried: Tried) -> None:
    """Watch nothing."""
