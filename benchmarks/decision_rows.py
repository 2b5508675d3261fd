"""Measures answers to before callbacks: by a policy, by a decision handler, and without one."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from table import Row, most
from under_test import Bench, load

HERE = Path(__file__).parent
BEFORE = "callbackBeforeSendSingleMsgCommand"
CONNECTIONS = 1000
"""Questions at a time, to a worker that stands still."""

WITHIN = 1.0

RULES = """
[[rules]]
name = "words"
commands = ["BeforeSendSingleMsg"]
where = [{field = "content.*", op = "contains", list = "words"}]
refuse = {code = 20001, message = "no"}

[[rules]]
name = "limit"
commands = ["BeforeSendSingleMsg"]
limit = {per = "sendID", most = 1000000, seconds = 1}
refuse = {code = 20002, message = "slower"}

[lists.words]
entries = ["casino", "jackpot", "lottery"]
"""
ASK = f"[commands.BeforeSendSingleMsg]\nask = {{within = {WITHIN}}}\n"


def _policy(bench: Bench, text: str) -> str:
    path = bench.folder / "policy.toml"
    path.write_text(text)
    return str(path)


def _measured(bench: Bench, name: str, server: str, **settings: str) -> None:
    with bench.server(server, **settings) as running:
        load(running, connections=2, count=300, sample=BEFORE)
        result = load(running, connections=2, count=3000, sample=BEFORE)
    for figure in ("p50", "p99", "max"):
        bench.note(f"{name} {figure}", result[figure])


def policy(bench: Bench) -> None:
    """Measure replies that the receiver makes by itself, beside bare ones."""
    _measured(bench, "bare before", "bare")
    _measured(bench, "allow", "bridge")
    _measured(bench, "rules", "bridge", BRIDGE_POLICY=_policy(bench, RULES))


@contextlib.contextmanager
def _worker(bench: Bench) -> Iterator[subprocess.Popen[bytes]]:
    with (bench.folder / "worker.log").open("w+b") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "consumers", "work", "--handlers", "benchmarks.deciders"],
            cwd=HERE.parent,
            env=os.environ
            | {
                "CONSUMERS_AMQP_URL": bench.amqp_url,
                "CONSUMERS_DATABASE_URL": f"sqlite:///{bench.folder}/worker.db",
                "CONSUMERS_PREFETCH": "100",
            },
            stderr=log,
        )
        try:
            while b"working" not in Path(log.name).read_bytes():
                time.sleep(0.02)
            yield worker
        finally:
            worker.kill()
            worker.wait()


def _asked(port: int) -> bool:
    """Say whether a question has been answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as metrics:
        return b'outcome="answered"' in metrics.read()


def asking(bench: Bench) -> None:
    """Measure replies that a decision handler makes, and those when it stands still."""
    ask = _policy(bench, ASK)
    with _worker(bench) as worker, bench.server("bridge", BRIDGE_POLICY=ask) as running:
        while not _asked(running.port):
            load(running, connections=2, count=10, sample=BEFORE)
        load(running, connections=2, count=300, sample=BEFORE)
        result = load(running, connections=2, count=3000, sample=BEFORE)
        for figure in ("p50", "p99", "max"):
            bench.note(f"ask {figure}", result[figure])
        worker.send_signal(signal.SIGSTOP)
        result = load(running, connections=CONNECTIONS, count=CONNECTIONS, sample=BEFORE)
        for figure in ("p50", "p99", "max"):
            bench.note(f"dead {figure}", result[figure])


MEASUREMENTS = (policy, asking)


def _times(bench: Bench, name: str) -> str:
    figures = (bench.median(f"{name} {figure}") for figure in ("p50", "p99", "max"))
    return " / ".join(f"{figure:.2f}" for figure in figures) + " ms"


def deciding(bench: Bench) -> Iterator[Row]:
    """Say how fast before callbacks are answered."""
    m = bench.median
    yield Row(
        "bare aiohttp, the body of a message, p50 / p99 / max", _times(bench, "bare before")
    )
    for name, what in (("allow", "allowed"), ("rules", "by a word filter and a limit")):
        ratio = m(f"{name} p50") / m("bare before p50")
        yield Row(
            f"a before callback, {what}, the same",
            _times(bench, name),
            f"p50 {ratio:.2f} × bare",
            most(1.2, ratio),
        )
    added = m("ask p50") - m("allow p50")
    yield Row(
        "by a decision handler that only allows, the same",
        _times(bench, "ask"),
        f"p50 {added:+.2f} ms",
        most(3, added),
    )
    late = m("dead max") - WITHIN * 1000
    yield Row(
        f"{CONNECTIONS:,} at once, no answer within {WITHIN:g} s, the same",
        _times(bench, "dead"),
        f"the last {late:.0f} ms late",
        most(50, late),
    )
