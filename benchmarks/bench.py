"""Measures receiver and workers against others, in one run, as a table.

    make bench                     everything, medians of five interleaved rounds
    make bench ARGS=consumers      the workers only; or `receiver`, `decisions`,
                                   `console`, `partitions`
    make bench ARGS="--rounds 3 --plot times.svg"

Every figure stands beside something measured in the same minutes on the same machine, for
machines are noisy and share their cores. CPU time per callback is what noise touches least.
RabbitMQ is a node of its own, or the one that AMQP_URL names; PostgreSQL is one of its own.
"""

import argparse
import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent / "deploy"), str(HERE.parent)]

import console_rows  # noqa: E402
import consumer_rows  # noqa: E402
import decision_rows  # noqa: E402
import partition_rows  # noqa: E402
import tracing_rows  # noqa: E402
from private_services import PrivatePostgres, PrivateRabbitMQ  # noqa: E402
from table import Row, both, least, most  # noqa: E402
from under_test import Bench, Server, load  # noqa: E402

Part: TypeAlias = tuple[
    Sequence[Callable[[Bench], None]], Sequence[Callable[[Bench], Iterator[Row]]]
]
"""What is measured, and the lines made of it."""


def depth(server: Server) -> int:
    """Give how many callbacks are not confirmed yet."""
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as metrics:
        text = metrics.read().decode()
    return int(float(text.split("\nopenim_bridge_journal_depth ")[1].split()[0]))


def drained(server: Server) -> None:
    """Wait until RabbitMQ has confirmed everything."""
    while depth(server):
        time.sleep(0.02)


def sync_times(folder: Path) -> list[float]:
    """Give the milliseconds of writes and fdatasyncs of one callback each, in rising order."""
    path = folder / "sync"
    times = []
    file = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        os.posix_fallocate(file, 0, 2**22)
        os.fsync(file)
        for number in range(4000):
            started = time.perf_counter()
            os.pwrite(file, b"x" * 1000, number * 1000)
            os.fdatasync(file)
            times.append((time.perf_counter() - started) * 1000)
    finally:
        os.close(file)
        path.unlink()
    return sorted(times)


def two_connections(bench: Bench) -> None:
    """Measure replies as one of OpenIM's processes sees them."""
    syncs = sync_times(bench.folder)
    for figure, share in (("p50", 0.5), ("p99", 0.99), ("p999", 0.999)):
        bench.note(f"fdatasync {figure}", syncs[int(len(syncs) * share)])
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


def broker_blocked(bench: Bench) -> None:
    """Measure replies while RabbitMQ is short of memory and takes nothing."""
    if bench.rabbitmq is None:
        return
    with bench.server("bridge") as server:
        load(server, connections=2, count=300)
        bench.rabbitmq.rabbitmqctl("set_vm_memory_high_watermark", "0.00001")
        try:
            load(server, connections=2, count=300)
            result = load(server, connections=2, count=3000)
        finally:
            bench.rabbitmq.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
        drained(server)
    for figure in ("p50", "p99"):
        bench.note(f"blocked 2 {figure}", result[figure])


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


def publishing(bench: Bench) -> None:
    """Measure the library's own publishing, as in the naive bridge, and RabbitMQ's limit."""
    for name, count in (("publish", 3000), ("frames", 30_000)):
        printed = subprocess.run(
            [sys.executable, str(HERE / "others.py"), name, str(count), bench.amqp_url],
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        rate, per_cpu_second = map(float, printed.split())
        bench.note(f"{name} rate", rate)
        bench.note(f"{name} per CPU second", per_cpu_second)


MEASUREMENTS: tuple[Callable[[Bench], None], ...] = (
    two_connections,
    broker_away,
    broker_blocked,
    many_connections,
    open_loop,
    backlog,
    publishing,
    two_workers,
)


def _times(bench: Bench, name: str, *figures: str) -> str:
    return " / ".join(f"{bench.median(f'{name} {figure}'):.2f}" for figure in figures) + " ms"


def replies(bench: Bench) -> Iterator[Row]:
    """Say how fast two connections are answered, whatever RabbitMQ does."""
    m = bench.median
    three = ("p50", "p99", "max")
    yield Row("fdatasync, p50 / p99 / p99.9", _times(bench, "fdatasync", "p50", "p99", "p999"))
    yield Row("bare aiohttp, 2 connections, p50 / p99 / max", _times(bench, "bare 2", *three))
    yield Row("naive bridge, the same", _times(bench, "naive 2", *three))
    ratio = m("bridge 2 p50") / (m("bare 2 p50") + m("fdatasync p50"))
    yield Row(
        "the bridge, the same",
        _times(bench, "bridge 2", *three),
        f"p50 {ratio:.2f} × (bare + fdatasync)",
        most(1.5, ratio),
    )
    ratio = m("bridge 2 rate") / m("naive 2 rate")
    yield Row(
        "callbacks/s, 2 connections",
        f"{m('bridge 2 rate'):,.0f}",
        f"{ratio:.1f} × naive ({m('naive 2 rate'):,.0f})",
        least(3, ratio),
    )
    for name in ("away", "blocked"):
        if f"{name} 2 p50" in bench.results:
            p50, p99 = (m(f"{name} 2 {f}") / m(f"bridge 2 {f}") for f in ("p50", "p99"))
            yield Row(
                f"RabbitMQ {name}, p50 / p99",
                _times(bench, f"{name} 2", "p50", "p99"),
                f"{p50:.2f} × / {p99:.2f} × with it",
                most(1.2, p50, p99),
            )


def rates(bench: Bench) -> Iterator[Row]:
    """Say what goes through, and what it costs."""
    m = bench.median
    bare, naive = (m("bridge 64 rate") / m(f"{name} 64 rate") for name in ("bare", "naive"))
    yield Row("RabbitMQ's own limit: confirmed/s", f"{m('frames rate'):,.0f}")
    yield Row(
        "answered and confirmed/s, 64 connections",
        f"{m('bridge 64 rate'):,.0f}",
        f"{bare:.2f} × bare ({m('bare 64 rate'):,.0f}),"
        f" {naive:.1f} × naive ({m('naive 64 rate'):,.0f})",
        both(least(0.8, bare), least(4.5, naive)),
    )
    ratio = m("bridge 64 cpu") / m("bare 64 cpu")
    yield Row(
        "CPU per callback",
        f"{m('bridge 64 cpu'):.0f} µs",
        f"{ratio:.2f} × bare ({m('bare 64 cpu'):.0f} µs; naive {m('naive 64 cpu'):.0f} µs)",
        most(1.2, ratio),
    )
    yield Row(
        f"open loop at {m('open rate'):,.0f}/s, 64 connections, p50 / p99 / p99.9 / max",
        _times(bench, "open", "p50", "p99", "p999", "max"),
        f"fdatasync p99.9 {m('fdatasync p999'):.2f} ms",
        both(most(10, m("open p99")), most(50, m("open p999"))),
    )
    ratio = m("2 workers") / m("1 workers")
    yield Row(
        "two workers, callbacks/s",
        f"{m('2 workers'):,.0f}",
        f"{ratio:.2f} × one ({m('1 workers'):,.0f})",
        least(1.6, ratio),
    )


def storage(bench: Bench) -> Iterator[Row]:
    """Say what a backlog costs, and a start."""
    m = bench.median
    waiting = f"{bench.backlog:,} callbacks waiting"
    more, idle = m("backlog memory") - m("used memory"), m("idle memory")
    yield Row(f"{waiting}: memory above that of 2,000", f"{more:+.1f} MB", "", most(20, more))
    yield Row("idle memory", f"{idle:.0f} MB", "", most(60, idle))
    start, late = m("bridge start"), m("backlog start")
    yield Row("start to first reply", f"{start:.2f} s", "", most(1, start))
    yield Row(f"{waiting}: the same", f"{late:.2f} s", "", most(2, late))
    ratio = m("drain") / m("publish per CPU second")
    yield Row(
        "draining them: confirmed per CPU second",
        f"{m('drain'):,.0f} ({m('drain rate'):,.0f}/s)",
        f"{ratio:.0f} × one by one ({m('publish per CPU second'):,.0f})",
        least(25, ratio),
    )


PARTS: dict[str, Part] = {
    "receiver": (MEASUREMENTS, (replies, rates, storage)),
    "decisions": (decision_rows.MEASUREMENTS, (decision_rows.deciding,)),
    "consumers": (consumer_rows.MEASUREMENTS, (consumer_rows.consuming, consumer_rows.writing)),
    "console": (console_rows.MEASUREMENTS, (console_rows.watching,)),
    "tracing": (tracing_rows.MEASUREMENTS, (tracing_rows.tracing,)),
    "partitions": (partition_rows.MEASUREMENTS, (partition_rows.handing_over,)),
}


def plot(bench: Bench) -> str:
    """Draw reply times at two connections, p50 to p99, as an SVG picture."""
    names = {
        "bare aiohttp": "bare",
        "the bridge": "bridge",
        "the bridge, RabbitMQ blocked": "blocked",
        "the bridge, no RabbitMQ": "away",
        "naive bridge": "naive",
    }
    shown = {t: n for t, n in names.items() if f"{n} 2 p50" in bench.results}
    scale = 400 / max(bench.median(f"{name} 2 p99") for name in shown.values())
    lines = []
    for row, (title, name) in enumerate(shown.items()):
        p50, p99 = (bench.median(f"{name} 2 {figure}") for figure in ("p50", "p99"))
        y = 50 + 30 * row
        lines += [
            f'<text x="200" y="{y + 13}" text-anchor="end">{title}</text>',
            f'<rect x="210" y="{y}" width="{p99 * scale:.1f}" height="18" class="p99"/>',
            f'<rect x="210" y="{y}" width="{p50 * scale:.1f}" height="18" class="p50"/>',
            f'<text x="{215 + p99 * scale:.1f}" y="{y + 13}">{p50:.2f} / {p99:.2f} ms</text>',
        ]
    return "\n".join(
        (
            '<svg xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="13">',
            "<style>.p50{fill:#1f6feb}.p99{fill:#a5c8ff}</style>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            '<text x="10" y="25" font-size="15">Replies to two connections: p50, p99</text>',
            *lines,
            "</svg>\n",
        )
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", choices=PARTS, help="measure this only")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--plot", type=Path, help="write a picture here")
    arguments = parser.parse_args()
    rounds = arguments.rounds
    parts = [PARTS[arguments.part]] if arguments.part else list(PARTS.values())
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd())))
        amqp_url, rabbitmq = os.environ.get("AMQP_URL", ""), None
        if not amqp_url:
            rabbitmq = stack.enter_context(PrivateRabbitMQ(folder / "rabbitmq"))
            amqp_url = rabbitmq.amqp_url
        postgres = stack.enter_context(PrivatePostgres(durable=True))
        bench = Bench(amqp_url, folder, arguments.backlog, rabbitmq, postgres.url)
        for number in range(rounds):
            for measure in [measure for measurements, _ in parts for measure in measurements]:
                print(f"round {number + 1}: {measure.__name__}", file=sys.stderr)
                measure(bench)
        print(
            f"{platform.platform()}, Python {platform.python_version()},"
            f" {os.cpu_count()} cores; medians of {rounds} rounds\n"
        )
        print("| what | figure | ratio | bar |\n| --- | --- | --- | --- |")
        for lines in [lines for _, some in parts for lines in some]:
            print(*lines(bench), sep="\n")
        if arguments.plot:
            arguments.plot.write_text(plot(bench))


if __name__ == "__main__":
    main()
