"""What business logic is written with: handlers of events, and three exceptions.

    handlers = Handlers("crm")

    @handlers.on(AfterAddFriendAgree)
    async def note_contact(event: AfterAddFriendAgree, context: Context) -> None:
        ...

    @handlers.on_batch(AfterSendSingleMsg, most=500)
    async def archive(events: Sequence[AfterSendSingleMsg], context: BatchContext) -> None:
        ...

A `Handlers` is a subscription: one queue, whose deliveries are shared by all workers; or, if
it is ordered, a queue for each partition.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeAlias, TypeVar

from bridge.contract import EVENTS, Event
from consumers.context import BatchContext, Context

__all__ = [
    "BadHandlers",
    "BatchContext",
    "Context",
    "Handlers",
    "Reject",
    "Retry",
    "Unavailable",
]

EventT = TypeVar("EventT", bound=Event)

MOST_IN_BATCH = 5000


class Retry(Exception):
    """Raised by a handler: not now, try again.

    Args:
        reason: Kept with the message, for people.
        after: How long to wait at least, but never longer than the longest wait there is: ten
            minutes, or 15 seconds in an ordered subscription. Without it, the schedule says.

    Raises:
        TypeError: `after` is no timedelta, but a number of seconds, say.

    """

    after: timedelta | None = None

    def __init__(self, reason: str, after: timedelta | None = None) -> None:
        if not isinstance(after, timedelta | None):
            raise TypeError(f"after must be like timedelta(seconds=30), and is {after!r}")
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a handler: this will never work; to the dead letters with it."""


class Unavailable(Exception):
    """Raised by a handler: something that all events need is away, such as another service.

    The subscription pauses, for half a second at first and up to five, and then this event
    is tried again. No attempt is counted. A database that is away is noticed without this.
    """


Handle: TypeAlias = Callable[[EventT], Awaitable[None]]
HandleWithContext: TypeAlias = Callable[[EventT, Context], Awaitable[None]]
HandleBatch: TypeAlias = Callable[[Sequence[EventT]], Awaitable[None]]
HandleBatchWithContext: TypeAlias = Callable[[Sequence[EventT], BatchContext], Awaitable[None]]


class BadHandlers(Exception):
    """Handlers that cannot be registered; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How events are collected."""

    most: int
    within: float
    """Seconds from the first event to the call, at most."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered function."""

    name: str
    """With the subscription's before it; it names the handler in the inbox."""

    call: Callable[..., Awaitable[None]]
    """Takes an event, or several if `batching`, and the context if `wants_context`."""

    wants_context: bool
    sql: bool
    """Whether it is called in a transaction, with an inbox."""
    batching: Batching | None = None


class Handlers:
    """The handlers of one subscription.

    Args:
        subscription: Its name, and part of its queue's: lower-case letters, digits, `_`.
        ordered: Whether events with the same ordering key (one conversation, group, user pair
            or user) are handled one after the other, in the order in which they were received.

    """

    def __init__(self, subscription: str, *, ordered: bool = False) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", subscription):
            raise BadHandlers(
                f"{subscription!r} cannot name a subscription: use a-z, 0-9 and _"
            )
        self.subscription = subscription
        self.ordered = ordered
        self._handlers: dict[type[Event], Handler] = {}

    def on(
        self, kind: type[EventT], *, sql: bool = True
    ) -> Callable[
        [Handle[EventT] | HandleWithContext[EventT]], Handle[EventT] | HandleWithContext[EventT]
    ]:
        """Register a function for the events of `kind`, and of every class below it.

        The function takes the event, and the context if it has a second parameter.

        Args:
            kind: A class of events.
            sql: Whether it is called in a transaction, together with an inbox row: then its
                writes happen once for each message. Without, it is called at least once.

        Raises:
            BadHandlers: it is no class of events, the function cannot be called so, or another
                function of this subscription has one of these events.

        """
        events = events_below(kind)

        def register(
            function: Handle[EventT] | HandleWithContext[EventT],
        ) -> Handle[EventT] | HandleWithContext[EventT]:
            self._add(events, self._handler(function, sql=sql))
            return function

        return register

    def on_batch(
        self,
        kind: type[EventT],
        *,
        most: int = 500,
        within: timedelta = timedelta(seconds=1),
        sql: bool = True,
    ) -> Callable[
        [HandleBatch[EventT] | HandleBatchWithContext[EventT]],
        HandleBatch[EventT] | HandleBatchWithContext[EventT],
    ]:
        """Register a function for many events of `kind` at a time.

        If it fails with several, it is called again with each alone, so that a bad one does
        not hold up the others.

        Args:
            kind: A class of events.
            most: How many at most, 1 to 5000.
            within: How long the first may wait for others.
            sql: As of `on`; the events given are those that are new.

        Raises:
            BadHandlers: as of `on`; or the subscription is ordered.

        """
        events = events_below(kind)
        if self.ordered:
            raise BadHandlers(f"{self.subscription} is ordered: batches have no order by key")
        if not 1 <= most <= MOST_IN_BATCH:
            raise BadHandlers(f"most={most} is not between 1 and {MOST_IN_BATCH}")
        batching = Batching(most=most, within=within.total_seconds())

        def register(
            function: HandleBatch[EventT] | HandleBatchWithContext[EventT],
        ) -> HandleBatch[EventT] | HandleBatchWithContext[EventT]:
            self._add(events, self._handler(function, sql=sql, batching=batching))
            return function

        return register

    def _handler(
        self,
        function: Callable[..., Awaitable[None]],
        *,
        sql: bool,
        batching: Batching | None = None,
    ) -> Handler:
        name = getattr(function, "__name__", repr(function))
        if not inspect.iscoroutinefunction(function):
            raise BadHandlers(f"{name} must be an async function")
        wants_context = takes(function, 2)
        if not (wants_context or takes(function, 1)):
            what = "events" if batching else "an event"
            raise BadHandlers(f"{name} must take {what}, or {what} and a context")
        return Handler(
            name=f"{self.subscription}.{name}",
            call=function,
            wants_context=wants_context,
            sql=sql,
            batching=batching,
        )

    def _add(self, events: list[type[Event]], handler: Handler) -> None:
        for event in events:
            other = self._handlers.setdefault(event, handler)
            if other is not handler:
                raise BadHandlers(
                    f"{_own(handler)} and {_own(other)} both take {event.__name__} in"
                    f" {self.subscription}; give one of them a subscription of its own"
                )

    def of(self, event: type[Event]) -> Handler | None:
        """Give the handler of an event's class."""
        return self._handlers.get(event)

    @property
    def name(self) -> str:
        """The subscription's."""
        return self.subscription

    @property
    def batches(self) -> list[Handler]:
        """The handlers that take many events at a time."""
        return [handler for handler in set(self._handlers.values()) if handler.batching]

    @property
    def events(self) -> tuple[str, ...]:
        """Routing keys of the events that are handled, without their partitions."""
        return tuple(sorted(event.routing_key for event in self._handlers))


def _own(handler: Handler) -> str:
    return handler.name.partition(".")[2]


def events_below(kind: type[Event]) -> list[type[Event]]:
    events = [event for event in EVENTS if kind in event.__mro__]
    if not events:
        raise BadHandlers(f"{kind!r} is no event; take a class such as AfterAddFriend")
    return events


def takes(function: Callable[..., object], count: int) -> bool:
    """Say whether a function can be called with so many arguments."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True
