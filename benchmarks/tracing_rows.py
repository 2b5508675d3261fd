"""Measures what traces cost the replies: none, one callback in a hundred, all."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from decision_rows import BEFORE
from table import Row
from under_test import Bench, load

AFTER = "callbackAfterSendSingleMsgCommand"
FIGURES = ("p50", "p99", "max")
SHARES = {"off": "", "one": "0.01", "all": "1"}
"""Which part of the callbacks is traced, by name."""


class _Taking(BaseHTTPRequestHandler):
    """Takes spans, as a collector does, and keeps none."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:  # the name is http.server's
        """Take a request."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def _collector() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Taking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def _settings(share: str, collector: str) -> dict[str, str]:
    if not share:
        return {}
    return {
        "BRIDGE_TRACING": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector,
        "OTEL_TRACES_SAMPLER": "parentbased_traceidratio",
        "OTEL_TRACES_SAMPLER_ARG": share,
    }


def replies(bench: Bench) -> None:
    """Measure replies with more and more traces."""
    with _collector() as collector:
        for name, share in SHARES.items():
            with bench.server("bridge", **_settings(share, collector)) as running:
                for sample in (AFTER, BEFORE):
                    load(running, connections=2, count=500, sample=sample)
                    result = load(running, connections=2, count=3000, sample=sample)
                    for figure in FIGURES:
                        bench.note(f"{name} {sample} {figure}", result[figure])


MEASUREMENTS = (replies,)


def tracing(bench: Bench) -> Iterator[Row]:
    """Say how fast callbacks are answered."""
    for sample, kind in ((AFTER, "after"), (BEFORE, "before")):
        off = bench.median(f"off {sample} p50")
        for name, what in (("off", "no traces"), ("one", "one in 100"), ("all", "every one")):
            times = [bench.median(f"{name} {sample} {figure}") for figure in FIGURES]
            yield Row(
                f"{kind} callbacks, {what}, p50 / p99 / max",
                " / ".join(f"{time:.2f}" for time in times) + " ms",
                f"p50 {times[0] / off:.2f} × no traces",
            )
