"""Callbacks on disk, from their receipt until RabbitMQ has confirmed them.

    append ──► one write and one fdatasync for all that wait ──► read ──► confirm
                                                                             │
                                              the mark moves, old segments go ◄

One process owns a journal. Its disk is touched in one thread beside the event loop, so a
slow disk delays whoever waits for it and nobody else.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, TypeAlias, TypeVar

from bridge import mark, segments, set_aside
from bridge.segments import (
    HEAD,
    Damage,
    JournalBroken,
    JournalFull,
    Record,
    Segment,
    record_size,
)

__all__ = ["Journal", "JournalBroken", "JournalFull", "Record"]

log = logging.getLogger(__name__)

Result = TypeVar("Result")

Done: TypeAlias = Callable[[JournalFull | None], None]
"""Called when a payload is durable, or with why it was not stored."""

Waiting: TypeAlias = list[tuple[bytes, Done]]

SEGMENT_SIZE = 16 * 2**20
"""Bytes of a segment: a small part of any quota, and seldom a new file."""

AHEAD_SIZE = 4 * 2**20
"""Bytes of payloads held in memory for the reader; the rest waits on disk."""

CHUNK_SIZE = 2**20
"""Bytes read from disk at once."""

MARK_LAG = 128
"""Records that may be confirmed before the mark is written without delay."""

MARK_DELAY = 0.05
"""Seconds that the mark may lag behind while nothing is stored: what is confirmed in them
comes again after a crash."""


class Journal:
    """An open journal; `run` must run while it is used.

    Args:
        folder: Where it lies; locked by the caller.
        quota: Bytes it may take on disk.

    """

    def __init__(self, folder: Path, quota: int) -> None:
        self._folder = folder
        self._quota = quota
        self._loop = asyncio.get_running_loop()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="journal", daemon=True)
        self._damage: set[Damage] = set()
        self._full = False
        self._mark = mark.Mark(folder)
        self._old = {path: path.stat().st_size for path in segments.segments(folder)}
        self._segment: Segment | None = None
        self._last = self._recovered()
        self._durable = self._last
        self._waiting: Waiting = []
        self._storing = False
        self._marking: asyncio.TimerHandle | None = None
        self._confirmed = self._marked = self._mark.number
        self._failure: asyncio.Future[None] = self._loop.create_future()
        self._arrived = asyncio.Event()
        self._read = self._confirmed
        self._ahead: deque[Record] = deque()
        self._ahead_size = 0
        self._place = (Path(), 0, 0)
        self._drop_confirmed()
        self._thread.start()

    def _recovered(self) -> int:
        """Find the last number in use, from the mark and the newest records."""
        for path in reversed(list(self._old)):
            newest, reading = 0, segments.read(path, 0, 0, CHUNK_SIZE)
            while reading.records:
                self._note(reading.damage)
                newest = reading.records[-1].number
                reading = segments.read(path, reading.offset, 0, CHUNK_SIZE)
            self._note(reading.damage)
            if newest:
                return max(self._mark.number, newest)
            # Nothing in it was ever answered for, and its name is needed again.
            self._remove(path)
        return self._mark.number

    @property
    def confirmed(self) -> int:
        """Number up to which every record is in RabbitMQ."""
        return self._confirmed

    @property
    def depth(self) -> int:
        """How many durable records are not confirmed."""
        return self._durable - self._confirmed

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(list(self._old.values())) + (self._segment.size if self._segment else 0)

    @property
    def full(self) -> bool:
        """Whether the last payload found no room, and none was made since."""
        return self._full

    @property
    def damaged(self) -> int:
        """Bytes of it that were found damaged since it was opened."""
        return sum(damage.length for damage in list(self._damage))

    @property
    def newest(self) -> int:
        """Number of the newest durable record."""
        return self._durable

    def append(self, payload: bytes, done: Done) -> None:
        """Store `payload`, and call `done` when it is durable.

        If the disk fails, `done` is never called, and `run` ends.
        """
        self._waiting.append((payload, done))
        if not self._storing:
            self._storing = True
            self._store_soon()

    def store(self, payload: bytes) -> asyncio.Future[None]:
        """Store `payload`; the future is done when it is durable.

        Cancelling the future changes nothing: the payload is stored all the same.

        Raises:
            JournalFull: out of the future; nothing was stored.

        """
        future = self._loop.create_future()
        self.append(payload, partial(_resolve, future))
        return future

    def confirm(self, number: int) -> None:
        """Forget every record up to `number`.

        The mark is written with what is stored next, or else a little later: to write it at
        once would make the next callback wait for it.
        """
        self._confirmed = number
        if number - self._marked >= MARK_LAG and not self._storing:
            self._store_mark()
        elif not self._marking and number > self._marked:
            self._marking = self._loop.call_later(MARK_DELAY, self._store_mark)

    def set_aside(self, record: Record) -> asyncio.Future[Path]:
        """Keep a record that nobody can publish in a file of its own; give its path.

        Raises:
            OSError: out of the future; the record is still in the journal.

        """
        return self._in_thread(partial(set_aside.keep, self._folder, record))

    async def read(self, after: int, most: int) -> list[Record]:
        """Give the durable records after number `after`, when there are any.

        There is one reader, who goes forward, or back to what is not confirmed.

        Args:
            after: The last number that the reader has had.
            most: How many records at most.

        """
        if after != self._read:
            self._ahead.clear()
            self._ahead_size = 0
            self._read = after
        while not self._ahead:
            await self._look_ahead()
        batch = [self._ahead.popleft() for _ in range(min(most, len(self._ahead)))]
        self._ahead_size -= sum(len(record.payload) for record in batch)
        self._read = batch[-1].number
        return batch

    async def _look_ahead(self) -> None:
        """Fetch what the reader needs next, or wait until there is something."""
        durable = self._durable
        if durable == self._read:
            self._arrived.clear()
            await self._arrived.wait()
            return
        if loaded := await self._in_thread(partial(self._load, self._read)):
            self._ahead.extend(loaded)
            self._ahead_size = sum(len(record.payload) for record in loaded)
        else:
            # Damage took them all; what comes later may be sound.
            self._read = durable

    async def run(self) -> None:
        """Wait for the disk to fail.

        Raises:
            OSError: it did. The process must end: after a failed sync the kernel may have
                dropped the data and forgotten the error, so a second try proves nothing.

        """
        await asyncio.shield(self._failure)

    def _store_soon(self) -> None:
        """Store what waits, two turns of the loop from now.

        Replies go out together, so the next callbacks come together, and whoever just misses
        a sync waits for two: the turns let in what has arrived while the first was read.
        """
        self._loop.call_soon(self._loop.call_soon, self._store_waiting)

    def _store_mark(self) -> None:
        if self._storing:
            self._marking = self._loop.call_later(MARK_DELAY, self._store_mark)
        else:
            self._storing = True
            self._store_waiting()

    def _store_waiting(self) -> None:
        if self._marking:
            self._marking.cancel()
            self._marking = None
        batch, self._waiting = self._waiting, []
        self._marked = self._confirmed
        self._jobs.put(partial(self._store_in_thread, batch, self._confirmed))

    def _store_in_thread(self, batch: Waiting, confirmed: int) -> None:
        records: list[Record] = []
        error: JournalFull | OSError | None = None
        try:
            records = self._store([payload for payload, _ in batch], confirmed)
        except (JournalFull, OSError) as caught:
            error = caught
        self._loop.call_soon_threadsafe(self._stored, batch, records, error)

    def _stored(
        self, batch: Waiting, records: list[Record], error: JournalFull | OSError | None
    ) -> None:
        if isinstance(error, OSError):
            # Nobody is answered: nothing may be counted on any more.
            if not self._failure.done():
                self._failure.set_exception(error)
            return
        self._full = error is not None if batch else self._full
        # Replies first: OpenIM waits for them, and nobody for the forwarder.
        for _, done in batch:
            done(error)
        self._keep(records)
        self._storing = bool(self._waiting)
        if self._waiting:
            self._store_soon()

    def _keep(self, records: list[Record]) -> None:
        """Note that `records` are durable; hold them in memory if the reader is that far."""
        if not records:
            return
        last_held = self._ahead[-1].number if self._ahead else self._read
        if last_held == self._durable and self._ahead_size < AHEAD_SIZE:
            self._ahead.extend(records)
            self._ahead_size += sum(len(record.payload) for record in records)
        self._durable = records[-1].number
        self._arrived.set()

    def _work(self) -> None:
        """Do the jobs, in a thread of their own, until there is None."""
        while job := self._jobs.get():
            job()

    def _in_thread(self, work: Callable[[], Result]) -> asyncio.Future[Result]:
        """Do `work` in the thread, after what waits there; the future has its result."""
        done: asyncio.Future[Result] = self._loop.create_future()

        def job() -> None:
            try:
                tell = partial(_resolve_with, done, work())
            except (JournalBroken, OSError) as error:
                tell = partial(_fail, done, error)
            self._loop.call_soon_threadsafe(tell)

        self._jobs.put(job)
        return done

    def _store(self, payloads: list[bytes], confirmed: int) -> list[Record]:
        if confirmed > self._mark.number:
            self._mark.set(confirmed)
            self._drop_confirmed()
        if not payloads:
            return []
        records = [Record(n, p) for n, p in enumerate(payloads, start=self._last + 1)]
        size = sum(map(record_size, payloads))
        if self._segment is None or not self._segment.has_room(size):
            self._segment = self._next_segment(size)
        self._segment.write(records)
        self._last = records[-1].number
        return records

    def _next_segment(self, size: int) -> Segment:
        if self._segment is not None:
            self._old[self._segment.path] = self._segment.size
            self._segment.close()
            self._segment = None
            self._drop_confirmed()
        size = max(SEGMENT_SIZE, size + len(HEAD))
        if self.size + size > self._quota:
            raise JournalFull(f"the quota of {self._quota} bytes is used up")
        return Segment(self._folder, self._last + 1, size)

    def _drop_confirmed(self) -> None:
        """Remove the segments whose every record is confirmed."""
        paths = list(self._old)
        nexts = [int(path.name) for path in paths[1:]]
        nexts.append(int(self._segment.path.name) if self._segment else self._last + 1)
        for path, following in zip(paths, nexts, strict=False):
            if following > self._mark.number + 1:
                break
            self._remove(path)

    def _remove(self, path: Path) -> None:
        """Remove a segment; keep a damaged one for whoever can read it."""
        if any(damage.segment == path for damage in self._damage):
            path.rename(path.with_suffix(".damaged"))
        else:
            path.unlink()
            self._full = False
        del self._old[path]

    def _note(self, damage: list[Damage]) -> None:
        for found in set(damage) - self._damage:
            self._damage.add(found)
            log.error(
                "journal damaged",
                extra={
                    "segment": str(found.segment),
                    "offset": found.offset,
                    "bytes": found.length,
                },
            )

    def _load(self, after: int) -> list[Record]:
        """Read on from disk, where the last reading ended or else where `after` lies."""
        path, offset, had = self._place
        if had != after:
            path, offset = Path(), 0
        for candidate in self._from(path, after):
            current = self._segment is not None and candidate == self._segment.path
            end = self._segment.end if current and self._segment else None
            start = offset if candidate == path else 0
            reading = segments.read(candidate, start, after, CHUNK_SIZE, end)
            self._note(reading.damage)
            if reading.records:
                self._place = (candidate, reading.offset, reading.records[-1].number)
                return reading.records
        return []

    def _from(self, path: Path, after: int) -> list[Path]:
        """List the segments to read, the first of which holds the record after `after`."""
        paths = [*self._old, *([self._segment.path] if self._segment else [])]
        if path in paths:
            return paths[paths.index(path) :]
        earlier = [p for p in paths if int(p.name) <= after + 1]
        return paths[max(len(earlier) - 1, 0) :]

    def close(self) -> None:
        """Store what still waits, unless the disk has failed, and close the files."""
        self._jobs.put(None)
        self._thread.join()
        try:
            self._store([payload for payload, _ in self._waiting], self._confirmed)
        except (OSError, JournalFull) as error:
            log.error(  # noqa: TRY400  # no traceback: the disk is at fault
                "journal not stored", extra={"lost": len(self._waiting), "reason": str(error)}
            )
        if self._segment is not None:
            self._segment.close()
        self._mark.close()


def _resolve(future: asyncio.Future[None], full: JournalFull | None) -> None:
    if full is None:
        _resolve_with(future, None)
    else:
        _fail(future, full)


def _resolve_with(future: asyncio.Future[Result], result: Result) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
