"""Our commands, run as people run them: as processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.running import DEADLINE, until

SOURCE = Path(__file__).parents[1]

BRIDGE = (sys.executable, "-m", "bridge")
CONSUMERS = (sys.executable, "-m", "consumers")


@dataclass
class Command:
    """A command that runs, or has run."""

    process: asyncio.subprocess.Process
    out: str = ""
    err: str = ""
    reading: list[asyncio.Task[None]] = field(default_factory=list)

    async def ended(self) -> int:
        """Wait for its end; give its exit code."""
        async with asyncio.timeout(DEADLINE):
            await asyncio.gather(*self.reading)
            return await self.process.wait()

    async def says(self, text: str) -> None:
        """Wait until it has written `text`, to either stream."""
        await until(lambda: text in self.out + self.err)

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    async def read(self) -> None:
        """Read standard output."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.out += line.decode()

    async def read_errors(self) -> None:
        """Read standard error."""
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.err += line.decode()


@asynccontextmanager
async def started(
    program: tuple[str, ...], *words: str, folder: Path, **variables: str
) -> AsyncIterator[Command]:
    """Run a command during the block, in `folder`, with these variables set."""
    process = await asyncio.create_subprocess_exec(
        *(*program, *words),
        cwd=folder,
        env={**_without_settings(os.environ), "PYTHONPATH": str(SOURCE), **variables},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    command = Command(process)
    async with asyncio.TaskGroup() as tasks:
        command.reading = [
            tasks.create_task(command.read()),
            tasks.create_task(command.read_errors()),
        ]
        try:
            yield command
        finally:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def ran(program: tuple[str, ...], *words: str, folder: Path, **variables: str) -> Command:
    """Run a command to its end."""
    async with started(program, *words, folder=folder, **variables) as command:
        await command.ended()
    return command


def _without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """Leave out what the shell that runs the tests has set for itself."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("BRIDGE_", "CONSUMERS_", "FRIENDS_API_", "CONSOLE_"))
    }
