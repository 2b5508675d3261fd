"""A worker: takes the deliveries of some subscriptions and has them handled.

Worker    connects, and works until it is stopped
Work      what it does for one subscription: its queues, its runners, its batches
Deciding  what it answers receivers who ask
"""

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from bridge.broker import Broker, BrokerError, connect
from bridge.deliveries import FAILURES as BROKER_FAILURES
from bridge.message import Ids
from bridge.rights import SHARED
from bridge.topology import WORKERS
from bridge.waiting import first_of
from consumers import inbox, needs, traces
from consumers.database import FAILURES, Database
from consumers.deciding import Deciding
from consumers.decisions import Decisions
from consumers.lanes import Job
from consumers.messages import archive
from consumers.metrics import Metrics
from consumers.outcome import Note, Outcome, Tried
from consumers.partitions import Members
from consumers.pauses import Pauses
from consumers.records import Records
from consumers.registry import Handlers
from consumers.settings import Worker as Settings
from consumers.work import Work

if TYPE_CHECKING:
    from bridge.spans import Spans

log = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 15.0
"""Seconds between attempts to connect, as in the forwarder."""

ENDING = 10.0
"""Seconds in which handlers end that were cancelled, before the process is given up."""

TIDYING = 60.0
"""Seconds between two looks at what may be forgotten."""


@asynccontextmanager
async def _grouped(endless: Callable[[], None]) -> AsyncIterator[asyncio.TaskGroup]:
    """Give a group for the tasks of handlers; call `endless` if they outlive it for long."""
    loop, timer = asyncio.get_running_loop(), None
    try:
        async with asyncio.TaskGroup() as tasks:
            try:
                yield tasks
            finally:
                timer = loop.call_later(ENDING, endless)
    except ExceptionGroup as group:
        raise group.exceptions[0] from group
    finally:
        if timer is not None:
            timer.cancel()


@dataclass
class Worker:
    """Runs the handlers of some subscriptions."""

    settings: Settings
    subscriptions: Sequence[Handlers]
    database: Database
    decisions: Sequence[Decisions] = ()
    give_up: Callable[[], object] = lambda: None
    """Ends the process, as a handler does not end by itself."""
    name: str = field(default_factory=lambda: Ids().mint())
    spans: "Spans | None" = None
    """Makes traces, if they are wanted."""
    _bound: float = FIRST_PAUSE
    _trouble: str = ""

    def __post_init__(self) -> None:
        self.records = Records(self.settings, self.name)
        self.metrics = Metrics(self)
        self.pauses = Pauses(self.database)
        self.works: list[Work] = []
        """What is done now; nothing while RabbitMQ is away."""
        self.reason = "not connected yet"
        """Why not connected, if not."""
        self.stopping = False

    async def run(self, stop: asyncio.Event) -> None:
        """Connect, work until the connection breaks, wait, connect again; until `stop`."""
        await first_of(
            self._work_until(stop), self._tidy(), self.records.run(), self.pauses.run()
        )

    async def _work_until(self, stop: asyncio.Event) -> None:
        try:
            await self._keep_working(stop)
        finally:
            await self.records.published()
            await self.pauses.end()

    async def _keep_working(self, stop: asyncio.Event) -> None:
        # What is paused must not be begun before that is known.
        await first_of(stop.wait(), self.pauses.known.wait())
        while not stop.is_set():
            try:
                await self._work(stop)
            except BrokerError as error:
                self._note_away(str(error))
                pause = random.uniform(0, self._bound)  # noqa: S311  # jitter, no secret
                await first_of(stop.wait(), asyncio.sleep(pause))
                self._bound = min(2 * self._bound, LONGEST_PAUSE)

    def _note_here(self, works: list[Work]) -> None:
        self._bound, self._trouble = FIRST_PAUSE, ""
        self.works, self.reason = works, ""
        names = [handlers.subscription for handlers in self.subscriptions]
        decides = [decisions.name for decisions in self.decisions]
        log.info("working", extra={"subscriptions": names, "decisions": decides})

    def _note_away(self, reason: str) -> None:
        self.works, self.reason = [], reason
        if reason != self._trouble:
            log.warning("broker unavailable", extra={"reason": reason})
        self._trouble = reason

    async def _work(self, stop: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            # RabbitMQ short of memory stops reading from who publishes: on one connection
            # the acks would stop with the copies.
            consuming, copying = [
                await stack.enter_async_context(
                    connect(
                        self.settings.broker_url,
                        name=f"openim-consumers {purpose}",
                        timeout=self.settings.connect_timeout,
                    )
                )
                for purpose in ("consuming", "copying")
            ]
            works = await self._declared(consuming, copying)
            deciding = Deciding(
                self.decisions,
                consuming,
                copying,
                self.settings,
                self.metrics.decided,
                spans=self.spans,
            )
            everything: list[Work | Deciding] = [*works, deciding]
            async with _grouped(self._note_endless) as tasks:
                for each in everything:
                    await each.start(tasks)
                self._note_here(works)
                await first_of(
                    stop.wait(),
                    consuming.until_lost(),
                    copying.until_lost(),
                    self._share(consuming, copying, works),
                    *(work.heed() for work in works),
                )
                self.stopping = True
                await asyncio.gather(*(each.finish() for each in everything))
                for each in everything:
                    each.cancel()

    def _note_endless(self) -> None:
        log.error("a handler does not end, though it was cancelled: the process is given up")
        self.give_up()

    async def _declared(self, consuming: Broker, copying: Broker) -> list[Work]:
        await consuming.declare(SHARED)
        copier = await copying.copier()
        works = []
        for handlers in self.subscriptions:
            await consuming.declare(needs.of(handlers, self.settings))
            works.append(
                Work(
                    handlers,
                    consuming,
                    copier,
                    self.database,
                    self.settings,
                    pauses=self.pauses,
                    note=self._note(handlers.subscription),
                    spans=self.spans,
                )
            )
        return works

    def _note(self, subscription: str) -> Note:
        count, record = self.metrics.of(subscription), self.records.of(subscription)
        trace = traces.noting(self.spans, subscription)

        def note(job: Job, outcome: Outcome, tried: Tried) -> None:
            count(job, outcome, tried)
            record(job, outcome, tried)
            trace(job, outcome, tried)

        return note

    async def _share(self, consuming: Broker, copying: Broker, works: Sequence[Work]) -> None:
        """Take our partitions of the ordered subscriptions, whoever comes and goes."""
        ordered = [work for work in works if work.handlers.ordered]
        if not ordered:
            await asyncio.Event().wait()
        members = Members(self.name, [work.handlers.subscription for work in ordered])
        await consuming.watch(WORKERS, [""], members.hear, most=1000)
        tell = await copying.teller(WORKERS)
        try:
            await first_of(members.beat(tell), *(work.balance(members) for work in ordered))
        finally:
            with suppress(BrokerError, *BROKER_FAILURES):
                await members.leave(tell)

    async def _tidy(self) -> None:
        """Remove what is old from the inbox and from the message archive."""
        inbox_days = timedelta(days=self.settings.inbox_days)
        messages_days = timedelta(days=self.settings.messages_days)
        while True:
            try:
                async with self.database.room, self.database.transaction() as transaction:
                    forgotten = await inbox.forget(transaction, inbox_days)
                    forgotten += await archive.forget(transaction, messages_days)
            except FAILURES:
                forgotten = 0  # handlers say that it is away
            if forgotten < inbox.FORGOTTEN_AT_ONCE:
                await asyncio.sleep(TIDYING)
