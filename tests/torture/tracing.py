"""System calls of a process: watched, and tampered with."""

import asyncio
import re
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from private_services import install, tied

from tests.running import DEADLINE

CALLS = "--trace=read,recvfrom,pwrite64,fdatasync,write,writev,sendto,sendmsg"
"""What `replies_after_their_sync` has to see."""

_LINE = re.compile(r"(\d+) +(<\.\.\. (\w+) resumed>)?(.*)")
_NUMBER = re.compile(r'\\"seq\\":(\d+)')


class Trace:
    """What strace saw of a process."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def text(self) -> str:
        """Its lines so far."""
        return self._path.read_text()


@asynccontextmanager
async def traced(pid: int, path: Path, *options: str) -> AsyncIterator[Trace]:
    """Have strace watch a process and its threads during the block, writing to `path`."""
    if shutil.which("strace") is None:
        await asyncio.to_thread(install, "strace")
    tracer = await asyncio.create_subprocess_exec(
        *tied("strace", "-f", "-p", str(pid), "-o", str(path), *options),
        stdin=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert tracer.stderr is not None
    said = b""
    async with asyncio.timeout(DEADLINE):
        while b"attached" not in said:
            line = await tracer.stderr.readline()
            if not line:
                raise RuntimeError(f"strace did not attach: {said.decode()}")
            said += line
    try:
        yield Trace(path)
    finally:
        # While it delays a process that is killed, it hears of nothing.
        with suppress(ProcessLookupError, TimeoutError):
            tracer.send_signal(signal.SIGINT)
            await asyncio.wait_for(tracer.wait(), 1)
        with suppress(ProcessLookupError):
            tracer.kill()
        await tracer.wait()


class Call(NamedTuple):
    """A system call, as it begins or as it ends."""

    thread: str
    name: str
    text: str
    """All that strace says of it so far."""
    begins: bool
    ends: bool

    @property
    def file(self) -> str:
        """Its first argument."""
        return re.split(r"[(,)]", self.text)[1]

    @property
    def numbers(self) -> set[int]:
        """The numbers of the callbacks that it reads or writes."""
        return set(map(int, _NUMBER.findall(self.text)))


def _calls(text: str) -> Iterator[Call]:
    begun: dict[str, str] = {}
    for thread, resumed, _, rest in map(_parts, text.splitlines()):
        whole = begun.pop(thread, "") + rest if resumed else rest
        ends = not whole.endswith("<unfinished ...>")
        if not ends:
            whole = begun[thread] = whole.removesuffix("<unfinished ...>")
        yield Call(thread, whole.partition("(")[0], whole, not resumed, ends)


def _parts(line: str) -> tuple[str, ...]:
    found = _LINE.fullmatch(line)
    assert found is not None, line
    return found.groups("")


def replies_after_their_sync(text: str) -> tuple[int, list[str]]:
    """Judge when replies were written, by what strace saw.

    Bodies name their callback as `"seq":1`, and a connection has one callback at a time.

    Returns:
        How many replies there were, and those whose callback was not yet synced.

    """
    asked: dict[str, int] = {}
    written: dict[str, set[int]] = {}
    synced: set[int] = set()
    replies, early = 0, []
    for call in _calls(text):
        if call.name in {"read", "recvfrom"} and call.ends and "POST /" in call.text:
            (asked[call.file],) = call.numbers
        elif call.name == "pwrite64" and call.ends:
            written[call.thread] = written.get(call.thread, set()) | call.numbers
        elif call.name == "fdatasync" and call.ends and call.text.endswith("= 0"):
            synced |= written.pop(call.thread, set())
        elif "HTTP/1.1 200" in call.text and call.begins:
            replies += 1
            if asked[call.file] not in synced:
                early.append(call.text)
    return replies, early
