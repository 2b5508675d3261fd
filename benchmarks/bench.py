"""Measures the receiver against a bare one and a naive one, in one run, as a table.

    make bench                     everything, medians of five interleaved rounds
    make bench ARGS="--rounds 3"

Every figure stands beside something measured in the same minutes on the same machine, for
machines are noisy and share their cores. CPU time per callback is what noise touches least.
RabbitMQ is a node of its own, or the one that AMQP_URL names.
"""

import argparse
import contextlib
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "deploy"))

from private_services import PrivateRabbitMQ, free_port  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Server:
    """A receiver under test, in a process of its own."""

    name: str
    port: int
    process: subprocess.Popen[bytes]

    def cpu(self) -> float:
        """Give the seconds of CPU that it and its children have used."""
        total = 0.0
        for pid in (self.process.pid, *_children(self.process.pid)):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
                total += (int(fields[11]) + int(fields[12])) / TICK
        return total

    def resident(self) -> float:
        """Give its resident memory in MB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def stop(self) -> None:
        """End it in good order."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()] if path.exists() else []


@dataclass
class Bench:
    """What the measurements share."""

    amqp_url: str
    folder: Path
    backlog: int
    results: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Add one round's figure."""
        self.results.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Give the median of the rounds."""
        return statistics.median(self.results[name])

    @contextlib.contextmanager
    def server(self, name: str, **settings: str) -> Iterator[Server]:
        """Run a receiver: `bare`, `naive`, or ours."""
        port = free_port()
        started = time.perf_counter()
        process = subprocess.Popen(
            self._command(name, port),
            env=os.environ | self._environment(name, port) | settings,
            stdout=subprocess.DEVNULL,
            stderr=(self.folder / f"{name}.log").open("ab"),
        )
        server = Server(name, port, process)
        try:
            _wait_for(port)
            self.note(f"{name} start", time.perf_counter() - started)
            yield server
        finally:
            server.stop()

    def _command(self, name: str, port: int) -> list[str]:
        if name == "bridge":
            return [sys.executable, "-m", "bridge", "receive"]
        return [sys.executable, str(HERE / "others.py"), name, str(port), self.amqp_url]

    def _environment(self, name: str, port: int) -> dict[str, str]:
        del name
        return {
            "BRIDGE_PORT": str(port),
            "BRIDGE_AMQP_URL": self.amqp_url,
            "BRIDGE_JOURNAL_PATH": str(self.folder / "journal"),
            "BRIDGE_GRACE_PERIOD": "2",
        }


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/livez", timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.005)
        else:
            return
    raise TimeoutError(f"nothing answers on port {port}")


def load(server: Server, **options: float) -> dict[str, float]:
    """Put load on a server, from another process."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    printed = subprocess.run(
        [sys.executable, str(HERE / "load.py"), f"--port={server.port}", *arguments],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    result: dict[str, float] = json.loads(printed.splitlines()[-1])
    if result["errors"]:
        raise RuntimeError(f"{server.name} failed {result['errors']} times")
    return result


def depth(server: Server) -> int:
    """Give how many callbacks are not confirmed yet."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as metrics:
        text = metrics.read().decode()
    return int(float(text.split("\nopenim_bridge_journal_depth ")[1].split()[0]))


def drained(server: Server) -> None:
    """Wait until RabbitMQ has confirmed everything."""
    while depth(server):
        time.sleep(0.02)


def sync_time(folder: Path) -> float:
    """Give the median milliseconds of a write and fdatasync of one callback."""
    path = folder / "sync"
    times = []
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(file, 0, 2**22)
        os.fsync(file)
        for number in range(1000):
            started = time.perf_counter()
            os.pwrite(file, b"x" * 1000, number * 1000)
            os.fdatasync(file)
            times.append(time.perf_counter() - started)
    finally:
        os.close(file)
        path.unlink()
    return statistics.median(times) * 1000


def two_connections(bench: Bench) -> None:
    """Measure replies as one of OpenIM's processes sees them."""
    bench.note("fdatasync p50", sync_time(bench.folder))
    for name in ("bare", "bridge", "naive"):
        with bench.server(name) as server:
            load(server, connections=2, count=300)
            result = load(server, connections=2, count=3000)
        for figure in ("p50", "p99", "max", "rate"):
            bench.note(f"{name} 2 {figure}", result[figure])


def broker_away(bench: Bench) -> None:
    """Measure replies while there is no broker."""
    with bench.server("bridge", BRIDGE_AMQP_URL="amqp://x:x@127.0.0.1:1/") as server:
        load(server, connections=2, count=300)
        result = load(server, connections=2, count=3000)
    for figure in ("p50", "p99"):
        bench.note(f"away 2 {figure}", result[figure])
    shutil.rmtree(bench.folder / "journal")


def many_connections(bench: Bench) -> None:
    """Measure what is answered and confirmed, and what it costs."""
    for name in ("bare", "bridge", "naive"):
        count = 3000 if name == "naive" else 15000
        with bench.server(name) as server:
            load(server, connections=64, count=1000)
            before, started = server.cpu(), time.perf_counter()
            result = load(server, connections=64, count=count)
            if name == "bridge":
                drained(server)
            # The load's own start-up is not the server's time.
            waited = time.perf_counter() - started
            seconds = (
                result["seconds"] if name != "bridge" else max(result["seconds"], waited - 0.5)
            )
            bench.note(f"{name} 64 cpu", (server.cpu() - before) / count * 1e6)
        bench.note(f"{name} 64 rate", count / seconds)
        bench.note(f"{name} 64 p99", result["p99"])


def open_loop(bench: Bench) -> None:
    """Measure replies at half of what the bridge can do."""
    rate = bench.median("bridge 64 rate") / 2
    with bench.server("bridge") as server:
        load(server, connections=64, count=1000)
        result = load(server, connections=64, count=15000, rate=rate)
    for figure in ("p50", "p99", "p999", "max"):
        bench.note(f"open {figure}", result[figure])
    bench.note("open rate", rate)


def backlog(bench: Bench) -> None:
    """Measure a backlog: memory, start, and how fast it drains."""
    nowhere = {"BRIDGE_AMQP_URL": "amqp://x:x@127.0.0.1:1/"}
    with bench.server("bridge", **nowhere) as server:
        bench.note("idle memory", server.resident())
        load(server, connections=64, count=2000)
        bench.note("used memory", server.resident())
        load(server, connections=64, count=bench.backlog)
        bench.note("backlog memory", server.resident())
    started = time.perf_counter()
    with bench.server("bridge") as server:
        bench.note("backlog start", time.perf_counter() - started)
        before = server.cpu()
        drained(server)
        bench.note("drain", bench.backlog / (server.cpu() - before))
        bench.note("drain rate", bench.backlog / (time.perf_counter() - started))
    bench.results["bridge start"].pop()


def two_workers(bench: Bench) -> None:
    """Measure what a second process adds."""
    for count in (1, 2):
        with bench.server("bridge", BRIDGE_WORKERS=str(count)) as server:
            load(server, connections=64, count=2000)
            result = load(server, connections=128, count=15000)
        bench.note(f"{count} workers", result["rate"])


def one_by_one(bench: Bench) -> None:
    """Measure what the library's own publishing costs, as the naive bridge does it."""
    printed = subprocess.run(
        [sys.executable, str(HERE / "others.py"), "publish", "3000", bench.amqp_url],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    bench.note("one by one", float(printed))


MEASUREMENTS: tuple[Callable[[Bench], None], ...] = (
    two_connections,
    broker_away,
    many_connections,
    open_loop,
    backlog,
    one_by_one,
    two_workers,
)


def rows(bench: Bench) -> Iterator[tuple[str, str, str, str]]:
    """Give the table: what, figure, ratio, bar."""
    m = bench.median
    base = m("bare 2 p50") + m("fdatasync p50")
    yield "fdatasync, p50", f"{m('fdatasync p50'):.3f} ms", "", ""
    yield "bare aiohttp, 2 connections, p50", f"{m('bare 2 p50'):.3f} ms", "", ""
    yield (
        "reply, 2 connections, p50 / p99 / max",
        " / ".join(f"{m(f'bridge 2 {f}'):.2f}" for f in ("p50", "p99", "max")) + " ms",
        f"{m('bridge 2 p50') / base:.2f} × (bare + fdatasync)",
        "≤ 1.5",
    )
    yield (
        "callbacks/s, 2 connections",
        f"{m('bridge 2 rate'):,.0f}",
        f"{m('bridge 2 rate') / m('naive 2 rate'):.1f} × naive ({m('naive 2 rate'):,.0f})",
        "≥ 3",
    )
    for figure in ("p50", "p99"):
        yield (
            f"reply without a broker, {figure}",
            f"{m(f'away 2 {figure}'):.2f} ms",
            f"{m(f'away 2 {figure}') / m(f'bridge 2 {figure}'):.2f} × with it",
            "≤ 1.2",
        )
    yield (
        "answered and confirmed/s, 64 connections",
        f"{m('bridge 64 rate'):,.0f}",
        (
            f"{m('bridge 64 rate') / m('bare 64 rate'):.2f} × bare ({m('bare 64 rate'):,.0f}),"
            f" {m('bridge 64 rate') / m('naive 64 rate'):.1f} × naive"
            f" ({m('naive 64 rate'):,.0f})"
        ),
        "≥ 0.8, ≥ 4.5",
    )
    yield (
        "CPU per callback",
        f"{m('bridge 64 cpu'):.0f} µs",
        (
            f"{m('bridge 64 cpu') / m('bare 64 cpu'):.2f} × bare ({m('bare 64 cpu'):.0f} µs;"
            f" naive {m('naive 64 cpu'):.0f} µs)"
        ),
        "≤ 1.2",
    )
    yield (
        f"open loop at {m('open rate'):,.0f}/s, p50 / p99 / p99.9 / max",
        " / ".join(f"{m(f'open {f}'):.1f}" for f in ("p50", "p99", "p999", "max")) + " ms",
        "",
        "p99 ≤ 10, p99.9 ≤ 50 ms",
    )
    yield "start to first reply", f"{m('bridge start'):.2f} s", "", "≤ 1 s"
    yield (
        f"{bench.backlog:,} callbacks waiting: memory above that of 2,000",
        f"{m('backlog memory') - m('used memory'):+.1f} MB",
        "",
        "≤ 20 MB",
    )
    yield "idle memory", f"{m('idle memory'):.0f} MB", "", "≤ 60 MB"
    yield "start with that backlog", f"{m('backlog start'):.2f} s", "", "≤ 2 s"
    yield (
        "draining it: confirmed per CPU second",
        f"{m('drain'):,.0f} ({m('drain rate'):,.0f}/s)",
        f"{m('drain') / m('one by one'):.0f} × one by one ({m('one by one'):,.0f})",
        "≥ 25",
    )
    yield (
        "two workers, callbacks/s",
        f"{m('2 workers'):,.0f}",
        f"{m('2 workers') / m('1 workers'):.2f} × one ({m('1 workers'):,.0f})",
        "≥ 1.6",
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=100_000)
    arguments = parser.parse_args()
    rounds = arguments.rounds
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))
        amqp_url = os.environ.get("AMQP_URL")
        if not amqp_url:
            amqp_url = stack.enter_context(PrivateRabbitMQ(folder / "rabbitmq")).amqp_url
        bench = Bench(amqp_url, folder, arguments.backlog)
        for number in range(rounds):
            for measure in MEASUREMENTS:
                print(f"round {number + 1}: {measure.__name__}", file=sys.stderr)
                measure(bench)
        print(
            f"{platform.platform()}, Python {platform.python_version()},"
            f" {os.cpu_count()} cores; medians of {rounds} rounds\n"
        )
        for row in (("what", "figure", "ratio", "bar"), ("---",) * 4, *rows(bench)):
            print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
