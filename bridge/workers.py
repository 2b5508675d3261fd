"""Several receivers on one port, one process each, watched by a parent.

Each worker has a listening socket of its own; the system spreads new connections over them.
The parent keeps all of them open, so that what is waiting to be accepted when a worker dies
is accepted by the next one, and nobody sees a reset.
"""

import asyncio
import ctypes
import logging
import os
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

BACKLOG = 1024

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 15.0
"""Seconds before a worker that died is started again; longer if it dies again at once."""

LASTING = 30.0
"""Seconds after which a worker counts as well, and its next death as its first."""

_STOPS = (signal.SIGTERM, signal.SIGINT)
_ALL = (*_STOPS, signal.SIGHUP)

TELLING = 1.0
"""Seconds that a worker may take to tell its metrics."""

_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True, kw_only=True)
class Worker:
    """One of several workers."""

    listener: socket.socket
    path: Path
    """Socket on which it tells the others its metrics; named after its number."""
    paths: tuple[Path, ...]
    """Those of all workers, its own among them."""


Work = Callable[[Worker], int]
"""Receives until SIGTERM, and gives an exit code."""


def sockets(host: str, port: int, count: int) -> list[socket.socket]:
    """Open listening sockets that share one port.

    Raises:
        OSError: the port cannot be had.

    """
    opened: list[socket.socket] = []
    for _ in range(count):
        family, kind, protocol, _name, address = _resolve(host, port)
        listener = socket.socket(family, kind, protocol)
        opened.append(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if count > 1:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            listener.bind(address)
        except OSError as error:
            listener.close()
            raise OSError(
                error.errno,
                f"cannot listen on {host} port {port}: {error.strerror};"
                " choose others with BRIDGE_HOST and BRIDGE_PORT",
            ) from error
        listener.listen(BACKLOG)
        listener.setblocking(False)  # noqa: FBT003  # as the method has it
        port = listener.getsockname()[1]
    return opened


def _resolve(host: str, port: int) -> Any:  # noqa: ANN401  # as getaddrinfo has it
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(
            error.errno, f"BRIDGE_HOST={host!r} is no address of this machine: {error.strerror}"
        ) from error
    return found[0]


class Workers:
    """The parent of some workers.

    Args:
        listeners: A socket for each.
        work: What each does.
        hung_up: Called at SIGHUP, before it is passed on to them.

    """

    def __init__(
        self, listeners: list[socket.socket], work: Work, hung_up: Callable[[], None]
    ) -> None:
        self._hung_up = hung_up
        self._folder = Path(tempfile.mkdtemp(prefix="openim-bridge-"))
        paths = tuple(self._folder / str(number) for number in range(len(listeners)))
        self._workers = [
            Worker(listener=listener, path=path, paths=paths)
            for listener, path in zip(listeners, paths, strict=True)
        ]
        self._work = work
        self._running: dict[int, tuple[Worker, float]] = {}
        self._pause = FIRST_PAUSE
        self._stopping = False

    def run(self) -> int:
        """Run until SIGTERM or SIGINT; give the worst exit code of those asked to stop."""
        for number in _STOPS:
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._pass_on)
        for worker in self._workers:
            self._start(worker)
        worst = 0
        while self._running:
            pid, status = os.wait()
            worker, started = self._running.pop(pid)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                worst = max(worst, abs(code))
            else:
                self._start_again(worker, started, pid, code)
        shutil.rmtree(self._folder, ignore_errors=True)
        return worst

    def _start_again(self, worker: Worker, started: float, pid: int, code: int) -> None:
        lasted = time.monotonic() - started
        self._pause = FIRST_PAUSE if lasted > LASTING else min(2 * self._pause, LONGEST_PAUSE)
        log.error("worker ended", extra={"pid": pid, "code": code, "lasted": round(lasted, 1)})
        until = time.monotonic() + self._pause
        while not self._stopping and time.monotonic() < until:
            time.sleep(0.05)
        if not self._stopping:
            self._start(worker)

    def _start(self, worker: Worker) -> None:
        # A signal between the fork and the note of it would miss the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
        pid = os.fork()
        if pid:
            self._running[pid] = worker, time.monotonic()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)
            return
        code = 1
        try:
            _end_with_parent()
            for number in _STOPS:
                signal.signal(number, signal.SIG_DFL)
            # SIGHUP waits until it listens to that, which it does before it reads the policy.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            code = self._work(worker)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            logging.shutdown()
            os._exit(code)

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self._hung_up()
        self._tell(number)

    def _tell(self, number: int) -> None:
        for pid in list(self._running):
            with suppress(ProcessLookupError):
                os.kill(pid, number)


def _end_with_parent() -> None:
    """Have the system send SIGTERM when the parent dies, where it can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


@asynccontextmanager
async def telling(worker: Worker | None, metrics: Callable[[], bytes]) -> AsyncIterator[None]:
    """Tell the other workers our metrics during the block, if there are others."""
    if worker is None:
        yield
        return

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(metrics())
        writer.close()

    worker.path.unlink(missing_ok=True)
    async with await asyncio.start_unix_server(tell, worker.path):
        yield


async def told(worker: Worker) -> bytes:
    """Give the metrics of all workers; one that is not there is left out."""
    return together(await asyncio.gather(*map(_ask, worker.paths)))


async def _ask(path: Path) -> bytes:
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(TELLING):
            reader, writer = await asyncio.open_unix_connection(path)
            try:
                return await reader.read()
            finally:
                writer.close()
    return b""


def together(texts: list[bytes]) -> bytes:
    """Make one text of metrics in Prometheus' format of several, with the label `worker`.

    They are not added up: a sum falls when a worker dies, or does not tell in time, and
    Prometheus would take what is left for a restart and count it all anew.
    """
    families: dict[bytes, list[bytes]] = {}
    samples: list[bytes] = []
    for number, text in enumerate(texts):
        label = b'worker="%d"' % number
        for line in text.splitlines(keepends=True):
            if line.startswith(b"#"):
                samples = families.setdefault(line, [])
                continue
            series, space, value = line.rpartition(b" ")
            name, brace, labels = series.partition(b"{")
            labels = b"{%b,%b" % (label, labels) if brace else b"{%b}" % label
            samples.append(name + labels + space + value)
    return b"".join(line for family in families.items() for line in (family[0], *family[1]))
