"""A receiver killed at any moment loses nothing that it answered."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from bridge import openim
from bridge.contract import Allowed
from tests.running import DEADLINE, NOWHERE, everything, until

COMMAND = "callbackAfterUserOnlineCommand"
RECEIVE = "from bridge.cli.main import main; main()"
LOOPS = {
    "uvloop": RECEIVE,
    "asyncio": f"import sys; sys.modules['uvloop'] = None; {RECEIVE}",
}
"""Programs that run a receiver on each event loop."""


class Process:
    """A receiver in a process of its own, and what it logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log = ""
        self.reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.log += line.decode()

    async def url(self) -> str:
        """Wait until it listens."""
        await until(lambda: '"port"' in self.log or self.reading.done())
        port = re.search(r'"port":(\d+)', self.log)
        assert port, self.log
        return f"http://127.0.0.1:{port[1]}/callbackExample"

    async def end(self) -> int:
        """Wait until it has ended; give the exit code."""
        async with asyncio.timeout(DEADLINE):
            await self.reading
            return await self.process.wait()


@asynccontextmanager
async def receiver(
    folder: Path, amqp_url: str, program: str = RECEIVE
) -> AsyncIterator[Process]:
    """Run a receiver as a process; it is killed at the end, if it has not ended."""
    settings = {
        "BRIDGE_AMQP_URL": amqp_url,
        "BRIDGE_PORT": "0",
        "BRIDGE_JOURNAL_PATH": str(folder / "journal"),
        "BRIDGE_GRACE_PERIOD": "2",
    }
    process = Process(
        await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", program, "receive"),
            env=os.environ | settings,
            stderr=asyncio.subprocess.PIPE,
        )
    )
    try:
        yield process
    finally:
        if process.process.returncode is None:
            process.process.kill()
        await process.end()


def body(number: int) -> bytes:
    return b'{"userID":"u","seq":%d}\n' % number


async def post_until_it_dies(url: str, first: int, answered: set[bytes]) -> None:
    """Be OpenIM: two at a time, each sent once."""
    async with openim.process(url) as process:

        async def work(start: int) -> None:
            number = start
            while True:
                answer = await process.post(COMMAND, body(number))
                if answer.verdict != Allowed():
                    return
                answered.add(body(number))
                number += 2

        await asyncio.gather(work(first), work(first + 1))


def _more_than(answered: set[bytes], count: int) -> bool:
    return len(answered) > count


@pytest.mark.parametrize("kills", [5])
@pytest.mark.parametrize("program", LOOPS.values(), ids=LOOPS)
async def test_what_was_answered_before_a_kill_arrives(
    amqp_url: str, tmp_path: Path, kills: int, program: str
) -> None:
    answered: set[bytes] = set()
    async with everything(amqp_url) as seen:
        for round_ in range(kills):
            async with receiver(tmp_path, amqp_url, program) as process:
                url = await process.url()
                posting = asyncio.ensure_future(
                    post_until_it_dies(url, round_ * 1_000_000, answered)
                )
                before = len(answered)
                await until(partial(_more_than, answered, before + 150))
                process.process.kill()
                await posting
        async with receiver(tmp_path, amqp_url, program) as process:
            await process.url()
            await until(lambda: answered <= {message.body for message in seen.messages})
    ids = {message.message_id for message in seen.messages}
    bodies = {message.body for message in seen.messages}
    assert len(ids) == len(bodies)
    # At most what was published and not yet confirmed comes twice, with the same id.
    assert len(seen.messages) - len(ids) <= kills * 256


@pytest.mark.parametrize("program", LOOPS.values(), ids=LOOPS)
async def test_a_stop_is_clean_and_quick(tmp_path: Path, program: str) -> None:
    async with receiver(tmp_path, NOWHERE, program) as process:
        await process.url()
        process.process.terminate()
        assert await process.end() == 0
    assert '"message":"stopped"' in process.log


async def test_a_journal_that_cannot_be_kept_is_a_plain_sentence(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text("in the way")
    async with receiver(tmp_path, NOWHERE) as process:
        assert await process.end() == 3
    assert "error: no journal can be kept in" in process.log
    assert "Traceback" not in process.log


async def test_what_a_dead_process_left_is_published_by_another(
    amqp_url: str, tmp_path: Path
) -> None:
    async with receiver(tmp_path, NOWHERE) as first, receiver(tmp_path, NOWHERE) as second:
        for process in (first, second):
            async with openim.process(await process.url()) as sender:
                for number in range(10):
                    await sender.post(COMMAND, body(number + 100 * (process is first)))
        first.process.kill()
        second.process.kill()
        await first.end()
        await second.end()
    async with everything(amqp_url) as seen, receiver(tmp_path, amqp_url) as third:
        await until(lambda: len({message.body for message in seen.messages}) == 20)
        await until(lambda: not any((tmp_path / "journal" / "1").glob("0*")))
    assert {message.body for message in seen.messages} == {
        body(number + base) for number in range(10) for base in (0, 100)
    }
    assert '"message":"journal adopted"' in third.log
