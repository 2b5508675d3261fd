"""What an operator sees of the receiver meanwhile, and what it takes of the machine."""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
from yarl import URL

from tests.torture.receiver import Receiver

OFTEN = 0.1
"""Seconds between two looks."""

SHOWN = 30.0
"""Seconds within which a fault has to show, and has to be forgotten once it is over."""

SILENT = "no answer"
BROKER = "broker away or blocked"
FULL = "journal full"

COUNTERS = {
    "callbacks refused by a slow disk": 'openim_bridge_rejected_total{reason="slow_disk"}',
    "messages refused by a queue": 'openim_bridge_messages_total{outcome="refused"}',
}
SLOW_DISK, FULL_QUEUE = COUNTERS

LIMITS = {"memory in MB": 128, "open files": 64, "threads": 16, "log lines a second": 20}
"""What a receiver may take, whatever goes wrong."""


class Watch:
    """Looks at `/readyz?verbose`, `/metrics` and `/proc` all the time.

    Attributes:
        peaks: The most that was seen of what has LIMITS.

    """

    def __init__(self, receiver: Receiver) -> None:
        self.peaks = dict.fromkeys(LIMITS, 0.0)
        self._receiver = receiver
        self._address = URL(receiver.url).origin()
        self._signs: set[str] = set()
        self._counted: dict[str, float] = {}
        self._counting_since = asyncio.get_running_loop().time()
        self._looked = asyncio.Condition()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Look during the block."""
        timeout = aiohttp.ClientTimeout(total=0.5)
        with self._receiver.log.open("rb") as self._log:
            async with aiohttp.ClientSession(self._address, timeout=timeout) as session:
                looking = asyncio.ensure_future(self._look(session))
                try:
                    yield
                finally:
                    looking.cancel()
                    with suppress(asyncio.CancelledError):
                        await looking

    async def shows(self, sign: str) -> list[str]:
        """Wait until an operator sees `sign`; complain if none does."""
        shown = await self._until(lambda: sign in self._signs)
        return [] if shown else [f"nobody sees: {sign}"]

    async def clear(self) -> list[str]:
        """Wait until an operator sees that all is well; complain if none does, or of excess."""
        cleared = await self._until(lambda: not self._signs)
        complaints = [] if cleared else [f"still seen: {', '.join(self._signs)}"]
        return complaints + [
            f"{name}: {most:.0f}, {LIMITS[name]} allowed"
            for name, most in self.peaks.items()
            if most > LIMITS[name]
        ]

    async def _until(self, condition: Callable[[], bool]) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(SHOWN), self._looked:
                await self._looked.wait_for(condition)
        return condition()

    async def _look(self, session: aiohttp.ClientSession) -> None:
        while True:
            await asyncio.sleep(OFTEN)
            self._signs = await self._seen(session)
            # The process may end at any moment.
            with suppress(OSError):
                self._measure()
            async with self._looked:
                self._looked.notify_all()

    async def _seen(self, session: aiohttp.ClientSession) -> set[str]:
        try:
            async with session.get("/readyz?verbose") as answer:
                ready = await answer.json()
            async with session.get("/metrics") as answer:
                metrics = await answer.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return {SILENT}
        broker, signs = ready["broker"], set(self._risen(metrics))
        if broker["blocked"] or not broker["connected"]:
            signs.add(BROKER)
        if ready["journal"]["full"]:
            signs.add(FULL)
        return signs

    def _risen(self, metrics: str) -> Iterator[str]:
        """Name the counters that have risen since the last look."""
        for sign, name in COUNTERS.items():
            found = re.search(rf"^{re.escape(name)} (\S+)$", metrics, re.MULTILINE)
            before = self._counted.get(sign, 0.0)
            self._counted[sign] = float(found[1]) if found else 0.0
            if self._counted[sign] > before:
                yield sign

    def _measure(self) -> None:
        process = Path(f"/proc/{self._receiver.pid}")
        status = process.joinpath("status").read_text()
        found = dict(re.findall(r"^(VmRSS|Threads):\s+(\d+)", status, re.MULTILINE))
        # One that has ended has no memory left.
        self._note("memory in MB", int(found.get("VmRSS", 0)) / 1024)
        self._note("threads", int(found.get("Threads", 0)))
        self._note("open files", len(list(process.joinpath("fd").iterdir())))
        seconds = asyncio.get_running_loop().time() - self._counting_since
        if seconds >= 1:
            self._counting_since += seconds
            self._note("log lines a second", self._log.read().count(b"\n") / seconds)

    def _note(self, name: str, figure: float) -> None:
        self.peaks[name] = max(self.peaks[name], figure)
