"""The workers: processes that are started and ended in every way there is."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from private_services import tied

from tests.torture.workers import effects

PATIENCE = 60.0
"""Seconds within which a worker starts or ends, on a machine that is busy."""


@dataclass(eq=False)
class Worker:
    """One of them."""

    process: asyncio.subprocess.Process
    log: Path

    @property
    def at_work(self) -> bool:
        """Whether it has taken its share of the partitions."""
        return '"partitions"' in self.log.read_text()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it is there."""
        with suppress(ProcessLookupError):
            self.process.send_signal(number)

    async def ended(self) -> int:
        """Wait for its end; give the exit code."""
        async with asyncio.timeout(PATIENCE):
            return await self.process.wait()


class Staff:
    """All of them.

    Args:
        folder: For their logs.
        amqp_url: An empty virtual host.
        database_url: An empty database of PostgreSQL.

    Attributes:
        present: Those that have not been told to go.
        wrong: What they should not have done.

    """

    def __init__(self, folder: Path, amqp_url: str, database_url: str) -> None:
        self.present: list[Worker] = []
        self.wrong: list[str] = []
        self.amqp_url, self.database_url = amqp_url, database_url
        self._folder = folder
        self._hired = 0
        self._settings = {
            "CONSUMERS_AMQP_URL": amqp_url,
            "CONSUMERS_DATABASE_URL": database_url,
            "CONSUMERS_HANDLERS": effects.__name__,
        }

    async def hire(self, count: int = 1) -> list[Worker]:
        """Start some, and wait until they are at work."""
        workers = [await self._start() for _ in range(count)]
        async with asyncio.timeout(PATIENCE):
            while not all(worker.at_work for worker in workers):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return workers

    async def _start(self) -> Worker:
        self._hired += 1
        log = self._folder / f"worker-{self._hired}.log"
        with log.open("wb") as file:
            process = await asyncio.create_subprocess_exec(
                *tied(sys.executable, "-m", "consumers", "work"),
                env={**os.environ, **self._settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        worker = Worker(process, log)
        self.present.append(worker)
        return worker

    async def kill(self, *workers: Worker) -> None:
        """End some as `kill -9` does, all at once."""
        for worker in workers:
            self.present.remove(worker)
            worker.signal(signal.SIGKILL)
        for worker in workers:
            await worker.ended()

    async def stop(self, worker: Worker) -> None:
        """End one in good order."""
        self.present.remove(worker)
        worker.signal(signal.SIGTERM)
        code = await worker.ended()
        if code != 0:
            self.wrong.append(f"exit code {code}: {worker.log.read_text()[-500:]}")

    def missing(self) -> list[str]:
        """Name those that ended though nobody told them to."""
        codes = [worker.process.returncode for worker in self.present]
        return [f"a worker ended by itself with {code}" for code in codes if code is not None]
