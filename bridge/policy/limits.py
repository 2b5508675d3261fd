"""How often somebody may do something."""

from collections import OrderedDict
from time import monotonic

MOST_KEYS = 100_000
"""Users that a limit remembers; of more, it forgets who has been quiet for longest."""


class Limit:
    """Lets everybody do something so many times at once, and then at a steady pace.

    A bucket for each key that holds `most` and gets one back every `seconds / most`. It is kept
    as the moment at which it will be full again (the generic cell rate algorithm), one number,
    whatever `most` is. It is of this process alone.
    """

    def __init__(self, most: int, seconds: float) -> None:
        self._whole = float(seconds)
        self._one = seconds / most
        # Who acted last comes last. In a plain dictionary, finding the first takes ever longer.
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        """Count who is remembered."""
        return len(self._full_at)

    def exceeded(self, key: str) -> bool:
        """Take one from a key's bucket; say whether there was none."""
        now = monotonic()
        full_at = max(self._full_at.pop(key, now), now) + self._one
        exceeded = full_at - now > self._whole + 1e-9
        self._full_at[key] = full_at - self._one if exceeded else full_at
        self._forget(now)
        return exceeded

    def _forget(self, now: float) -> None:
        """Drop a bucket or two that are full again, or one too many."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= MOST_KEYS:
                return
            del self._full_at[oldest]
