"""The receiver under torture: a process of its own, always at the same address."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from private_services import LOOPBACK, free_port, tied

from tests.running import DEADLINE

WINDOW = 256
"""Messages published and not yet confirmed, at most: the product's own default."""


class Ended(Exception):
    """The receiver ended when it should not have; the message is the end of its log."""


class Receiver:
    """A receiver that can be started and ended in every way there is.

    Args:
        folder: Where its log and its journal are.
        amqp_url: RabbitMQ, or the line to it.

    """

    def __init__(self, folder: Path, amqp_url: str) -> None:
        self.journal = folder / "journal"
        self.log = folder / "receiver.log"
        self.log.touch()
        self._port = free_port()
        self.url = f"http://{LOOPBACK}:{self._port}/callbackExample"
        self._settings = {
            "BRIDGE_AMQP_URL": amqp_url,
            "BRIDGE_PORT": str(self._port),
            "BRIDGE_JOURNAL_PATH": str(self.journal),
            "BRIDGE_GRACE_PERIOD": "1",
            "BRIDGE_WINDOW": str(WINDOW),
            "BRIDGE_CONFIRM_TIMEOUT": "2",
            "BRIDGE_CONNECT_TIMEOUT": "2",
        }
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int:
        """The process that runs."""
        return self._running().pid

    async def start(self) -> None:
        """Start it; return when it takes callbacks."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied(sys.executable, "-m", "bridge", "receive"),
                env={**os.environ, **self._settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        async with asyncio.timeout(DEADLINE):
            while not await self._listens():
                if self._process.returncode is not None:
                    raise Ended(self.log.read_text()[-2000:])
                await asyncio.sleep(0.05)

    async def _listens(self) -> bool:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(LOOPBACK, self._port)
            writer.close()
            return True
        return False

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._running().send_signal(number)

    async def kill(self) -> None:
        """End it as `kill -9` does."""
        self.signal(signal.SIGKILL)
        await self.ended()

    async def stop(self) -> None:
        """End it in good order.

        Raises:
            Ended: it gave another exit code than 0.

        """
        self.signal(signal.SIGTERM)
        if await self.ended() != 0:
            raise Ended(self.log.read_text()[-2000:])

    async def ended(self) -> int:
        """Wait for its end; give the exit code."""
        try:
            async with asyncio.timeout(DEADLINE):
                return await self._running().wait()
        except TimeoutError:
            raise RuntimeError(f"it does not end: {self.log.read_text()[-2000:]}") from None

    async def remove(self) -> None:
        """End it, if it has not ended."""
        process = self._process
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        assert self._process is not None
        return self._process

    def _logged(self) -> list[str]:
        return self.log.read_text().splitlines()

    def outcry(self) -> list[str]:
        """Give what it wrote that is no log line, nor the sentence that it ends with."""
        return [line for line in self._logged() if not line.startswith(("{", "error: "))]

    def copies_allowed(self) -> int:
        """Say how many copies it may have published, by what it has logged.

        On a new connection it repeats at most the window, and after a kill what its mark
        lagged behind, which is less. What a queue refused is offered to all again.
        """
        lines = [json.loads(line) for line in self._logged() if line.startswith("{")]
        connections = len([line for line in lines if line["message"] == "broker connected"])
        refused = [line["messages"] for line in lines if line["message"] == "a queue refuses"]
        return int(max(connections - 1, 0) * 2 * WINDOW + sum(refused))


@asynccontextmanager
async def started(folder: Path, amqp_url: str) -> AsyncIterator[Receiver]:
    """Run a receiver during the block."""
    receiver = Receiver(folder, amqp_url)
    try:
        await receiver.start()
        yield receiver
    except BaseException:
        # Shown beside the failure of the test.
        sys.stderr.write(receiver.log.read_text()[-2000:])
        raise
    finally:
        await receiver.remove()


async def mounted(folder: Path, size: str) -> None:
    """Mount a file system of so many bytes, in memory."""
    await _run("mkdir", "-p", str(folder))
    await _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(folder))


async def unmounted(folder: Path) -> None:
    """Take it away again, with all that is in it."""
    await _run("umount", str(folder))


async def _run(*words: str) -> None:
    process = await asyncio.create_subprocess_exec(*words, stderr=asyncio.subprocess.PIPE)
    _, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"{words[0]}: {said.decode()}")
