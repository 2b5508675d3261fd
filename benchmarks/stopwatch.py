"""Measures how fast a consumer gets through what waits in its queue."""

import asyncio
import time


class Stopwatch:
    """Runs from the first message handled to the last.

    Args:
        count: How many there are.

    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._left = count
        self._clock = self._cpu = 0.0
        self.done = asyncio.Event()

    def tick(self, handled: int = 1) -> None:
        """Note that messages were handled."""
        if not self._clock:
            self._clock, self._cpu = time.perf_counter(), time.process_time()
        self._left -= handled
        if not self._left:
            self._clock = time.perf_counter() - self._clock
            self._cpu = time.process_time() - self._cpu
            self.done.set()

    def __str__(self) -> str:
        """Give messages a second, and microseconds of this process's CPU for each."""
        return f"{self._count / self._clock} {self._cpu / self._count * 1e6}"
