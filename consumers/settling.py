"""How one delivery is handled and settled; every one of them is, on every path.

    handled                   commit, then ack
    Retry, or another error   a copy to the wait queue of its step, then ack; in an ordered
                              subscription its key is held, and it is tried again here,
                              less often if too many others wait for it
    Reject, unreadable        a copy to the dead letters, then ack
    no attempt left           the same
    Unavailable, no database  the subscription pauses, then the same attempt again
    stopping, line lost       not settled: RabbitMQ gives it to somebody else

A copy is confirmed before the original is acked, so nothing falls between them; a crash in
between leaves two, under one message id.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from time import perf_counter
from typing import TYPE_CHECKING, Any

from bridge.broker import ConnectionLost, Copier, Delivery
from bridge.contract import Event, MalformedCallback, UnknownCommand, decode
from bridge.topology import DEAD_LETTERS, HOLDS, SCHEDULE, dead_letter_queue, wait_exchange
from consumers import inbox, traces
from consumers.calling import Task, called, ids, in_words, is_handlers
from consumers.database import Database, DatabaseAway
from consumers.lanes import Job, Lanes
from consumers.outcome import DeadLetter, Handled, Note, Paused, Tried, Waits, ignore
from consumers.pause import Pause
from consumers.registry import Handler, Handlers, Reject, Retry, Unavailable
from consumers.settings import Worker as Settings

if TYPE_CHECKING:
    from bridge.spans import Spans

log = logging.getLogger(__name__)

CROWDED = "; given up early, as too many others of its key wait"
"""Is said besides of what is given up before its last attempt."""

HANDLED, DUPLICATE = Handled(), Handled(duplicate=True)


@dataclass(frozen=True, kw_only=True)
class Settling:
    """Handles and settles the deliveries of one subscription."""

    handlers: Handlers
    lanes: Lanes
    pause: Pause
    database: Database
    copier: Copier
    settings: Settings
    note: Note = ignore
    """Told what came of each attempt."""
    spans: "Spans | None" = None
    """Makes traces, if they are wanted."""

    async def read(self, job: Job) -> tuple[Handler, Event] | None:
        """Give a delivery's event and its handler; bury it if there is none."""
        delivery = job.delivery
        try:
            event = decode(delivery.command, delivery.body)
            handler = self._handler(event)
        except (MalformedCallback, UnknownCommand, Reject) as error:
            await self._bury(job, in_words(error), Tried("", time.time(), 0.0))
            self._settled(job)
            return None
        return handler, event

    def _handler(self, event: Event) -> Handler:
        handler = self.handlers.of(type(event))
        if handler is None:
            name = type(event).__name__
            raise Reject(f"no handler of {self.handlers.subscription} takes {name}")
        return handler

    async def handle(self, handler: Handler, tasks: Sequence[Task]) -> None:
        """Have events handled, together, and settle them whatever comes of that."""
        error, tried = await self._attempt(handler, tasks)
        if error is None:
            for task in tasks:
                self._settled(task.job)
                self.note(task.job, DUPLICATE if task.duplicate else HANDLED, tried)
        elif len(tasks) == 1:
            await self._settle_failed(tasks[0].job, error, tried)
        else:
            if tried.span is not None:
                tried.span.end(in_words(error), {"openim.outcome": "tried one by one"})
            for task in tasks:
                await self.handle(handler, [task])

    def _settled(self, job: Job) -> None:
        job.delivery.ack()
        self.lanes.done(job)

    async def _attempt(
        self, handler: Handler, tasks: Sequence[Task]
    ) -> tuple[BaseException | None, Tried]:
        """Call a handler, as often as something that all need is away; give its error."""
        while True:
            await self.pause.over()
            began, clock = time.time(), perf_counter()
            with traces.attempt(
                self.spans, self.handlers.subscription, handler, [task.job for task in tasks]
            ) as span:
                error = await self._call(handler, tasks)
            tried = Tried(handler.name, began, perf_counter() - clock, span)
            if isinstance(error, Unavailable | DatabaseAway):
                self.pause.begin(in_words(error))
                for task in tasks:
                    self.note(task.job, Paused(in_words(error)), tried)
                continue
            if error is None:
                self.pause.end()
            return error, tried

    async def _call(self, handler: Handler, tasks: Sequence[Task]) -> BaseException | None:
        """Call a handler; give what it raises."""
        began, most = perf_counter(), self.settings.handler_timeout
        try:
            if handler.sql:
                await self._call_once(handler, tasks)
            else:
                async with asyncio.timeout(most):
                    await called(handler, tasks, None)
        except BaseException as error:
            if not is_handlers(error):
                raise
            if isinstance(error, TimeoutError) and perf_counter() - began >= most:
                error.args = (f"it took longer than CONSUMERS_HANDLER_TIMEOUT, {most:g} s",)
            return error
        return None

    async def _call_once(self, handler: Handler, tasks: Sequence[Task]) -> None:
        """Call a handler with what its inbox does not have yet."""
        # Waiting for a connection is nobody's fault, and no part of the handler's time.
        async with (
            self.database.room,
            asyncio.timeout(self.settings.handler_timeout),
            self.database.transaction() as transaction,
        ):
            # One batch may hold a message twice; one without an id cannot be told from another.
            named = {id_: task for task in tasks if (id_ := task.job.delivery.message_id)}
            new = await inbox.claim(transaction, handler.name, named) if named else set()
            fresh = [task for task in tasks if not task.job.delivery.message_id]
            fresh += [task for id_, task in named.items() if id_ in new]
            wanted = set(fresh)
            for task in tasks:
                task.duplicate = task not in wanted
            if fresh:
                await called(handler, fresh, transaction)

    async def _settle_failed(self, job: Job, error: BaseException, tried: Tried) -> None:
        last = len(HOLDS if self.handlers.ordered else SCHEDULE)
        if isinstance(error, Reject) or job.attempt > last:
            await self._bury(job, in_words(error), tried)
        elif self.handlers.ordered and self.lanes.crowded(job):
            await self._bury(job, f"{in_words(error)}{CROWDED}", tried)
        elif self.handlers.ordered:
            self._hold(job, error, tried)
            return
        else:
            await self._try_later(job, error, tried)
        self._settled(job)

    def _hold(self, job: Job, error: BaseException, tried: Tried) -> None:
        """Try again here after a while; only deliveries of the same key wait for it."""
        seconds = HOLDS[job.attempt - 1]
        if isinstance(error, Retry) and error.after:
            seconds = min(max(seconds, error.after.total_seconds()), HOLDS[-1])
        _say("key held", job, error, seconds=seconds)
        self.note(job, Waits(in_words(error), seconds), tried)
        job.attempt += 1
        self.lanes.hold(job, seconds)

    async def _try_later(self, job: Job, error: BaseException, tried: Tried) -> None:
        """Put a copy into the wait queue of this attempt's step."""
        at_least = 0.0
        if isinstance(error, Retry) and error.after:
            at_least = error.after.total_seconds()
        fitting = [s for s in SCHEDULE[job.attempt - 1 :] if s >= at_least] or SCHEDULE[-1:]
        reason = in_words(error)
        await self._copy(job, wait_exchange(fitting[0]), job.source.queue, reason, more=1)
        _say("delivery waits", job, error, seconds=fitting[0])
        self.note(job, Waits(reason, fitting[0]), tried)

    async def _bury(self, job: Job, reason: str, tried: Tried) -> None:
        """Put a copy into the dead letters, with the reason."""
        queue = dead_letter_queue(self.handlers.subscription)
        await self._copy(job, DEAD_LETTERS, queue, reason)
        log.error("dead letter", extra=_facts(job, reason))
        self.note(job, DeadLetter(reason), tried)

    async def _copy(
        self, job: Job, exchange: str, routing_key: str, reason: str, more: int = 0
    ) -> None:
        headers = job.delivery.headers
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        added = {
            "x-attempt": job.attempt + more,
            "x-last-error": reason,
            "x-first-failure": headers.get("x-first-failure", now),
            "x-last-failure": now,
            "x-routing-key": headers.get("x-routing-key", job.delivery.routing_key),
        }
        while True:
            try:
                await self.copier.publish(
                    job.delivery, exchange, routing_key, added, self.settings.confirm_timeout
                )
            except ConnectionLost as lost:
                # If it is the line, we are cancelled; else that queue is full or broken.
                self.pause.begin(str(lost))
                await self.pause.over()
            else:
                return


def attempt_of(delivery: Delivery) -> int:
    """Give which attempt a delivery is, 1 at first."""
    if not delivery.may_have("x-attempt"):
        return 1
    attempt = delivery.headers.get("x-attempt", 1)
    return attempt if isinstance(attempt, int) else 1


def _say(what: str, job: Job, error: BaseException, *, seconds: float) -> None:
    log.warning(
        what,
        exc_info=None if isinstance(error, Retry) else error,
        extra=_facts(job, in_words(error)) | {"seconds": seconds},
    )


def _facts(job: Job, reason: str) -> dict[str, Any]:
    return ids(job) | {"attempt": job.attempt, "reason": reason}
