"""Measures the console with a full archive: its pages, its memory, and whom it slows down."""

import asyncio
import contextlib
import http.client
import os
import re
import sqlite3
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aio_pika
from private_services import free_port
from table import Row, most
from under_test import Bench, load

from bridge.topology import ARCHIVE, work_queue
from consumers.console.routes import TABS

EVENTS = 100_000
"""In the archive, all of them handled: as many as the index holds by default."""

SAMPLES = {
    "callbackAfterSendSingleMsgCommand": EVENTS // 2,
    "callbackAfterSendGroupMsgCommand": EVENTS // 4,
    "callbackAfterAddFriendCommand": EVENTS // 4,
}

SUBSCRIPTION = "bench_console"

HANDLERS = f"""
from bridge.contract import Event
from consumers.registry import Handlers

handlers = Handlers("{SUBSCRIPTION}")


@handlers.on(Event, sql=False)
async def ignore(_event: Event) -> None:
    pass
"""

PASSWORD = "a-password-for-this-run"  # noqa: S105  # nobody's

LOOKS = 60
"""How often each page is loaded."""

FILTERS = ("command=AfterAddFriend", "user=user_a", "outcome=dead_letter", "text=nothing")
"""Of the page of events: one that finds many, by user, and two that find none."""

PATIENCE = 300.0
"""Seconds in which all events are in the index."""

BAR = 300
"""Milliseconds that a page may take."""

GROWTH = 100
"""MB that it may grow by."""


@dataclass
class Browser:
    """Somebody who has logged in, on a connection that stays."""

    port: int
    cookie: str = ""

    def __post_init__(self) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        form = urllib.parse.urlencode({"name": "admin", "password": PASSWORD})
        kind = {"Content-Type": "application/x-www-form-urlencoded"}
        self._connection.request("POST", "/login", form, kind)
        answer = self._connection.getresponse()
        answer.read()
        self.cookie = answer.headers["Set-Cookie"].partition(";")[0]

    def loads(self, path: str) -> tuple[float, str]:
        """Load a page; give the milliseconds it took, and the page."""
        began = time.perf_counter()
        self._connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = self._connection.getresponse()
        text = answer.read().decode()
        if answer.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{path} is answered with {answer.status}")
        return (time.perf_counter() - began) * 1000, text


@dataclass
class Console:
    """A console, in a process of its own."""

    process: subprocess.Popen[bytes]
    port: int
    index: Path

    def resident(self) -> float:
        """Give its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def has(self, table: str) -> int:
        """Count the rows of a table of its index."""
        with contextlib.closing(sqlite3.connect(f"file:{self.index}?mode=ro", uri=True)) as sql:
            return int(sql.execute(f"SELECT COUNT(*) FROM {table}").fetchone()[0])  # noqa: S608


@contextlib.contextmanager
def _process(bench: Bench, *words: str, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    log = bench.folder / f"{words[1]}.log"
    with log.open("ab") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", *words],
            cwd=bench.folder,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])} | settings,
            stdout=file,
            stderr=file,
        )
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def _console(bench: Bench, receiver: Any) -> Iterator[Console]:  # noqa: ANN401  # a server
    port, index = free_port(), bench.folder / "index.db"
    settings = {
        "CONSOLE_PORT": str(port),
        "CONSOLE_AMQP_URL": bench.amqp_url,
        "CONSOLE_MANAGEMENT_URL": bench.rabbitmq.management_url if bench.rabbitmq else "",
        "CONSOLE_CALLBACK_URL": f"http://127.0.0.1:{receiver.port}/callbackExample",
        "CONSOLE_DATABASE_URL": f"sqlite:///{bench.folder}/console.db",
        "CONSOLE_INDEX_PATH": str(index),
        "CONSOLE_EVENTS": str(EVENTS),
        "CONSOLE_PASSWORD": PASSWORD,
    }
    with _process(bench, "bridge", "console", **settings) as process:
        log = bench.folder / "console.log"
        _wait(lambda: f'"port":{port}' in log.read_text(), process)
        yield Console(process, port, index)


@contextlib.contextmanager
def _worker(bench: Bench) -> Iterator[None]:
    (bench.folder / "bench_handlers.py").write_text(HANDLERS)
    settings = {
        "CONSUMERS_AMQP_URL": bench.amqp_url,
        "CONSUMERS_DATABASE_URL": f"sqlite:///{bench.folder}/console.db",
    }
    words = ("consumers", "work", "--handlers", "bench_handlers")
    with _process(bench, *words, **settings) as process:
        log = bench.folder / "work.log"
        _wait(lambda: '"working"' in log.read_text(), process)
        yield
    log.unlink()


def _wait(ready: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"{process.args!r} is not ready: see its log")
        time.sleep(0.05)


async def _delete(amqp_url: str, *queues: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        for queue in queues:
            await channel.queue_delete(queue)


def console(bench: Bench) -> None:
    """Measure a console that has seen nothing, then one with many events, then the receiver."""
    own = work_queue(SUBSCRIPTION)
    asyncio.run(_delete(bench.amqp_url, ARCHIVE, "openim.outcomes"))
    with bench.server("bridge") as receiver, _console(bench, receiver) as shown:
        with _worker(bench):
            browser = Browser(shown.port)
            _look(browser, _paths(browser), 3)
            bench.note("console memory before", shown.resident())
            for sample, count in SAMPLES.items():
                load(receiver, connections=64, count=count, sample=sample)
            _wait(lambda: shown.has("event") >= EVENTS * 0.99, shown.process)
            _wait(lambda: shown.has("attempt") >= EVENTS, shown.process)
        for path, times in _look(browser, _paths(browser), LOOKS).items():
            name = path if not path.startswith("/event?") else "/event?id=…"
            bench.note(f"console {name} p50", statistics.median(times))
            bench.note(
                f"console {name} p99",
                statistics.quantiles(times, n=100, method="inclusive")[98],
            )
            bench.note(f"console {name} max", max(times))
        bench.note("console memory after", shown.resident())
        _replies(bench, receiver, shown.port)
        bench.note("console memory at last", shown.resident())
    asyncio.run(_delete(bench.amqp_url, own))


def _paths(browser: Browser) -> list[str]:
    """Give the paths of all pages; that of an event, once there are any."""
    found = re.search(r'href="(/event\?id=[^"]+)"', browser.loads("/events")[1])
    tabs = [tab.path for tab in TABS if tab.listed]
    filtered = [f"/events?{each}" for each in FILTERS]
    return [*tabs, *filtered, *([found[1]] if found else [])]


def _look(browser: Browser, paths: Sequence[str], times: int) -> dict[str, list[float]]:
    """Load each page so often, all by turns."""
    took: dict[str, list[float]] = {path: [] for path in paths}
    for _ in range(times):
        for path in paths:
            took[path].append(browser.loads(path)[0])
    return took


def _replies(bench: Bench, receiver: Any, port: int) -> None:  # noqa: ANN401  # a server
    """Measure replies while nobody looks at the console, and while somebody reloads it."""
    load(receiver, connections=2, count=300)
    for name, looked_at in (("unwatched", False), ("watched", True)):
        with _reloading(port) if looked_at else contextlib.nullcontext():
            result = load(receiver, connections=2, count=3000)
        for figure in ("p50", "p99", "max"):
            bench.note(f"{name} {figure}", result[figure])


@contextlib.contextmanager
def _reloading(port: int) -> Iterator[None]:
    """Load one page after the other during the block, without a pause."""
    over = threading.Event()

    def reload() -> None:
        # A browser runs elsewhere, and takes no core from a receiver.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        browser = Browser(port)
        paths = _paths(browser)
        while not over.is_set():
            for path in paths:
                browser.loads(path)

    thread = threading.Thread(target=reload)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


MEASUREMENTS = (console,)


def watching(bench: Bench) -> Iterator[Row]:
    """Say how long pages take, what the console grows by, and what it costs the receiver."""
    m = bench.median
    names = [n.removesuffix(" p50") for n in bench.results if re.match(r"console /.* p50$", n)]
    for name in names:
        times = [m(f"{name} {figure}") for figure in ("p50", "p99", "max")]
        yield Row(
            f"page `{name.removeprefix('console ')}`, p50 / p99 / max",
            " / ".join(f"{each:.0f}" for each in times) + " ms",
            "",
            most(BAR, *times),
        )
    before, after = m("console memory before"), m("console memory at last")
    yield Row(
        f"memory with {EVENTS:,} events and after all reloads",
        f"{after:.0f} MB",
        f"{after - before:+.0f} MB of an empty one's {before:.0f}",
        most(GROWTH, after - before),
    )
    for name, words in (("unwatched", "nobody looks"), ("watched", "somebody reloads")):
        times = [m(f"{name} {figure}") for figure in ("p50", "p99", "max")]
        ratio = times[0] / m("unwatched p50")
        yield Row(
            f"the receiver, 2 connections, {words}, p50 / p99 / max",
            " / ".join(f"{each:.2f}" for each in times) + " ms",
            f"p50 {ratio:.2f} ×" if name == "watched" else "",
        )
