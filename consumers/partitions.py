"""Who of the workers takes which partitions: heartbeats, and one rule that all of them know.

Every worker tells all others that it is there. Each computes the same shares from that, by
rendezvous hashing, so that a worker more or less moves little more than it must. While their
views differ, two may consume one partition; its queue then has one of them wait, for it
allows a single active consumer. So a wrong view costs time, never order.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from hashlib import blake2b

import msgspec

from bridge.broker import Delivery

BEAT = 1.0
"""Seconds between heartbeats."""

SILENCE = 4.0
"""Seconds without one after which a worker counts as dead."""

HEARING = 0.3
"""Seconds in which a new worker hears of the others before it takes its share."""


class Heartbeat(msgspec.Struct, frozen=True):
    """What a worker tells the others."""

    worker: str
    subscriptions: tuple[str, ...]
    leaving: bool = False


def share(worker: str, workers: Iterable[str], count: int) -> set[int]:
    """Give the partitions of `worker`, as each of `workers` computes it.

    Args:
        worker: Whose.
        workers: All of them.
        count: How many partitions there are. Shares differ by one at most.

    """
    everybody = set(workers)
    least, more = divmod(count, len(everybody))
    loads = dict.fromkeys(everybody, 0)
    owners: dict[int, str] = {}
    for _, name, partition in sorted(
        (_score(name, partition), name, partition)
        for name in everybody
        for partition in range(count)
    ):
        room = loads[name] < least or (loads[name] == least and more > 0)
        if partition not in owners and room:
            more -= loads[name] == least
            loads[name] += 1
            owners[partition] = name
    return {partition for partition, name in owners.items() if name == worker}


def _score(worker: str, partition: int) -> bytes:
    return blake2b(f"{worker}/{partition}".encode(), digest_size=8).digest()


class Members:
    """The workers that are there, by what they tell.

    Args:
        me: This worker.
        subscriptions: What it works for.

    """

    def __init__(self, me: str, subscriptions: Iterable[str]) -> None:
        self.me = me
        self._mine = Heartbeat(me, tuple(subscriptions))
        self._others: dict[str, tuple[Heartbeat, float]] = {}
        self._asked = asyncio.Event()
        self._changed = asyncio.Event()

    async def of(self, subscription: str) -> AsyncIterator[set[str]]:
        """Give the workers of a subscription, whenever somebody has come or gone."""
        await asyncio.sleep(HEARING)
        while True:
            changed = self._changed
            beats = [self._mine, *(beat for beat, _ in self._others.values())]
            yield {beat.worker for beat in beats if subscription in beat.subscriptions}
            await changed.wait()

    def hear(self, delivery: Delivery) -> None:
        """Take what a worker tells."""
        delivery.ack()
        try:
            beat = msgspec.json.decode(delivery.body, type=Heartbeat)
        except msgspec.MsgspecError:
            return
        if beat.worker == self.me:
            return
        known = beat.worker in self._others
        if beat.leaving:
            self._others.pop(beat.worker, None)
        else:
            self._others[beat.worker] = beat, asyncio.get_running_loop().time()
        if known == beat.leaving:
            # Somebody new does not know of us yet.
            self._asked.set()
            self._note_change()

    async def beat(self, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell the others, again and again, and note who has fallen silent."""
        while True:
            self._asked.clear()
            await tell(msgspec.json.encode(self._mine))
            try:
                async with asyncio.timeout(BEAT):
                    await self._asked.wait()
            except TimeoutError:
                self._drop_silent()

    async def leave(self, tell: Callable[[bytes], Awaitable[None]]) -> None:
        """Tell the others that we go."""
        await tell(msgspec.json.encode(msgspec.structs.replace(self._mine, leaving=True)))

    def _drop_silent(self) -> None:
        since = asyncio.get_running_loop().time() - SILENCE
        silent = [name for name, (_, heard) in self._others.items() if heard < since]
        for name in silent:
            del self._others[name]
        if silent:
            self._note_change()

    def _note_change(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
