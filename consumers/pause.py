"""A pause of a subscription, while something that all its events need is away."""

import asyncio
import logging
import random

log = logging.getLogger(__name__)

FIRST = 0.5
LONGEST = 5.0
"""Seconds of a pause: doubled from the first to the longest, and then some at random."""


class Pause:
    """Whether a subscription pauses.

    Args:
        subscription: Its name.

    """

    def __init__(self, subscription: str) -> None:
        self._subscription = subscription
        self._open = asyncio.Event()
        self._open.set()
        self._bound = FIRST
        self._reason = ""

    @property
    def reason(self) -> str:
        """Why it pauses, or has paused and nothing was handled since; "" if it does not."""
        return self._reason

    async def over(self) -> None:
        """Wait for the end of the pause."""
        await self._open.wait()

    def begin(self, reason: str) -> None:
        """Pause; the second of two reasons at a time adds nothing."""
        if not self._open.is_set():
            return
        self._open.clear()
        seconds = random.uniform(self._bound / 2, self._bound)  # noqa: S311  # jitter
        self._bound = min(2 * self._bound, LONGEST)
        asyncio.get_running_loop().call_later(seconds, self._open.set)
        if reason != self._reason:
            self._say("paused", reason=reason)
        self._reason = reason

    def end(self) -> None:
        """Note that something was handled: whatever was away is back."""
        if self._reason:
            self._bound, self._reason = FIRST, ""
            self._say("resumed")

    def _say(self, what: str, **facts: str) -> None:
        log.warning(what, extra={"subscription": self._subscription} | facts)
