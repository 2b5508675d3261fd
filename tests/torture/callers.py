"""OpenIM: some of its processes, each with two workers that never send twice."""

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from bridge import openim
from tests.torture.ledger import Fate, Ledger

PAUSE = 0.008
"""Seconds between an answer and a worker's next callback, on average: the receiver is to be
busy, and the machine is to have time for the faults."""

NOBODY_PAUSE = 0.1
"""Seconds after which a worker tries again when nobody listened."""


class Callers:
    """Workers of OpenIM, who send while the gate is open.

    Args:
        url: As in OpenIM's webhooks.yml.
        ledger: Where it is noted.
        chance: Says how long pauses are.
        pause: Seconds between a worker's callbacks, on average.
        behind: Seconds that a worker makes up for when an answer was late, as OpenIM's memory
            does; 0 to pause after each answer.

    Attributes:
        phase: Under which reply times are noted.
        padding: Bytes to add to each body.
        times: Milliseconds from when a callback was due until the reply, by phase.
        failures: Why there was no reply, the last few.

    """

    def __init__(
        self,
        url: str,
        ledger: Ledger,
        chance: random.Random,
        *,
        pause: float = PAUSE,
        behind: float = 0.0,
    ) -> None:
        self.phase = "no fault"
        self.padding = 0
        self.times: dict[str, openim.Times] = defaultdict(openim.Times)
        self.failures: list[str] = []
        self._url = url
        self._ledger = ledger
        self._chance = chance
        self._pause = pause
        self._behind = behind
        self._gate = asyncio.Event()
        self._busy = 0
        self._idle = asyncio.Event()

    def go(self) -> None:
        """Let them send."""
        self._gate.set()

    async def hold(self) -> None:
        """Let them send no more; return when each has its answer."""
        self._gate.clear()
        while self._busy:
            self._idle.clear()
            await self._idle.wait()

    @asynccontextmanager
    async def running(self, processes: int) -> AsyncIterator[None]:
        """Have so many processes during the block."""
        async with AsyncExitStack() as sessions, asyncio.TaskGroup() as tasks:
            working = []
            for number in range(processes):
                process = await sessions.enter_async_context(openim.process(self._url))
                for worker in range(openim.WORKERS):
                    work = self._work(process, number * openim.WORKERS + worker)
                    working.append(tasks.create_task(work))
            try:
                yield
            finally:
                for task in working:
                    task.cancel()

    async def _work(self, process: openim.Process, worker: int) -> None:
        due = time.monotonic()
        while True:
            await self._gate.wait()
            due = max(due, time.monotonic() - self._behind)
            due += self._chance.expovariate(1 / self._pause)
            await asyncio.sleep(due - time.monotonic())
            if not self._gate.is_set():
                continue
            self._busy += 1
            try:
                fate = await self._send(process, worker, due)
            finally:
                self._busy -= 1
                self._idle.set()
            if fate is Fate.NOT_SENT:
                await asyncio.sleep(NOBODY_PAUSE)

    async def _send(self, process: openim.Process, worker: int, due: float) -> Fate:
        label = self._ledger.begin(worker, self.padding)
        phase = self.phase
        answer = await process.post(label.command, label.body)
        fate = self._ledger.end(label, answer)
        if fate is not Fate.NOT_SENT:
            self.times[phase].add(1000 * (time.monotonic() - due))
        if fate is Fate.CUT:
            self.failures = [*self.failures[-9:], f"{phase}: {answer.verdict}"]
        return fate
