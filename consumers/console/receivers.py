"""What the receivers' metrics say, second by second."""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from bridge.deliveries import Seconds
from consumers.console.series import Sample, Series, percentile

PACE: Seconds = 1.0
"""Time between two looks."""

PATIENCE: Seconds = 2.0
"""How long a receiver may take to answer."""

WINDOW = 60
"""Looks over which times of replies are taken together."""

LARGEST = 2**20
"""Bytes of metrics that are read."""

_OURS = "openim_bridge_"

_BY_LABEL = {
    "callbacks_total": ("callbacks", "command"),
    "rejected_total": ("rejected", "reason"),
}


@dataclass(kw_only=True)
class Counts:
    """What the receivers have counted since they started."""

    callbacks: Counter[str] = field(default_factory=Counter)
    rejected: Counter[str] = field(default_factory=Counter)
    buckets: Counter[float] = field(default_factory=Counter)
    """Replies by their time: at or below each bound."""
    unjournalled: int = 0
    gauges: Counter[str] = field(default_factory=Counter)
    without_broker: int = 0
    """Receiver processes that are not connected to RabbitMQ."""

    def since(self, before: "Counts") -> "Counts":
        """Give what was counted in between; nothing is less than nothing after a restart."""
        return Counts(
            callbacks=self.callbacks - before.callbacks,
            rejected=self.rejected - before.rejected,
            buckets=self.buckets - before.buckets,
            unjournalled=max(self.unjournalled - before.unjournalled, 0),
        )

    def add(self, other: "Counts") -> None:
        """Take another receiver's with ours."""
        for name in ("callbacks", "rejected", "buckets", "gauges"):
            getattr(self, name).update(getattr(other, name))
        self.unjournalled += other.unjournalled

    @property
    def times(self) -> list[tuple[float, float]]:
        """Replies by their time, as `percentile` wants them."""
        return sorted(self.buckets.items())


def read(text: str) -> Counts:
    """Read metrics in Prometheus' text format."""
    counts = Counts()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = sample.name.removeprefix(_OURS)
            if name in _BY_LABEL:
                counted, label = _BY_LABEL[name]
                getattr(counts, counted)[sample.labels[label]] += int(sample.value)
            elif name == "reply_seconds_bucket":
                counts.buckets[float(sample.labels["le"])] += int(sample.value)
            elif name == "unjournalled_total":
                counts.unjournalled += int(sample.value)
            elif name == "broker_connected":
                counts.without_broker += not sample.value
            elif sample.labels.keys() <= {"worker"}:
                counts.gauges[name] += sample.value  # type: ignore[assignment]  # a float
    return counts


@dataclass(kw_only=True)
class Receiver:
    """One receiver, as far as it was heard of."""

    url: str
    trouble: str = "not asked yet"
    """Why nothing is known of it now; empty if it answers."""
    since: float = field(default_factory=time.time)
    """Since when it is so."""
    counts: Counts = field(default_factory=Counts)
    away_since: float | None = None
    """Since when it has no connection to RabbitMQ, as far as we saw."""

    def note(self, trouble: str) -> None:
        """Note how a look at it went."""
        if bool(trouble) != bool(self.trouble):
            self.since = time.time()
        self.trouble = trouble
        if trouble:
            return
        if not self.counts.without_broker:
            self.away_since = None
        elif self.away_since is None:
            self.away_since = time.time()


class Receivers:
    """All receivers together.

    Args:
        urls: Where their metrics are, without `/metrics`.

    """

    def __init__(self, urls: list[str]) -> None:
        self.each = [Receiver(url=url) for url in urls]
        self.series = Series()
        self.began = time.time()
        self.waiting_since: float | None = None
        """Since when journals hold something all the time."""
        self._history: deque[tuple[float, Counts]] = deque(maxlen=WINDOW + 1)

    async def run(self) -> None:
        """Look, again and again."""
        timeout = aiohttp.ClientTimeout(total=PATIENCE)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            while True:
                await asyncio.gather(*(_look(session, each) for each in self.each))
                self._take()
                await asyncio.sleep(PACE)

    def _take(self) -> None:
        now, total = time.time(), Counts()
        for each in self.each:
            total.add(each.counts)
        # One that is away, or was started anew, would seem to have sent all again.
        if self._history and sum(total.callbacks.values()) < sum(
            self._history[-1][1].callbacks.values()
        ):
            self._history.clear()
        self._history.append((now, total))
        depth = self.depth
        if depth == 0:
            self.waiting_since = None
        elif self.waiting_since is None:
            self.waiting_since = now
        news, seconds = self._news(1)
        self.series.add(
            Sample(
                at=now,
                rate=sum(news.callbacks.values()) / seconds,
                p50=percentile(news.times, 0.5),
                p99=percentile(news.times, 0.99),
                depth=depth,
            )
        )

    def _news(self, looks: int) -> tuple[Counts, float]:
        """Give what was counted since so many looks ago, and how long that is."""
        if not self._history:
            return Counts(), 1.0
        began, before = self._history[max(len(self._history) - 1 - looks, 0)]
        now, total = self._history[-1]
        return total.since(before), max(now - began, PACE)

    @property
    def depth(self) -> int:
        """Callbacks in journals."""
        return int(sum(each.counts.gauges["journal_depth"] for each in self.each))

    @property
    def journal_bytes(self) -> int:
        """Bytes of the journals."""
        return int(sum(each.counts.gauges["journal_bytes"] for each in self.each))

    @property
    def unjournalled(self) -> int:
        """Callbacks of the last minute for which a journal had no room."""
        return self._news(WINDOW)[0].unjournalled

    @property
    def away_since(self) -> float | None:
        """Since when a receiver that answers has no RabbitMQ."""
        there = [each.away_since for each in self.each if not each.trouble]
        return min((since for since in there if since is not None), default=None)

    def rates(self) -> list[tuple[str, float]]:
        """Give callbacks a second by command over ten seconds, the most frequent first."""
        news, seconds = self._news(10)
        return [(name, count / seconds) for name, count in news.callbacks.most_common()]

    def totals(self) -> Mapping[str, int]:
        """Give callbacks by command since the receivers started."""
        return self._history[-1][1].callbacks if self._history else Counter()

    def rejected(self) -> Mapping[str, int]:
        """Give requests that were answered with an error in the last minute, by reason."""
        return self._news(WINDOW)[0].rejected

    def reply(self, share: float) -> float | None:
        """Give the time within which a share of the last minute's replies left."""
        return percentile(self._news(WINDOW)[0].times, share)


async def _look(session: aiohttp.ClientSession, receiver: Receiver) -> None:
    try:
        async with session.get(f"{receiver.url}/metrics") as answer:
            answer.raise_for_status()
            text = (await answer.content.read(LARGEST)).decode()
            while not answer.content.at_eof() and len(text) < LARGEST:
                text += (await answer.content.read(LARGEST)).decode()
            receiver.counts = read(text)
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
        reason = getattr(error, "strerror", None) or str(error) or "no answer in time"
        receiver.note(reason)
    else:
        receiver.note("")
