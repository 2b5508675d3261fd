"""What the receiver counts, for Prometheus."""

from bisect import bisect_left
from collections import Counter as Counts
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from bridge.contract import COMMANDS
from bridge.journal import Journal
from bridge.policy import Decided
from bridge.wire import Outcome

if TYPE_CHECKING:
    from bridge.spans import Spans

REPLY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds. Finer than usual: two of OpenIM's workers wait for each answer."""

DECISION_BUCKETS = (0.00002, 0.0001, 0.0005, 0.002, 0.01, 0.05, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds; few, as there are so many for each callback."""

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""Of Prometheus' text format."""

UNKNOWN = "unknown"
"""Stands for every command that is not in the contract, or labels would have no end."""

# A second series for each counter, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Times:
    """Counts how long something took, in buckets."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self._sum = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(self._bounds, seconds)] += 1
        self._sum += seconds

    def show(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Add what was counted to a metric."""
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(self._counts), strict=True))
        family.add_metric(labels, buckets, self._sum)


REASONS = (
    *("full", "slow_disk", "internal"),
    *("malformed", "command", "size", "encoding", "stalled", "cut"),
    *("secret", "source", "path", "method", "http"),
)
"""Why requests are rejected: what we could not do, what was wrong with a callback, and with
who sent it, or what was no callback."""


class Metrics(Collector):
    """The receiver's metrics.

    What is counted for each callback is counted in plain numbers, in the one thread that
    answers: the library's own counters take a lock each time, a tenth of a callback's CPU.
    """

    def __init__(self, journal: Journal, spans: "Spans | None" = None) -> None:
        self._spans = spans
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)
        self._callbacks = Counts(dict.fromkeys((*COMMANDS, UNKNOWN), 0))
        self._replies = Times(REPLY_BUCKETS)
        self._secrets: Counts[str] = Counts()
        self._decisions: Counts[tuple[str, str, str]] = Counts()
        self._decision_times: dict[str, Times] = {}
        self.rejected = self._counter(
            "rejected",
            "Requests answered with an error, by reason",
            "reason",
            values=REASONS,
        )
        messages = self._counter(
            "messages",
            "Messages published, by what RabbitMQ said: confirmed, refused (by a full queue; it"
            " waits in openim.refused) or returned (published again)",
            "outcome",
            values=[outcome.value for outcome in Outcome],
        )
        self.outcomes = {outcome: messages.labels(outcome.value) for outcome in Outcome}
        self.unjournalled = self._counter(
            "unjournalled",
            "Callbacks answered after RabbitMQ's confirm, as the journal had no room",
        )
        self.reloads = self._counter(
            "reloads",
            "Times settings and policy were read again: taken, or refused for mistakes",
            "outcome",
            values=("taken", "refused"),
        )
        self.questions = self._counter(
            "questions",
            "Questions to decision handlers, by what came of them",
            "command",
            "outcome",
        )
        self.set_aside = self._counter(
            "set_aside", "Messages that RabbitMQ would not have, kept in the journal's folder"
        )
        self._watch_journal(journal)

    def _counter(
        self, name: str, sentence: str, *labels: str, values: Iterable[str] = ()
    ) -> Counter:
        """Make a counter, and begin the series of these values of its one label at 0.

        One that began with the first that it counts would have no increase to alert on.
        """
        counter = Counter(
            f"openim_bridge_{name}_total", sentence, labels, registry=self._registry
        )
        for value in values:
            counter.labels(value)
        return counter

    def _watch_journal(self, journal: Journal) -> None:
        self._gauge("journal_depth", "Callbacks not yet confirmed", lambda: journal.depth)
        self._gauge(
            "journal_damaged_bytes",
            "Bytes found damaged since the start",
            lambda: journal.damaged,
        )
        self._gauge("journal_bytes", "Bytes of the journal on disk", lambda: journal.size)

    def _gauge(self, name: str, sentence: str, value: Callable[[], float]) -> None:
        gauge = Gauge(f"openim_bridge_{name}", sentence, registry=self._registry)
        gauge.set_function(value)

    def watch(self, connected: Callable[[], bool]) -> None:
        """Show whether the broker is there."""
        self._gauge(
            "broker_connected", "Receiver processes that are connected to RabbitMQ", connected
        )

    def watch_certificate(self, expires: Callable[[], float]) -> None:
        """Show until when the receiver's certificate is good."""
        self._gauge(
            "certificate_expiry_timestamp_seconds",
            "Until when the receiver's certificate is good, in seconds since 1970",
            expires,
        )

    def watch_questions(self, waiting: Callable[[], int], resting: Callable[[], int]) -> None:
        """Show what waits for decision handlers, and about what nobody is asked for now."""
        self._gauge("questions_waiting", "Callbacks that wait for decision handlers", waiting)
        self._gauge(
            "questions_resting",
            "Kinds of callbacks whose decision handlers are not asked, as none has answered",
            resting,
        )

    def count(self, command: str) -> None:
        """Count a callback."""
        self._callbacks[command if command in COMMANDS else UNKNOWN] += 1

    def watch_secrets(self, names: Iterable[str]) -> None:
        """Show how often each of these secrets was used, and of no others."""
        self._secrets = Counts({name: self._secrets[name] for name in names})

    def knew(self, secret: str) -> None:
        """Count a callback whose caller knew a secret; "" is none."""
        if secret:
            self._secrets[secret] += 1

    def replied(self, seconds: float) -> None:
        """Count a reply, and the time from the callback to it."""
        self._replies.add(seconds)

    def decided(self, command: str, decided: Decided) -> None:
        """Count a decision about a before callback, and the time that it took."""
        decision = decided.decision
        self._decisions[command, decision.verdict, decision.source] += 1
        times = self._decision_times.get(command)
        if times is None:
            times = self._decision_times[command] = Times(DECISION_BUCKETS)
        times.add(decided.seconds)

    def collect(self) -> Iterator[Metric]:
        """Give what is counted in plain numbers, as the library asks for it."""
        callbacks = CounterMetricFamily(
            "openim_bridge_callbacks_total",
            "Callbacks stored or on their way to the journal, by command",
            labels=["command"],
        )
        for command, count in self._callbacks.items():
            callbacks.add_metric([command], count)
        yield callbacks
        replies = HistogramMetricFamily(
            "openim_bridge_reply_seconds", "Time from a callback's body to its reply"
        )
        self._replies.show(replies, [])
        yield replies
        secrets = CounterMetricFamily(
            "openim_bridge_secret_uses_total",
            "Callbacks taken by each of BRIDGE_SECRETS",
            labels=["secret"],
        )
        for secret, count in self._secrets.items():
            secrets.add_metric([secret], count)
        yield secrets
        yield from self._about_decisions()
        yield from about_spans("openim_bridge", self._spans)

    def _about_decisions(self) -> Iterator[Metric]:
        decisions = CounterMetricFamily(
            "openim_bridge_decisions_total",
            "Before callbacks answered, by verdict and where it came from",
            labels=["command", "verdict", "source"],
        )
        for labels, count in self._decisions.items():
            decisions.add_metric(labels, count)
        yield decisions
        times = HistogramMetricFamily(
            "openim_bridge_decision_seconds",
            "Time that deciding about a before callback took",
            labels=["command"],
        )
        for command, each in self._decision_times.items():
            each.show(times, [command])
        yield times

    def render(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


def about_spans(process: str, spans: "Spans | None") -> Iterator[Metric]:
    """Show how many spans ended, and how many of them arrived; 0 where none are made."""
    yield CounterMetricFamily(
        f"{process}_spans_ended_total",
        "Spans of traces that were to leave for the collector",
        value=spans.ended if spans else 0,
    )
    yield CounterMetricFamily(
        f"{process}_spans_arrived_total",
        "Spans that the collector took; others are lost, or leave in the next seconds",
        value=spans.arrived if spans else 0,
    )
