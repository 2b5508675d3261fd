"""What the friends API and the console count of their answers, for Prometheus."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

import bridge.metrics  # noqa: F401  # it turns off what we do not want of the library

BUCKETS = (0.005, 0.02, 0.05, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Seconds, around the third of a second after which people notice."""

ELSEWHERE = "none"
"""The route of requests that have none, or labels would have no end."""

Gauges: TypeAlias = Mapping[str, tuple[str, Callable[[], float]]]
"""What is looked at when asked: the end of a metric's name, its meaning, and how to look."""


class AnswersCounted:
    """Counts the answers of one process.

    Args:
        part: What it is part of, as in the names of its metrics: `friends` or `console`.
        gauges: What else it shows.

    """

    def __init__(self, part: str, gauges: Gauges) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._answers = Counter(
            f"openim_{part}_answers_total",
            "Answers, by route and HTTP status; streams are not among them",
            ["route", "status"],
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"openim_{part}_answer_seconds",
            "Time until an answer was ready",
            ["route"],
            buckets=BUCKETS,
            registry=self._registry,
        )
        for name, (sentence, look) in gauges.items():
            gauge = Gauge(f"openim_{part}_{name}", sentence, registry=self._registry)
            gauge.set_function(look)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._answers.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def render(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
