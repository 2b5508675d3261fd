"""What business logic is written with: handlers of events, and two exceptions.

    handlers = Handlers("crm")

    @handlers.on(AfterAddFriendAgree)
    async def note_contact(event: AfterAddFriendAgree, context: Context) -> None:
        ...

A `Handlers` is a subscription: one queue, whose deliveries are shared by all workers.
"""

import importlib
import inspect
import logging
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeAlias, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.contract import EVENTS, Event

EventT = TypeVar("EventT", bound=Event)


class Retry(Exception):
    """Raised by a handler: not now, try again.

    Args:
        reason: Kept with the message, for people.
        after: How long to wait at least; without it, the schedule says.

    """

    def __init__(self, reason: str, after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.after = after


class Reject(Exception):
    """Raised by a handler: this will never work; to the dead letters with it."""


class EventLog(logging.LoggerAdapter[logging.Logger]):
    """Adds an event's ids to the facts of each line."""

    def process(
        self, msg: object, kwargs: MutableMapping[str, Any]
    ) -> tuple[object, MutableMapping[str, Any]]:
        """Merge the ids and what the caller adds."""
        kwargs["extra"] = {**(self.extra or {}), **kwargs.get("extra", {})}
        return msg, kwargs


@dataclass(frozen=True, kw_only=True)
class Context:
    """What is known about an event beside its body."""

    message_id: str
    """The same for every copy and redelivery of one callback."""

    attempt: int
    """1 at first."""

    received: datetime
    """When the bridge took it from OpenIM, UTC."""

    operation_id: str
    """OpenIM's trace id; not always there, not always unique."""

    transaction: AsyncConnection
    """SQL; committed when the handler returns, rolled back when it raises."""

    log: EventLog
    """Adds the ids to each line."""


Handle: TypeAlias = Callable[[EventT], Awaitable[None]]
HandleWithContext: TypeAlias = Callable[[EventT, Context], Awaitable[None]]
AnyHandle = TypeVar("AnyHandle", bound=Callable[..., Awaitable[None]])


class BadHandlers(Exception):
    """Handlers that cannot be registered; the message says which and why."""


@dataclass(frozen=True, kw_only=True)
class Handler:
    """A registered function."""

    name: str
    call: HandleWithContext[Any]


class Handlers:
    """The handlers of one subscription.

    Args:
        subscription: Its name, and part of its queue's: lower-case letters, digits, `_`.

    """

    def __init__(self, subscription: str) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]{0,59}", subscription):
            raise BadHandlers(
                f"{subscription!r} cannot name a subscription: use a-z, 0-9 and _"
            )
        self.subscription = subscription
        self._handlers: dict[type[Event], Handler] = {}

    def on(
        self, kind: type[EventT]
    ) -> Callable[
        [Handle[EventT] | HandleWithContext[EventT]], Handle[EventT] | HandleWithContext[EventT]
    ]:
        """Register a function for the events of `kind`, and of every class below it.

        The function takes the event, and the context if it has a second parameter.

        Raises:
            BadHandlers: it is no class of events, the function cannot be called so, or another
                function of this subscription has one of these events.

        """
        events = [event for event in EVENTS if kind in event.__mro__]
        if not events:
            raise BadHandlers(f"{kind!r} is no event; take a class such as AfterAddFriend")

        def register(
            function: Handle[EventT] | HandleWithContext[EventT],
        ) -> Handle[EventT] | HandleWithContext[EventT]:
            handler = _handler(function)
            for event in events:
                self._add(event, handler)
            return function

        return register

    def _add(self, event: type[Event], handler: Handler) -> None:
        other = self._handlers.setdefault(event, handler)
        if other is not handler:
            raise BadHandlers(
                f"{handler.name} and {other.name} both take {event.__name__} in"
                f" {self.subscription}; give one of them a subscription of its own"
            )

    def of(self, event: type[Event]) -> Handler | None:
        """Give the handler of an event's class."""
        return self._handlers.get(event)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Binding patterns of the events that are handled, whatever their partition."""
        return tuple(sorted(f"{event.routing_key}.*" for event in self._handlers))


def _handler(function: Callable[..., Awaitable[None]]) -> Handler:
    name = getattr(function, "__name__", repr(function))
    if not inspect.iscoroutinefunction(function):
        raise BadHandlers(f"{name} must be an async function")
    wants_context = _takes(function, 2)
    if not (wants_context or _takes(function, 1)):
        raise BadHandlers(f"{name} must take an event, or an event and a context")

    async def without_context(event: Event, _context: Context) -> None:
        await function(event)

    return Handler(name=name, call=function if wants_context else without_context)


def _takes(function: Callable[..., object], count: int) -> bool:
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    return True


def load(modules: Iterable[str]) -> list[Handlers]:
    """Import `modules` and collect the handlers in them.

    Raises:
        BadHandlers: a module cannot be imported, has no handlers, or two have one name.

    """
    found: dict[str, Handlers] = {}
    for name in modules:
        for handlers in _in_module(name):
            if found.setdefault(handlers.subscription, handlers) is not handlers:
                raise BadHandlers(f"two subscriptions are called {handlers.subscription}")
    return list(found.values())


def _in_module(name: str) -> list[Handlers]:
    try:
        module = importlib.import_module(name)
    except (ImportError, SyntaxError) as error:
        raise BadHandlers(f"the handler module {name} cannot be imported: {error}") from error
    found = [value for value in vars(module).values() if isinstance(value, Handlers)]
    if not found:
        raise BadHandlers(f"the handler module {name} has no Handlers in it")
    for handlers in found:
        if not handlers.patterns:
            raise BadHandlers(
                f"no function of {name} handles anything for {handlers.subscription}"
            )
    return found
