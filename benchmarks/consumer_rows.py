"""Measures workers beside aio-pika's own consumer and FastStream's.

Each consumer is a process of its own that gets through a full queue. CPU time is the
consumer's alone, from the first message handled to the last.
"""

import os
import subprocess
import sys
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

from table import Row, both, least
from under_test import Bench

HERE = Path(__file__).parent
ENVIRONMENT = os.environ | {"PYTHONPATH": str(HERE.parent)}
FASTSTREAM = "faststream[rabbit]==0.7.8"
PREFETCH = 16
"""Of all that do nothing with a message: a worker's default."""

OTHERS = "aio-pika", "faststream"
COUNTS = {
    "noop": 20_000,
    "ordered": 20_000,
    "aio-pika": 10_000,
    "faststream": 5_000,
    "one-by-one": 2_000,
    "inbox": 4_000,
    "no-inbox": 4_000,
    "batch": 20_000,
    "archive": 20_000,
    "copy": 20_000,
}


def _note(bench: Bench, name: str, command: Sequence[str | Path]) -> None:
    printed = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, timeout=120, env=ENVIRONMENT
    ).stdout
    rate, cpu = map(float, printed.split())
    bench.note(f"{name} rate", rate)
    bench.note(f"{name} cpu", cpu)


def _work(bench: Bench, kind: str, count: int) -> list[str | Path]:
    program = sys.executable, HERE / "workers.py"
    return [*program, kind, str(count), bench.amqp_url, bench.database_url]


def ours(bench: Bench) -> None:
    """Measure workers, with and without SQL."""
    for kind in [kind for kind in COUNTS if kind not in OTHERS]:
        _note(bench, kind, _work(bench, kind, COUNTS[kind]))


def others(bench: Bench) -> None:
    """Measure the consumers of other libraries."""
    pythons: tuple[str | Path, ...] = sys.executable, _with_faststream()
    for name, python in zip(OTHERS, pythons, strict=True):
        count = str(COUNTS[name])
        subprocess.run(_work(bench, "fill", COUNTS[name]), check=True, env=ENVIRONMENT)
        program = python, HERE / "other_consumers.py", name, count
        _note(bench, name, [*program, bench.amqp_url, "openim.work.bench", str(PREFETCH)])


def _with_faststream() -> Path:
    """Give a Python that has FastStream, which nothing else here needs."""
    folder = Path(".run/faststream")
    python = folder / "bin/python"
    if not python.exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = python, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"
        subprocess.run([*pip, FASTSTREAM, "uvloop"], check=True)
    return python


MEASUREMENTS = (ours, others)


def _cell(bench: Bench, name: str) -> str:
    rate, cpu = (bench.median(f"{name} {figure}") for figure in ("rate", "cpu"))
    return f"{rate:,.0f}/s, {cpu:.1f} µs of CPU"


def consuming(bench: Bench) -> Iterator[Row]:
    """Say what a delivery costs that nothing is done with."""
    m = bench.median
    plain, faststream = (m(f"{n} cpu") / m("noop cpu") for n in ("aio-pika", "faststream"))
    yield Row("aio-pika's consumer, acks by hand", _cell(bench, "aio-pika"))
    yield Row("FastStream's subscriber, the same", _cell(bench, "faststream"))
    yield Row(
        "a worker, no-op handler: messages per CPU second",
        f"{1e6 / m('noop cpu'):,.0f} ({_cell(bench, 'noop')})",
        f"{plain:.1f} × aio-pika, {faststream:.1f} × FastStream",
        both(least(2, plain), least(3, faststream)),
    )
    ratio = m("ordered rate") / m("noop rate")
    yield Row(
        "the same in order: 16 partitions, 1,000 keys",
        _cell(bench, "ordered"),
        f"{ratio:.2f} × unordered",
        least(0.7, ratio),
    )


def writing(bench: Bench) -> Iterator[Row]:
    """Say what it costs to write to PostgreSQL, once for each message."""
    m = bench.median
    yield Row("inbox and one upsert, one message at a time", _cell(bench, "one-by-one"))
    ratio = m("inbox rate") / m("one-by-one rate")
    yield Row(
        "the same, 64 at once",
        _cell(bench, "inbox"),
        f"{ratio:.1f} × one at a time",
        least(3, ratio),
    )
    cost = m("inbox cpu") - m("no-inbox cpu")
    yield Row(
        "the same without inbox", _cell(bench, "no-inbox"), f"the inbox costs {cost:.0f} µs"
    )
    ratio = m("batch rate") / m("inbox rate")
    yield Row(
        "batches of 500, with inbox",
        _cell(bench, "batch"),
        f"{ratio:.1f} × 64 at once",
        least(10, ratio),
    )
    ratio = m("archive rate") / m("copy rate")
    yield Row("rows of messages by COPY, 500 at a time", _cell(bench, "copy"))
    yield Row(
        "message archive, batches of 500, with inbox",
        _cell(bench, "archive"),
        f"{ratio:.2f} × COPY",
    )
