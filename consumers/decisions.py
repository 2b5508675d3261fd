"""What decides about before callbacks: functions that answer OpenIM while it waits.

    decisions = Decisions("moderation")

    @decisions.on(BeforeSendSingleMsg)
    async def moderate(event: BeforeSendSingleMsg) -> Allow | Refuse:
        ...

They are asked about what the policy's `ask` is about, and answered for by the policy where they
do not answer in time.
"""

import inspect
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from time import monotonic
from typing import Any, TypeAlias, TypeVar

from bridge.contract import Allow, Before, Change, Event, Refuse, Reply
from consumers.context import EventLog
from consumers.registry import BadHandlers, events_below, takes

BeforeT = TypeVar("BeforeT", bound=Before)


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is known of a question beside the event."""

    message_id: str
    """The same as of the callback's message, which comes after the answer."""
    operation_id: str
    """OpenIM's trace id; not always there, not always unique."""
    deadline: float
    """When an answer comes too late, by `time.monotonic`."""
    log: EventLog
    """Adds the ids to each line."""

    @property
    def seconds_left(self) -> float:
        """How long OpenIM still waits; then the function is cancelled."""
        return max(self.deadline - monotonic(), 0.0)


Decide: TypeAlias = Callable[[BeforeT], Awaitable[Allow | Refuse | Change[BeforeT]]]
DecideWithQuestion: TypeAlias = Callable[
    [BeforeT, Question], Awaitable[Allow | Refuse | Change[BeforeT]]
]


@dataclass(frozen=True, kw_only=True)
class Decider:
    """A registered function."""

    name: str
    """With that of its `Decisions` before it: subscribers see it in `x-verdict-source`."""
    call: Callable[..., Awaitable[Reply]]
    """Takes the event, and the question if `wants_question`."""
    wants_question: bool


class Decisions:
    """Functions that decide.

    Args:
        name: Of them all: lower-case letters, digits, `_`.

    """

    def __init__(self, name: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,29}", name):
            raise BadHandlers(f"{name!r} cannot name decisions: use a-z, 0-9 and _")
        self.name = name
        self._deciders: dict[type[Event], Decider] = {}

    def on(
        self, kind: type[BeforeT]
    ) -> Callable[
        [Decide[BeforeT] | DecideWithQuestion[BeforeT]],
        Decide[BeforeT] | DecideWithQuestion[BeforeT],
    ]:
        """Register a function for the before callbacks of `kind`, and of every class below it.

        It takes the event, and the `Question` if it has a second parameter, and gives `Allow`,
        `Refuse`, or what to change. It may be asked again about the same callback.

        Raises:
            BadHandlers: OpenIM does not ask about it, the function cannot be called so, or
                another function decides about it.

        """
        events = [event for event in events_below(kind) if issubclass(event, Before)]
        if not events:
            raise BadHandlers(f"{kind.__name__} only reports: there is nothing to decide")

        def register(
            function: Decide[BeforeT] | DecideWithQuestion[BeforeT],
        ) -> Decide[BeforeT] | DecideWithQuestion[BeforeT]:
            decider = self._decider(function)
            for event in events:
                if self._deciders.setdefault(event, decider) is not decider:
                    raise BadHandlers(f"two functions decide about {event.__name__}")
            return function

        return register

    def _decider(self, function: Callable[..., Awaitable[Any]]) -> Decider:
        name = getattr(function, "__name__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise BadHandlers(f"{name} must be an async function")
        wants_question = takes(function, 2)
        if not (wants_question or takes(function, 1)):
            raise BadHandlers(f"{name} must take an event, or an event and a question")
        return Decider(name=f"{self.name}.{name}", call=function, wants_question=wants_question)

    def of(self, event: type[Event]) -> Decider | None:
        """Give what decides about an event's class."""
        return self._deciders.get(event)

    @property
    def events(self) -> tuple[type[Event], ...]:
        """The callbacks that are decided about."""
        return tuple(sorted(self._deciders, key=lambda event: event.command))
