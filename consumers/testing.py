"""Trying handlers without a broker, by the code that settles deliveries in a worker.

async def test_friends_get_coupons() -> None:
    async with without_broker(handlers) as trial:
        event = recorded(AfterAddFriendAgree, from_user_id="ann")
        assert await trial.handle(event) == Handled()
"""

import time
from asyncio import Event as Signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from bridge import openim
from bridge.broker import Copier, Delivery
from bridge.contract import Event, decode
from bridge.intake import Intake
from bridge.message import Ids, Message
from bridge.waiting import first_of
from bridge.wire import Line
from consumers import database
from consumers.calling import Task
from consumers.database import Database
from consumers.lanes import Job, Lanes, Source
from consumers.outcome import DeadLetter, Handled, Outcome, Paused, Tried, Waits
from consumers.pause import Pause
from consumers.registry import EventT, Handler, Handlers
from consumers.settings import Worker as Settings
from consumers.settling import Settling

__all__ = [
    "DeadLetter",
    "Handled",
    "Outcome",
    "Paused",
    "Trial",
    "Waits",
    "recorded",
    "without_broker",
]


def recorded(kind: type[EventT], **changed: object) -> EventT:
    """Give the recorded event of a kind, with some of its fields changed.

    Raises:
        UnknownSample: it is a base class, which OpenIM never sends.
        TypeError: there is no such field.
        msgspec.ValidationError: a field has another type.

    """
    event = decode(*openim.sample(kind.command or kind.__name__))
    body = msgspec.json.encode(msgspec.structs.replace(event, **changed))
    return msgspec.json.decode(body, type=kind)


@dataclass
class Trial:
    """Handlers, and a database for them; `database.transaction()` shows what they wrote."""

    handlers: Handlers
    database: Database
    _ids: Ids = field(default_factory=Ids)

    async def handle(
        self, event: Event, *, message_id: str | None = None, attempt: int = 1
    ) -> Outcome:
        """Have an event handled once; give what comes of it.

        Args:
            event: As OpenIM would send it.
            message_id: A new one unless given; the same twice is a redelivery.
            attempt: 6 is the last, of ordered handlers 7.

        """
        named = message_id or self._ids.mint()
        (outcome,) = await self._settled([delivery_of(event, named)], attempt)
        return outcome

    async def handle_all(self, events: Sequence[Event]) -> list[Outcome]:
        """Have events handled, in batches where the handler takes batches."""
        deliveries = [delivery_of(event, self._ids.mint()) for event in events]
        return await self._settled(deliveries, 1) if deliveries else []

    async def _settled(self, deliveries: Sequence[Delivery], attempt: int) -> list[Outcome]:
        attempts = _Attempts(self)
        await attempts.make(deliveries, attempt)
        return [attempts.outcomes[delivery] for delivery in deliveries]


class _Attempts:
    """One attempt of each delivery, and what came of it."""

    def __init__(self, trial: Trial) -> None:
        self.outcomes: dict[Delivery, Outcome] = {}
        self._paused = Signal()
        self._settling = Settling(
            handlers=trial.handlers,
            lanes=_OneAttempt(most_behind=1),
            pause=Pause(trial.handlers.subscription),
            database=trial.database,
            copier=_NoCopies(),
            settings=Settings(),
            note=self._note,
        )

    async def make(self, deliveries: Sequence[Delivery], attempt: int) -> None:
        source = Source(queue="")
        lanes = self._settling.lanes
        batches: dict[str, list[Task]] = {}
        for delivery in deliveries:
            lanes.put(Job(delivery, source, delivery.message_id, attempt))
            job = await lanes.next()
            found = await self._settling.read(job)
            if found is None:
                continue
            handler, event = found
            tasks = batches.setdefault(handler.name, [])
            tasks.append(Task(job, event))
            if handler.batching is None or len(tasks) == handler.batching.most:
                await self._handle(handler, batches.pop(handler.name))
        for handler in self._settling.handlers.batches:
            if left := batches.get(handler.name):
                await self._handle(handler, left)

    async def _handle(self, handler: Handler, tasks: Sequence[Task]) -> None:
        self._paused.clear()
        # The pause of one event is none of the next one's time.
        settling = replace(self._settling, pause=Pause(self._settling.handlers.subscription))
        # What pauses would be tried for ever; its first outcome is the answer.
        await first_of(settling.handle(handler, tasks), self._paused.wait())
        # A batch that failed goes on one by one, of which the first may have paused.
        for task in tasks:
            if task.job.delivery not in self.outcomes:
                await self._handle(handler, [task])

    def _note(self, job: Job, outcome: Outcome, _tried: Tried) -> None:
        self.outcomes[job.delivery] = outcome
        if isinstance(outcome, Paused):
            self._paused.set()


class _OneAttempt(Lanes):
    """Makes no second attempt at what waits for one."""

    def hold(self, job: Job, seconds: float) -> None:  # noqa: ARG002  # as Lanes has it
        """Be done with it, or it would come in place of the next."""
        self.done(job)


class _NoCopies(Copier):
    """Confirms copies that go nowhere."""

    def __init__(self) -> None:
        """Without a channel."""

    async def publish(
        self,
        delivery: Delivery,
        exchange: str,
        routing_key: str,
        headers: Mapping[str, Any],
        timeout: float,
    ) -> None:
        """Confirm."""


def delivery_of(event: Event, message_id: str) -> Delivery:
    """Give an event as RabbitMQ would deliver it."""
    body = msgspec.json.encode(event)
    key = f"{event.routing_key}.p00"
    message = Message(
        id=message_id,
        routing_key=key,
        command=event.command,
        received_ms=time.time_ns() // 1_000_000,
        body=body,
        operation_id="test",
    ).encode()
    # After the routing key and the length of the properties; see bridge.message.
    properties = message[1 + message[0] + 4 : len(message) - len(body)]
    nobody = Intake(Line(), 0, lambda _: None)
    return Delivery(nobody, 1, key, properties, body, again=False)


@asynccontextmanager
async def without_broker(handlers: Handlers) -> AsyncIterator[Trial]:
    """Try handlers during the block, with an empty SQLite database that is gone afterwards."""
    with TemporaryDirectory() as folder:
        async with database.opened(f"sqlite:///{folder}/test.db") as opened:
            await opened.create_tables()
            yield Trial(handlers, opened)
