"""What a process waits for: a signal, the first of several things, its turn to connect."""

import asyncio
import random
import signal
from collections.abc import Coroutine
from typing import Any

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 15.0
"""Seconds between attempts to connect: a random part of a bound that doubles from the
first to the longest, so that many processes do not come back in step."""


class Backoff:
    """Waits before each next attempt to connect."""

    def __init__(self) -> None:
        self._bound = FIRST_PAUSE

    def reset(self) -> None:
        """Note that one succeeded."""
        self._bound = FIRST_PAUSE

    async def pause(self) -> None:
        """Wait."""
        bound, self._bound = self._bound, min(2 * self._bound, LONGEST_PAUSE)
        await asyncio.sleep(random.uniform(0, bound))  # noqa: S311  # jitter, no secret


def stop_signal(*more: signal.Signals) -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set, and whatever else shall do so."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, *more):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def hang_up_signal() -> asyncio.Event:
    """Give an event that SIGHUP sets, which would otherwise end the process."""
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    # One that came since the fork of a worker has waited for this.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGHUP})
    return hung_up


def heed_cancellation() -> None:
    """End this task if it was cancelled, even if something has swallowed that.

    Python 3.11's `wait_for`, on which aiormq is built, drops a cancellation that comes together
    with its result. Whoever waits for long asks here first, or a stop would wait with it.
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Run `waits` until the first ends, cancel the others, and raise what it raised.

    Not a TaskGroup: in Python 3.11, one whose task failed leaves the task around it marked
    as cancelled for good, and whoever asks `cancelling` next is misled.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        heed_cancellation()
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
