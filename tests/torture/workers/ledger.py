"""What was sent and what came of it, and what must follow from that."""

from collections import defaultdict
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field

from bridge.contract import partition
from tests.torture.workers.effects import Effect
from tests.torture.workers.events import PARTITIONS


@dataclass(frozen=True, kw_only=True)
class Handled:
    """When an event was handled, and by whom."""

    worker: int
    sent_ms: int
    waited_ms: int


@dataclass(kw_only=True)
class Ledger:
    """Compares the effects with what was sent.

    Attributes:
        lost: Events without an effect.
        twice: Effects too many.
        overtaken: Effects of a key that came after a later one's.
        invented: Effects of what was not sent.

    """

    effects: int = 0
    lost: int = 0
    twice: int = 0
    overtaken: int = 0
    invented: int = 0
    handled: dict[int, list[Handled]] = field(default_factory=lambda: defaultdict(list))
    """What became of the events of each partition."""

    @property
    def wrong(self) -> list[str]:
        """Say what does not add up."""
        counts = {name: getattr(self, name) for name in WRONG}
        return [f"{name}: {count:,}" for name, count in counts.items() if count]


WRONG = ("lost", "twice", "overtaken", "invented")


async def judged(effects: AsyncIterator[Effect], sent: Mapping[str, int]) -> Ledger:
    """Go through the effects in the order in which they were made.

    Args:
        effects: All there are.
        sent: How many events of each key; they are numbered from 0.

    """
    ledger = Ledger()
    seen: dict[str, set[int]] = defaultdict(set)
    newest: dict[str, int] = defaultdict(lambda: -1)
    async for effect in effects:
        key, number = effect.key, effect.number
        ledger.effects += 1
        ledger.invented += number >= sent.get(key, 0)
        ledger.twice += number in seen[key]
        ledger.overtaken += number not in seen[key] and number < newest[key]
        seen[key].add(number)
        newest[key] = max(newest[key], number)
        ledger.handled[partition(key, PARTITIONS)].append(
            Handled(
                worker=effect.worker,
                sent_ms=effect.sent_ms,
                waited_ms=effect.handled_ms - effect.sent_ms,
            )
        )
    ledger.lost = sum(len(set(range(count)) - seen[key]) for key, count in sent.items())
    return ledger
