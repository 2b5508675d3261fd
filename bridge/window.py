"""What is published on one connection and not yet confirmed."""

import asyncio
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeAlias

from bridge.journal import Journal
from bridge.metrics import Metrics
from bridge.wire import Numbered, Outcome

if TYPE_CHECKING:
    from bridge.span_kinds import Publishing

WINDOW_BYTES = 8 * 2**20
"""Bytes published and not yet confirmed, at most, whatever `window` allows."""

Confirmed: TypeAlias = Callable[[bool], None]
"""Told whether RabbitMQ has a message."""

Send: TypeAlias = Callable[[Sequence[Numbered]], None]


class Window:
    """The messages published on one connection and not yet confirmed.

    It moves the journal's mark up to just below the oldest of them.
    """

    keep: Send
    """Has RabbitMQ keep what a full queue refused, so that it holds up nobody else."""

    traced: "Publishing | None" = None
    """The spans of what is published, if traces are made."""

    def __init__(self, journal: Journal, metrics: Metrics, most: int) -> None:
        self._journal = journal
        self._metrics = metrics
        self._most = most
        self._open: dict[int, int] = {}
        self._direct: dict[int, Confirmed] = {}
        self._directs = 0
        self._bytes = 0
        self.last = journal.confirmed
        self.postponed: list[Numbered] = []
        """What nothing would take, not even to keep it."""
        self.refused = 0
        """How many a full queue refused, since somebody last asked."""
        self.changed = asyncio.Event()
        self.progress = asyncio.get_running_loop().time()

    def __len__(self) -> int:
        return len(self._open)

    @property
    def room(self) -> int:
        """How many more may be published."""
        return self._most - len(self._open) if self._bytes < WINDOW_BYTES else 0

    def add(self, messages: Sequence[Numbered]) -> None:
        """Note that `messages` are about to be published."""
        if not self._open:
            self.progress = asyncio.get_running_loop().time()
        self._open.update((number, len(message)) for number, message in messages)
        self._bytes += sum(len(message) for _, message in messages)
        self.last = messages[-1][0]
        if self.traced:
            self.traced.begin(messages)

    def settle(self, messages: Sequence[Numbered], outcome: Outcome) -> None:
        """Take the outcome of `messages`, as the publisher to RECEIVED reports it."""
        if outcome is Outcome.REFUSED:
            self._count(messages, outcome)
            self.refused += len(messages)
            self.keep(messages)
        else:
            self.settle_kept(messages, outcome)

    def settle_kept(self, messages: Sequence[Numbered], outcome: Outcome) -> None:
        """Take the outcome of `messages`, as the publisher to REFUSED reports it."""
        self._count(messages, outcome)
        if outcome is Outcome.CONFIRMED:
            self._close(messages)
        else:
            self.postponed += [each for each in messages if each[0] > 0]
        for number in self._direct.keys() & {number for number, _ in messages}:
            self._direct.pop(number)(outcome is Outcome.CONFIRMED)

    def _count(self, messages: Sequence[Numbered], outcome: Outcome) -> None:
        self.progress = asyncio.get_running_loop().time()
        self._metrics.outcomes[outcome].inc(len(messages))
        self.changed.set()

    def _close(self, messages: Sequence[Numbered]) -> None:
        for number, message in messages:
            if number > 0:
                del self._open[number]
                self._bytes -= len(message)
        if self.traced:
            self.traced.confirmed(messages)
        self._journal.confirm(next(iter(self._open)) - 1 if self._open else self.last)

    def add_direct(self, confirmed: Confirmed) -> int:
        """Give a number, below 0, for a message that is not in the journal."""
        self._directs += 1
        self._direct[-self._directs] = confirmed
        return -self._directs

    def give_up(self) -> None:
        """Say of what is not in the journal that it was not confirmed."""
        if self.traced:
            self.traced.lost()
        while self._direct:
            self._direct.popitem()[1](False)  # noqa: FBT003  # the answer to its name
