"""Puts load on a receiver and prints what it saw, as JSON.

    closed loop   each connection posts as soon as it has the answer to the last
    open loop     callbacks fall due at a fixed rate, whoever is busy: latency counts from
                  when one was due, so that a slow answer delays nobody's measurement

A process of its own with a bare protocol, so that it costs the receiver little.
"""

import argparse
import asyncio
import json
import time
from collections import deque
from pathlib import Path
from typing import cast

SAMPLES = Path(__file__).parent.parent / "tests" / "samples"


class Connection(asyncio.Protocol):
    """One connection; it has one request under way at most."""

    def __init__(self, load: "Load") -> None:
        self._load = load
        self._buffer = b""
        self._length = 0
        self._since = 0.0
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def post(self, due: float) -> None:
        """Send a request that was due at a time."""
        self._since = due
        self.transport.write(self._load.request)

    def data_received(self, data: bytes) -> None:
        """Collect a reply."""
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        if not self._length:
            _, _, rest = self._buffer.lower().partition(b"content-length: ")
            self._length = int(rest.split(b"\r\n", 1)[0])
        if len(self._buffer) < head + 4 + self._length:
            return
        ok = self._buffer.startswith(b"HTTP/1.1 200")
        self._buffer, self._length = b"", 0
        self._load.answered(self, self._since, ok=ok)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count a connection that the receiver closed."""
        self._load.lost(exc)


class Load:
    """A run: so many connections, and a way to choose when each posts."""

    def __init__(self, host: str, port: int, path: str, sample: str) -> None:
        self.address = host, port
        body = (SAMPLES / f"{sample}.json").read_bytes()
        self.request = (
            f"POST {path}/{sample} HTTP/1.1\r\nHost: {host}:{port}\r\n"
            f"User-Agent: Go-http-client/1.1\r\nContent-Length: {len(body)}\r\n"
            "Content-Type: application/json; charset=utf-8\r\nOperationid: bench-1\r\n"
            "Accept-Encoding: gzip\r\n\r\n"
        ).encode() + body
        self.latencies: list[float] = []
        self.errors = 0
        self._due: deque[float] = deque()
        self._idle: list[Connection] = []
        self._left = 0
        self._open = False
        self._finished = asyncio.Event()

    async def connect(self, count: int) -> None:
        """Open the connections."""
        loop = asyncio.get_running_loop()
        for _ in range(count):
            made = await loop.create_connection(lambda: Connection(self), *self.address)
            self._idle.append(made[1])

    async def closed(self, count: int) -> float:
        """Post `count` callbacks, each connection one after the other; give the seconds."""
        self._left = count
        started = time.perf_counter()
        for connection in self._idle:
            self._next(connection)
        await self._finished.wait()
        return time.perf_counter() - started

    async def open(self, count: int, rate: float) -> float:
        """Post `count` callbacks, `rate` a second; give the seconds."""
        self._open, self._left = True, count
        started = time.perf_counter()
        for number in range(count):
            due = started + number / rate
            while (wait := due - time.perf_counter()) > 0:  # noqa: ASYNC110
                await asyncio.sleep(wait)
            if self._idle:
                self._idle.pop().post(due)
            else:
                self._due.append(due)
        await self._finished.wait()
        return time.perf_counter() - started

    def _next(self, connection: Connection) -> None:
        if self._left > 0:
            self._left -= 1
            connection.post(time.perf_counter())

    def answered(self, connection: Connection, since: float, *, ok: bool) -> None:
        """Note an answer, and let the connection go on."""
        self.latencies.append(time.perf_counter() - since)
        self.errors += not ok
        if not self._open:
            self._next(connection)
        elif self._due:
            connection.post(self._due.popleft())
        else:
            self._idle.append(connection)
        if len(self.latencies) == self.expected:
            self._finished.set()

    expected = 0

    def lost(self, exc: Exception | None) -> None:
        """Stop: a run in which a connection breaks means nothing."""
        if not self._finished.is_set():
            self.errors += 1
            self._finished.set()
            print(f"connection lost: {exc}", flush=True)


async def run(arguments: argparse.Namespace) -> dict[str, float]:
    """Run a load and sum it up."""
    load = Load(arguments.host, arguments.port, arguments.path, arguments.sample)
    load.expected = arguments.count
    await load.connect(arguments.connections)
    if arguments.rate:
        seconds = await load.open(arguments.count, arguments.rate)
    else:
        seconds = await load.closed(arguments.count)
    found = sorted(load.latencies)

    def at(part: float) -> float:
        return found[min(int(len(found) * part), len(found) - 1)] * 1000

    return {
        "count": len(found),
        "errors": load.errors,
        "seconds": seconds,
        "rate": len(found) / seconds,
        "p50": at(0.5),
        "p99": at(0.99),
        "p999": at(0.999),
        "max": found[-1] * 1000,
    }


def main() -> None:
    """Read the command line, run, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--path", default="/callbackExample")
    parser.add_argument("--sample", default="callbackAfterSendSingleMsgCommand")
    parser.add_argument("--connections", type=int, default=2)
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--rate", type=float, default=0)
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        result = asyncio.run(run(parser.parse_args()))
    else:
        result = uvloop.run(run(parser.parse_args()))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
