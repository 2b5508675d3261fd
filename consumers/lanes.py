"""What is handled next: each ordering key in order, everything else side by side.

ready    waits for a runner
lane     the deliveries of one key; one of them is ready, running or held, the others wait
held     failed, and tried again after a while; only its own key waits for it
suspect  came back several times unsettled, as what kills its worker does: handled alone
"""

import asyncio
import random
from collections import deque
from dataclasses import dataclass, field

from bridge.broker import Consumer, Delivery

SUSPICIOUS = 2
"""Deliveries that ended without being settled, after which one is handled alone: if it takes
the process down, it takes no others along, which would come nearer to the delivery limit."""

PATIENT = 4
"""Attempts that a job gets, with the waits between them, however many wait for its key."""

GATHERING = 0.05
"""Seconds before a suspect begins: others come together, and one is picked."""


@dataclass(eq=False)
class Source:
    """A queue that deliveries come from."""

    queue: str
    partition: int | None = None
    """If it is one of an ordered subscription."""
    consumer: Consumer | None = None
    running: int = 0
    closing: bool = False
    """What comes from it is not begun any more: it goes back to RabbitMQ."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """Begin nothing more of it; `idle` says when all that was begun has ended."""
        self.closing = True
        if not self.running:
            self.idle.set()


@dataclass(eq=False, slots=True)
class Job:
    """A delivery to be handled."""

    delivery: Delivery
    source: Source
    key: str
    """Its ordering key; "" if any order will do."""
    attempt: int
    received_ms: int = 0
    """When the bridge received it: milliseconds since 1970."""

    @property
    def suspect(self) -> bool:
        """Whether it may be what killed a worker."""
        return self.delivery.again and _failures(self.delivery) >= SUSPICIOUS


def _failures(delivery: Delivery) -> int:
    """Give how many times RabbitMQ has got a delivery back unsettled."""
    count = delivery.headers.get("x-delivery-count", 0)
    return count if isinstance(count, int) else 0


class Lanes:
    """The jobs of one subscription.

    Args:
        most_behind: Jobs that may wait behind one of their key that goes on failing: they take
            the room of other keys, so it is tried at once then, for the last time.

    """

    def __init__(self, most_behind: int) -> None:
        self.in_hand: dict[Job, None] = {}
        """All that came and is not settled, oldest first."""
        self._ready: asyncio.Queue[Job] = asyncio.Queue()  # bounded by the prefetch
        self._lanes: dict[str, deque[Job]] = {}
        self._held: dict[str, tuple[asyncio.TimerHandle, Job]] = {}
        self._most_behind = most_behind
        self._turns = _Turns()

    def put(self, job: Job) -> None:
        """Take in a delivery."""
        if job.source.closing:
            return
        self.in_hand[job] = None
        if not job.key:
            self._ready.put_nowait(job)
        elif job.key not in self._lanes:
            self._lanes[job.key] = deque()
            self._ready.put_nowait(job)
        else:
            self._lanes[job.key].append(job)
            if job.key in self._held and self.crowded(self._held[job.key][1]):
                self._let_go(job.key)

    async def next(self) -> Job:
        """Wait for a job that may begin; `done` or `hold` must follow."""
        while True:
            job = await self._ready.get()
            await self._turns.take(alone=job.suspect)
            if not job.source.closing:
                job.source.running += 1
                return job
            self._turns.leave()
            del self.in_hand[job]
            self._go_on(job.key)

    def done(self, job: Job) -> None:
        """Let the next of its key begin."""
        del self.in_hand[job]
        self._leave(job)
        self._go_on(job.key)

    def hold(self, job: Job, seconds: float) -> None:
        """Begin a job again after a while; its key waits, no other does."""
        self._leave(job)
        loop = asyncio.get_running_loop()
        self._held[job.key] = loop.call_later(seconds, self._let_go, job.key), job

    def crowded(self, job: Job) -> bool:
        """Say whether too many wait for the key of a job that has failed often enough."""
        behind = len(self._lanes.get(job.key, ()))
        return job.attempt > PATIENT and behind >= self._most_behind

    def _let_go(self, key: str) -> None:
        timer, job = self._held.pop(key)
        timer.cancel()
        self._ready.put_nowait(job)

    def _leave(self, job: Job) -> None:
        self._turns.leave()
        job.source.running -= 1
        if job.source.closing and not job.source.running:
            job.source.idle.set()

    def _go_on(self, key: str) -> None:
        waiting = self._lanes.get(key)
        if waiting:
            self._ready.put_nowait(waiting.popleft())
        elif waiting is not None:
            del self._lanes[key]


class _Turns:
    """Lets jobs run side by side, but suspects one by one, with nothing beside them.

    Suspects come in random order: the innocent among them, who were in the same process as
    the guilty one, are done with after a few more crashes.
    """

    def __init__(self) -> None:
        self._running = 0
        self._alone = False
        self._suspects: list[asyncio.Future[None]] = []
        self._others: list[asyncio.Future[None]] = []

    async def take(self, *, alone: bool) -> None:
        if not (alone or self._alone or self._suspects):
            self._running += 1
            return
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        (self._suspects if alone else self._others).append(turn)
        # Not at once: the first to come is the first to have been lent, mostly the guilty one.
        loop.call_later(GATHERING, self._give)
        await turn

    def leave(self) -> None:
        self._running -= 1
        if self._running:
            return
        if self._alone and self._suspects:
            # Its ack has to be on its way before the next may take the process down.
            asyncio.get_running_loop().call_later(GATHERING, self._give)
        else:
            self._give()

    def _give(self) -> None:
        if self._running:
            return
        was_alone, self._alone = self._alone, False
        if self._suspects and not (was_alone and self._others):
            self._alone = True
            turns = [self._suspects.pop(random.randrange(len(self._suspects)))]  # noqa: S311
        else:
            turns, self._others = self._others, []
        self._running = len(turns)
        for turn in turns:
            if not turn.done():
                turn.set_result(None)
