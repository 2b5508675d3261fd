"""The work for one subscription on one connection."""

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.broker import Broker, Copier, Delivery
from bridge.topology import work_queue
from bridge.waiting import heed_cancellation
from consumers.calling import Task
from consumers.database import Database
from consumers.lanes import Job, Lanes, Source
from consumers.outcome import Note
from consumers.partitions import Members, share
from consumers.pause import Pause
from consumers.pauses import PausedBy, Pauses
from consumers.registry import Handler, Handlers
from consumers.settings import Worker as Settings
from consumers.settling import Settling, attempt_of

if TYPE_CHECKING:
    from bridge.spans import Spans

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class State:
    """How the work for a subscription is."""

    in_hand: int
    """Deliveries that came and are not settled."""

    oldest: float
    """Seconds since the oldest of them was received; 0 if there is none."""

    paused: str
    """What all events need and is away, if it pauses for that."""

    paused_by: PausedBy | None
    """Who has paused it, if people have."""

    partitions: list[int] | None
    """Those held, of an ordered one."""


class Work:
    """Runs the handlers of one subscription.

    Args:
        handlers: Whose.
        consuming: The connection that deliveries come from.
        copier: Publishes those that failed.
        database: SQL for handlers.
        settings: The worker's.
        pauses: What people have paused.
        note: Told what came of each attempt.
        spans: Makes traces, if they are wanted.

    """

    def __init__(  # noqa: PLR0913  # what handling needs
        self,
        handlers: Handlers,
        consuming: Broker,
        copier: Copier,
        database: Database,
        settings: Settings,
        *,
        pauses: Pauses,
        note: Note,
        spans: "Spans | None" = None,
    ) -> None:
        self.handlers = handlers
        self._consuming = consuming
        self._settings = settings
        self._pauses = pauses
        self._lanes = Lanes(most_behind=max(settings.prefetch // 2, 1))
        self._pause = Pause(handlers.subscription)
        self._settling = Settling(
            handlers=handlers,
            lanes=self._lanes,
            pause=self._pause,
            database=database,
            copier=copier,
            settings=settings,
            note=note,
            spans=spans,
        )
        self._batches = {handler: _Batch(handler) for handler in handlers.batches}
        self._share: set[int | None] = set()
        self._sources: dict[int | None, Source] = {}
        self._taking = asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def state(self) -> "State":
        """How it is now."""
        jobs = self._lanes.in_hand
        oldest = min((job.received_ms for job in jobs if job.received_ms), default=None)
        partitions = [each for each in self._sources if each is not None]
        return State(
            in_hand=len(jobs),
            oldest=0.0 if oldest is None else max(time.time() - oldest / 1000, 0.0),
            paused=self._pause.reason,
            paused_by=self._paused_by,
            partitions=sorted(partitions) if self.handlers.ordered else None,
        )

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to handle, in `tasks`; an ordered subscription gets its queues in `balance`."""
        self._tasks = [tasks.create_task(self._run()) for _ in range(self._settings.prefetch)]
        for batch in self._batches.values():
            self._tasks.append(tasks.create_task(self._run_batches(batch)))
        if not self.handlers.ordered:
            self._share = {None}
        await self._take()

    @property
    def _paused_by(self) -> PausedBy | None:
        return self._pauses.now.get(self.handlers.subscription)

    async def heed(self) -> None:
        """Take nothing while people have paused the subscription."""
        async for _ in self._pauses.changes():
            await self._take()

    async def balance(self, members: Members) -> None:
        """Hold our share of the partitions, whoever comes and goes."""
        name, count = self.handlers.subscription, self._settings.partitions
        async for workers in members.of(name):
            ours = share(members.me, workers, count)
            log.info("partitions", extra={"subscription": name, "partitions": sorted(ours)})
            self._share = set(ours)
            await self._take()

    async def _take(self) -> None:
        """Hold the queues that are ours, but none of a subscription that is paused."""
        async with self._taking:
            wanted = set() if self._paused_by else self._share
            held = set(self._sources)
            await asyncio.gather(
                *(self._close(partition) for partition in held - wanted),
                *(self._open(partition) for partition in wanted - held),
            )

    async def _open(self, partition: int | None) -> None:
        source = Source(work_queue(self.handlers.subscription, partition), partition)
        self._sources[partition] = source
        key = _ordering_key if self.handlers.ordered else _no_key

        def take(delivery: Delivery) -> None:
            self._lanes.put(
                Job(delivery, source, key(delivery), attempt_of(delivery), delivery.received_ms)
            )

        prefetch = max([self._settings.prefetch, *(2 * most for most in self._most_in_batch())])
        source.consumer = await self._consuming.consume(source.queue, take, prefetch=prefetch)

    def _most_in_batch(self) -> Iterable[int]:
        return (h.batching.most for h in self._batches if h.batching)

    async def _close(self, partition: int | None) -> None:
        """Give a queue back, when what was begun of it has ended."""
        source = self._sources[partition]
        source.close()
        if source.consumer is not None and not self.handlers.ordered:
            # What came and is not begun goes back as a delivery that failed, which RabbitMQ
            # counts. In an ordered subscription the next to take must wait for what has begun.
            await source.consumer.stop()
        await source.idle.wait()
        del self._sources[partition]
        if source.consumer is not None:
            await source.consumer.close()

    async def _run(self) -> None:
        while True:
            heed_cancellation()
            job = await self._lanes.next()
            found = await self._settling.read(job)
            if found is None:
                continue
            handler, event = found
            batch = self._batches.get(handler)
            if batch is None or job.suspect:
                await self._settling.handle(handler, [Task(job, event)])
            else:
                batch.add(Task(job, event))

    async def _run_batches(self, batch: "_Batch") -> None:
        while True:
            heed_cancellation()
            await self._settling.handle(batch.handler, await batch.next())

    async def finish(self) -> None:
        """Begin nothing more, and let what has begun come to its end, for a while."""
        for source in self._sources.values():
            source.close()
        try:
            async with asyncio.timeout(self._settings.grace_period):
                for source in self._sources.values():
                    await source.idle.wait()
        except TimeoutError:
            log.warning(
                "handlers did not finish", extra={"seconds": self._settings.grace_period}
            )

    def cancel(self) -> None:
        """End what still runs; its transactions are rolled back."""
        for task in self._tasks:
            task.cancel()


def _ordering_key(delivery: Delivery) -> str:
    """Give what a delivery is in order with; one without a key is so with nothing else."""
    return str(delivery.headers.get("ce-partitionkey") or f"\0{delivery.message_id}")


def _no_key(_delivery: Delivery) -> str:
    return ""


class _Batch:
    """Events that wait to be handled together."""

    def __init__(self, handler: Handler) -> None:
        if handler.batching is None:
            raise TypeError("it takes one event at a time")
        self.handler = handler
        self._batching = handler.batching
        self._waiting: list[Task] = []
        self._first = asyncio.Event()
        self._full = asyncio.Event()

    def add(self, task: Task) -> None:
        self._waiting.append(task)
        self._first.set()
        if len(self._waiting) >= self._batching.most:
            self._full.set()

    async def next(self) -> list[Task]:
        """Wait for a batch: a full one, or what came within the time."""
        await self._first.wait()
        try:
            async with asyncio.timeout(self._batching.within):
                await self._full.wait()
        except TimeoutError:
            pass
        most = self._batching.most
        batch, self._waiting = self._waiting[:most], self._waiting[most:]
        if not self._waiting:
            self._first.clear()
        if len(self._waiting) < most:
            self._full.clear()
        return batch
