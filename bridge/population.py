"""A population of OpenIM processes at work, as callbacks look from their side.

    before   the operation posts it and waits for the answer
    after    the operation puts it into its process's queue of 100, from which two workers post;
             while the queue is full it waits, for 3 s at most, and then the callback is gone

Operations begin when they are due, whether or not earlier ones have ended, and every time
counts from then: what waits is not measured less often for it.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus

from bridge import openim
from bridge.contract import COMMANDS, Allowed, Refused
from bridge.people import Bodies

QUEUE = 100
"""Callbacks that wait in the memory of one of OpenIM's processes."""

BLOCKED = 3.0
"""Seconds that an operation waits for room among them."""

LATE = 0.1
"""Seconds that this program may be late with an operation before its figures are in doubt."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What the population does."""

    processes: int
    rate: float
    """Operations a second that have a callback, of all processes."""
    seconds: float
    mix: Mapping[str, float]
    """How often each command comes, beside the others."""
    users: int
    groups: int


@dataclass(kw_only=True)
class Counts:
    """What came of the callbacks of one phase."""

    sent: int = 0
    answered: int = 0
    refused: int = 0
    """The operation was not allowed, as somebody has decided."""
    failed: int = 0
    """No answer, or none that says that it was kept: OpenIM does not send it again."""
    dropped: int = 0
    """There was no room for it in OpenIM's memory."""
    unfinished: int = 0
    """Still in OpenIM's memory when the time was over, and for some time after."""
    replies: openim.Times = field(default_factory=openim.Times)
    """From when the operation was due until the answer."""
    blocked: openim.Times = field(default_factory=openim.Times)
    """Of operations that waited for room."""

    @property
    def lost(self) -> int:
        """What OpenIM would have lost."""
        return self.failed + self.dropped + self.unfinished


@dataclass(kw_only=True)
class Outcome:
    """What came of it all."""

    phases: dict[str, Counts] = field(
        default_factory=lambda: {"before": Counts(), "after": Counts()}
    )
    connections: int = 0
    seconds: float = 0.0
    late: float = 0.0
    """Seconds by which this program began an operation too late, at most."""

    @property
    def lost(self) -> int:
        """What OpenIM would have lost."""
        return sum(counts.lost for counts in self.phases.values())


class Process:
    """One of OpenIM's processes."""

    def __init__(self, posting: openim.Process, outcome: Outcome) -> None:
        self.posting = posting
        self._outcome = outcome
        self._queue: asyncio.Queue[_Callback] = asyncio.Queue(QUEUE)

    async def operate(self, command: str, body: bytes, due: float) -> None:
        """Do something that has a callback, as the user who waits for it sees it."""
        callback = _Callback(command, body, due)
        if callback.phase == "before":
            await self._post(callback)
            return
        counts = self._outcome.phases["after"]
        try:
            self._queue.put_nowait(callback)
        except asyncio.QueueFull:
            began = time.perf_counter()
            try:
                await asyncio.wait_for(self._queue.put(callback), BLOCKED)
            except TimeoutError:
                counts.dropped += 1
            counts.blocked.add((time.perf_counter() - began) * 1000)

    async def work(self) -> None:
        """Post what is in the queue, one after the other."""
        while True:
            await self._post(await self._queue.get())
            self._queue.task_done()

    async def empty(self) -> None:
        """Wait until nothing is in the queue, and nothing being posted."""
        await self._queue.join()

    async def _post(self, callback: "_Callback") -> None:
        counts = self._outcome.phases[callback.phase]
        counts.sent += 1
        counts.unfinished += 1
        answer = await self.posting.post(callback.command, callback.body)
        counts.unfinished -= 1
        counts.replies.add((time.perf_counter() - callback.due) * 1000)
        if answer.status >= HTTPStatus.BAD_REQUEST:
            counts.failed += 1
        elif isinstance(answer.verdict, Allowed):
            counts.answered += 1
        elif isinstance(answer.verdict, Refused):
            counts.refused += 1
        else:
            counts.failed += 1

    @property
    def waiting(self) -> int:
        """How many callbacks are in the queue."""
        return self._queue.qsize()


@dataclass(frozen=True)
class _Callback:
    command: str
    body: bytes
    due: float

    @property
    def phase(self) -> str:
        return COMMANDS[self.command].phase


async def simulate(url: str, plan: Plan, outcome: Outcome, tell: Callable[[int], None]) -> None:
    """Have a population of OpenIM's processes at work.

    Args:
        url: As in their webhooks.yml.
        plan: What they do.
        outcome: Where it is noted, from the first callback on.
        tell: Told how many seconds it has been.

    """
    began = time.perf_counter()
    async with _population(url, plan.processes, outcome) as processes:
        try:
            await _operate(processes, plan, outcome, tell)
        finally:
            outcome.seconds = time.perf_counter() - began
            outcome.connections = sum(process.posting.connections for process in processes)
            outcome.phases["after"].unfinished += sum(process.waiting for process in processes)


async def _operate(
    processes: list[Process], plan: Plan, outcome: Outcome, tell: Callable[[int], None]
) -> None:
    bodies = Bodies(plan.mix, plan.users, plan.groups)
    async with asyncio.TaskGroup() as operations:
        began = due = time.perf_counter()
        while due < began + plan.seconds:
            await asyncio.sleep(max(due - time.perf_counter(), 0))
            now = time.perf_counter()
            outcome.late = max(outcome.late, now - due)
            process = random.choice(processes)  # noqa: S311  # no secret
            operations.create_task(process.operate(*bodies.next(), due))
            due += random.expovariate(plan.rate)
            tell(int(now - began))
    # What is in the queues then, OpenIM would go on sending, as long as it runs.
    with suppress(TimeoutError):
        async with asyncio.timeout(openim.TIMEOUT.total):
            for process in processes:
                await process.empty()


@asynccontextmanager
async def _population(url: str, count: int, outcome: Outcome) -> AsyncIterator[list[Process]]:
    async with AsyncExitStack() as sessions, asyncio.TaskGroup() as tasks:
        processes = [
            Process(await sessions.enter_async_context(openim.process(url)), outcome)
            for _ in range(count)
        ]
        working = [
            tasks.create_task(process.work())
            for process in processes
            for _ in range(openim.WORKERS)
        ]
        try:
            yield processes
        finally:
            for task in working:
                task.cancel()
