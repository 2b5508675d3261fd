"""What a process waits for: a signal, or the first of several things."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any


def stop_signal() -> asyncio.Event:
    """Give an event that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def hang_up_signal() -> asyncio.Event:
    """Give an event that SIGHUP sets, which would otherwise end the process."""
    hung_up = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hung_up.set)
    return hung_up


async def first_of(*waits: Coroutine[Any, Any, object]) -> None:
    """Run `waits` until the first ends, cancel the others, and raise what it raised.

    Not a TaskGroup: in Python 3.11, one whose task failed leaves the task around it marked
    as cancelled for good, and whoever asks `cancelling` next is misled.
    """
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
