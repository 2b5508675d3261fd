"""What the receiver counts, for Prometheus."""

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    disable_created_metrics,
    generate_latest,
)

from bridge.contract import COMMANDS
from bridge.journal import Journal
from bridge.wire import Outcome

REPLY_BUCKETS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Seconds. Finer than usual: two of OpenIM's workers wait for each answer."""

UNKNOWN = "unknown"
"""Stands for every command that is not in the contract, or labels would have no end."""


# A second series for each counter, which nobody asks for.
disable_created_metrics()  # type: ignore[no-untyped-call]


class Metrics:
    """The receiver's metrics; children are bound once, since each callback counts."""

    def __init__(self, journal: Journal) -> None:
        self._registry = CollectorRegistry()
        callbacks = Counter(
            "openim_bridge_callbacks_total",
            "Callbacks stored or on their way to the journal, by command",
            ["command"],
            registry=self._registry,
        )
        self._callbacks = {name: callbacks.labels(name) for name in (*COMMANDS, UNKNOWN)}
        self.rejected = Counter(
            "openim_bridge_rejected_total",
            "Requests answered with an error, by reason",
            ["reason"],
            registry=self._registry,
        )
        self.reply_seconds = Histogram(
            "openim_bridge_reply_seconds",
            "Time from a callback's headers to its reply",
            buckets=REPLY_BUCKETS,
            registry=self._registry,
        )
        messages = Counter(
            "openim_bridge_messages_total",
            "Messages published, by what RabbitMQ said: confirmed, refused (published again)"
            " or returned (published again)",
            ["outcome"],
            registry=self._registry,
        )
        self.outcomes = {outcome: messages.labels(outcome.value) for outcome in Outcome}
        self.connected = Gauge(
            "openim_bridge_broker_connected",
            "1 while connected to RabbitMQ",
            registry=self._registry,
        )
        self._gauge(
            "journal_depth", "Callbacks stored and not yet confirmed", lambda: journal.depth
        )
        self._gauge("journal_bytes", "Bytes of the journal on disk", lambda: journal.size)

    def _gauge(self, name: str, sentence: str, value: Callable[[], float]) -> None:
        gauge = Gauge(f"openim_bridge_{name}", sentence, registry=self._registry)
        gauge.set_function(value)

    def count(self, command: str) -> None:
        """Count a callback."""
        self._callbacks[command if command in self._callbacks else UNKNOWN].inc()

    def render(self) -> bytes:
        """Give all metrics in Prometheus' text format."""
        return generate_latest(self._registry)
