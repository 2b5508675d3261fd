"""What was measured, for the last minutes by the second and the last day by the minute."""

from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple

FINE = 900
"""Samples that are kept, one a second: a quarter of an hour."""

COARSE = 1440
"""Minutes that are kept: a day."""

MINUTE = 60


class Sample(NamedTuple):
    """One second of all receivers together."""

    at: float
    """Seconds since 1970."""
    rate: float
    """Callbacks a second."""
    p50: float | None
    """Seconds until the reply; None if there was none."""
    p99: float | None
    depth: float
    """Callbacks in journals that RabbitMQ has not confirmed."""


class Series:
    """Samples, the oldest forgotten."""

    def __init__(self) -> None:
        self.fine: deque[Sample] = deque(maxlen=FINE)
        self.coarse: deque[Sample] = deque(maxlen=COARSE)
        self._minute: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Take one."""
        self.fine.append(sample)
        if self._minute and int(sample.at // MINUTE) != int(self._minute[0].at // MINUTE):
            self.coarse.append(_together(self._minute))
            self._minute = []
        self._minute.append(sample)


def _together(samples: Sequence[Sample]) -> Sample:
    """Give a minute as one sample: what was worst of it, and the mean rate."""
    return Sample(
        at=samples[0].at,
        rate=sum(each.rate for each in samples) / len(samples),
        p50=_most(each.p50 for each in samples),
        p99=_most(each.p99 for each in samples),
        depth=max(each.depth for each in samples),
    )


def _most(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def percentile(buckets: Sequence[tuple[float, float]], share: float) -> float | None:
    """Give the time within which a share of what was counted lies; None if nothing was.

    Args:
        buckets: Upper bounds, and how many lie at or below each, as Prometheus has them.
        share: From 0 to 1.

    """
    count = buckets[-1][1] if buckets else 0
    if count <= 0:
        return None
    below, low = 0.0, 0.0
    for bound, upto in buckets:
        if upto >= share * count:
            # Above the last bound nothing is known but that.
            high = bound if bound != float("inf") else low
            inside = upto - below
            return low + (high - low) * ((share * count - below) / inside if inside else 1)
        below, low = upto, bound
    return low
