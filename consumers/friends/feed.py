"""New verification messages, for all who want to hear of them: one look at SQL serves all.

Every quarter of a second the feed asks SQL for what stands behind the last position that it
knows. What it found last is kept in memory, up to some size; a stream that has fallen
further behind, or begins in the past, reads SQL until it has caught up. So nobody has a
buffer that could fill, and where a stream goes on is a number.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from itertools import takewhile
from typing import NamedTuple

import msgspec

from consumers.database import Database, DatabaseAway
from consumers.friends import verifications
from consumers.friends.reading import reading
from consumers.friends.verifications import Verification

log = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two looks at SQL."""

AT_ONCE = 100
"""Messages that are read at a time."""

KEPT = 4 * 2**20
"""Bytes of events that are kept in memory."""


class Happening(NamedTuple):
    """A verification message, and the event that tells of it."""

    position: int
    message: Verification
    event: bytes
    """As it is written to a stream."""


class Feed:
    """What happens, as it happens.

    Attributes:
        position: Up to which it is known what happened; None before the first look.
        trouble: Why SQL cannot be read now; empty if it can.
        read_since: When that ended, in seconds since 1970; 0 while it lasts.
        news: Set, and replaced by another, when there is more, or when it stops.

    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._kept: deque[Happening] = deque()
        self._size = 0
        self._start = 0
        self.position: int | None = None
        self.trouble = "it was not read yet"
        self.read_since = 0.0
        self.news = asyncio.Event()
        self._stop = asyncio.Event()

    async def run(self) -> None:
        """Look for what is new, until told to stop."""
        while not self.stopping:
            try:
                more = await self._look()
            except DatabaseAway as error:
                self._note(str(error))
                more = False
            else:
                self._note("")
            if not more:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), INTERVAL)

    def _note(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            log.warning("database unavailable", extra={"reason": trouble})
            self.read_since = 0.0
        elif self.trouble and not trouble:
            log.info("reading", extra={"position": self.position})
            self.read_since = time.time()
        self.trouble = trouble

    async def _look(self) -> bool:
        """Take in what is new; say whether there may be more at once."""
        if self.position is None:
            async with reading(self._database) as transaction:
                self._start = self.position = await verifications.last_position(transaction)
            return False
        found = await self._read(self.position)
        for happening in found:
            self._keep(happening)
        if found:
            self.position = found[-1].position
            self._announce()
        return len(found) == AT_ONCE

    def _keep(self, happening: Happening) -> None:
        self._kept.append(happening)
        self._size += len(happening.event)
        while self._size > KEPT:
            oldest = self._kept.popleft()
            self._size -= len(oldest.event)
            self._start = oldest.position

    def _announce(self) -> None:
        self.news.set()
        self.news = asyncio.Event()

    def stop(self) -> None:
        """Look no more, and have all who listen go."""
        self._stop.set()
        self._announce()

    @property
    def stopping(self) -> bool:
        """Whether whoever listens shall go."""
        return self._stop.is_set()

    async def newest(self) -> int:
        """Give the position of the message that was added last.

        Raises:
            DatabaseAway: it cannot be read.

        """
        async with reading(self._database) as transaction:
            return await verifications.last_position(transaction)

    async def after(self, position: int) -> Sequence[Happening]:
        """Give what happened behind a position: the first of it, if it is much.

        Raises:
            DatabaseAway: that is long ago, and SQL cannot be read.

        """
        if self.position is None or position < self._start:
            return await self._read(position)
        newer = takewhile(lambda kept: kept.position > position, reversed(self._kept))
        return list(newer)[: -AT_ONCE - 1 : -1]

    async def _read(self, position: int) -> Sequence[Happening]:
        async with reading(self._database) as transaction:
            found = await verifications.after(transaction, position, AT_ONCE)
        return [
            Happening(number, message, _event(number, message)) for number, message in found
        ]


def _event(position: int, message: Verification) -> bytes:
    data = msgspec.json.encode(message)
    return b"id: %d\nevent: %b\ndata: %b\n\n" % (position, message.kind.encode(), data)
