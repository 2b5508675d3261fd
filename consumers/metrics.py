"""What a worker counts, for Prometheus."""

from collections import Counter as Counts
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from bridge.metrics import Times, about_spans
from bridge.outcomes import DUPLICATE, HANDLED, KINDS
from consumers.lanes import Job
from consumers.outcome import Note, Outcome, Tried
from consumers.records import Records
from consumers.work import State, Work

if TYPE_CHECKING:
    from bridge.spans import Spans

Labels: TypeAlias = tuple[str, ...]

HANDLER_BUCKETS = (0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds, up to what a handler may take by default."""

AGE_BUCKETS = (0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 21600.0, 86400.0)
"""Seconds, up to the longest that somebody may look back on."""


GAUGES: dict[str, tuple[str, Callable[[State], float | None]]] = {
    "openim_consumers_in_hand": (
        "Deliveries that this worker has and has not settled",
        lambda state: state.in_hand,
    ),
    "openim_consumers_oldest_seconds": (
        "Time since the oldest delivery in hand was received; 0 if there is none",
        lambda state: state.oldest,
    ),
    "openim_consumers_paused": (
        "Whether the subscription pauses here, as something that all events need is away",
        lambda state: bool(state.paused),
    ),
    "openim_consumers_partitions": (
        "Partitions of an ordered subscription that this worker holds",
        lambda state: None if state.partitions is None else len(state.partitions),
    ),
}
"""What is shown of each subscription while RabbitMQ is there."""


class Watched(Protocol):
    """A worker, as far as its metrics show it."""

    records: Records
    works: list[Work]
    reason: str
    spans: "Spans | None"


class Metrics(Collector):
    """A worker's metrics, counted in plain numbers as the receiver's are."""

    def __init__(self, worker: Watched) -> None:
        self._worker = worker
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._attempts: Counts[tuple[str, str, str]] = Counts()
        self._seconds: dict[Labels, Times] = {}
        self._ages: dict[Labels, Times] = {}
        self._decisions: Counts[tuple[str, str]] = Counts()
        self._decision_seconds: dict[Labels, Times] = {}

    def of(self, subscription: str) -> Note:
        """Give what counts the attempts of a subscription."""
        attempts, last = self._attempts, Tried("", 0.0, 0.0)
        ages = self._ages.setdefault((subscription,), Times(AGE_BUCKETS))

        def note(job: Job, outcome: Outcome, tried: Tried) -> None:
            nonlocal last
            kind = outcome.kind
            attempts[subscription, tried.handler, kind] += 1
            # A call with a batch is noted for each of its events.
            if tried is not last and tried.handler and kind != DUPLICATE:
                last = tried
                self._times(subscription, tried.handler).add(tried.seconds)
            if kind == HANDLED and job.received_ms:
                ages.add(max(tried.began + tried.seconds - job.received_ms / 1000, 0.0))

        return note

    def _times(self, subscription: str, handler: str) -> Times:
        key = subscription, handler
        times = self._seconds.get(key)
        if times is None:
            times = self._seconds[key] = Times(HANDLER_BUCKETS)
            for kind in KINDS:  # a series that begins with 1 has no rate
                self._attempts[subscription, handler, kind] += 0
        return times

    def decided(self, handler: str, verdict: str, seconds: float) -> None:
        """Count a decision about a before callback, and the time that it took."""
        self._decisions[handler, verdict] += 1
        key = (handler,)
        times = self._decision_seconds.setdefault(key, Times(HANDLER_BUCKETS))
        times.add(seconds)

    def collect(self) -> Iterator[Metric]:
        """Give what is counted, as the library asks for it."""
        attempts = CounterMetricFamily(
            "openim_consumers_attempts_total",
            "Attempts to handle callbacks, by what came of them; no handler: none took it",
            labels=["subscription", "handler", "outcome"],
        )
        for labels, count in self._attempts.items():
            attempts.add_metric(labels, count)
        yield attempts
        yield _histogram(
            "openim_consumers_handler_seconds",
            "Time that a call of a handler took, waiting for the database included",
            ["subscription", "handler"],
            self._seconds,
        )
        yield _histogram(
            "openim_consumers_age_seconds",
            "Time from the receipt of a callback to the end of its handling",
            ["subscription"],
            self._ages,
        )
        yield from self._about_decisions()
        yield from self._about_now()

    def _about_decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "openim_consumers_decisions_total",
            "Decisions about before callbacks, by function and verdict, failed or late",
            labels=["handler", "verdict"],
        )
        for labels, count in self._decisions.items():
            decisions.add_metric(labels, count)
        yield decisions
        yield _histogram(
            "openim_consumers_decision_seconds",
            "Time that a function took to decide",
            ["handler"],
            self._decision_seconds,
        )

    def _about_now(self) -> Iterator[Metric]:
        states = {work.handlers.subscription: work.state for work in self._worker.works}
        for name, (sentence, value_of) in GAUGES.items():
            gauge = GaugeMetricFamily(name, sentence, labels=["subscription"])
            for subscription, state in states.items():
                value = value_of(state)
                if value is not None:
                    gauge.add_metric([subscription], value)
            yield gauge
        since = GaugeMetricFamily(
            "openim_consumers_paused_since_seconds",
            "When people paused the subscription, in seconds since 1970; none if they have not",
            labels=["subscription", "who", "reason"],
        )
        for subscription, state in states.items():
            if by := state.paused_by:
                since.add_metric([subscription, by.who, by.reason], by.at)
        yield since
        yield GaugeMetricFamily(
            "openim_consumers_broker_connected",
            "Whether this worker is connected to RabbitMQ and consumes",
            value=not self._worker.reason,
        )
        yield CounterMetricFamily(
            "openim_consumers_outcomes_dropped_total",
            "Attempts that are missing in openim.outcomes, as RabbitMQ did not take them",
            value=self._worker.records.dropped,
        )
        yield from about_spans("openim_consumers", self._worker.spans)

    def render(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def _histogram(
    name: str, sentence: str, labels: list[str], times: Mapping[Labels, Times]
) -> HistogramMetricFamily:
    family = HistogramMetricFamily(name, sentence, labels=labels)
    for values, each in times.items():
        each.show(family, values)
    return family
