"""From the journal to RabbitMQ: everything, oldest first, until it is confirmed."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

from bridge import archive
from bridge.broker import Broker, BrokerError, connect
from bridge.journal import Journal
from bridge.message import ids_of
from bridge.metrics import Metrics
from bridge.settings import Receiver as Settings
from bridge.topology import BRIDGE, RECEIVED, REFUSED
from bridge.waiting import Backoff, first_of
from bridge.wire import Numbered, Outcome, Publisher

if TYPE_CHECKING:
    from bridge.span_kinds import Publishing
    from bridge.spans import Spans

log = logging.getLogger(__name__)

PACE = 0.01
"""Seconds between small batches: what comes in the meantime shares a write, a confirm and,
in RabbitMQ, a sync. A lone callback waits for nobody, nor does a backlog; replies get the
CPU that this spares."""

POSTPONED_PAUSE = 1.0
"""Seconds before a message that nothing would take is published again."""

STRIKES = 3
"""Connections that one message may cost before it is set aside."""

WINDOW_BYTES = 8 * 2**20
"""Bytes published and not yet confirmed, at most, whatever `window` allows."""


@dataclass
class Link:
    """What is known of the broker, for those who ask how we are."""

    connected: bool = False
    blocked: bool = False
    reason: str = "not connected yet"
    """Why not, if not."""


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


@dataclass
class Forwarder:
    """Publishes the journal; `run` must run for that."""

    journal: Journal
    settings: Settings
    metrics: Metrics
    spans: "Spans | None" = None
    link: Link = field(default_factory=Link)
    _now: tuple[Broker, Window, Publisher] | None = None
    _careful_until: int = 0
    _suspect: int = 0
    _strikes: int = 0

    async def run(self) -> None:
        """Connect, publish until the connection breaks, wait, connect again; for ever."""
        backoff = Backoff()
        while True:
            try:
                async with connect(
                    self.settings.broker_url,
                    name="openim-bridge receiver",
                    timeout=self.settings.connect_timeout,
                ) as broker:
                    await broker.declare(BRIDGE)
                    await archive.set_up(broker, self.settings)
                    backoff.reset()
                    await self._publish_over(broker)
            except BrokerError as error:
                self._note_away(str(error))
            await backoff.pause()

    async def _publish_over(self, broker: Broker) -> None:
        window = Window(self.journal, self.metrics, self.settings.window)
        window.traced = self.spans.publishing() if self.spans else None
        window.keep = (await broker.publisher(REFUSED, window.settle_kept)).send
        publisher = await broker.publisher(RECEIVED, window.settle)
        self._note_here()
        self._now = broker, window, publisher
        try:
            await first_of(
                broker.until_lost(),
                self._watch(broker, window),
                self._retry(broker, window, publisher),
                self._publish(broker, window, publisher),
            )
        finally:
            self._now = None
            window.give_up()
            if broker.lost_over_a_message and window:
                self._blame(window)

    def _blame(self, window: Window) -> None:
        """Note which messages may have cost the connection: one of them is poison.

        They are published one at a time from here on, until it is found.
        """
        self._careful_until = window.last
        alone = window.last if len(window) == 1 else 0
        self._strikes = self._strikes + 1 if alone and alone == self._suspect else bool(alone)
        self._suspect = alone

    @property
    def _careful(self) -> bool:
        """Whether one message at a time is published, for one of the next is poison."""
        return self.journal.confirmed < self._careful_until

    async def _set_aside(self, window: Window) -> None:
        """Keep a message that RabbitMQ will not have out of the way of the others."""
        (record,) = await self.journal.read(self._suspect - 1, 1)
        path = self.journal.set_aside(record)
        self.journal.confirm(record.number)
        window.last = record.number
        self._suspect = self._strikes = 0
        self.metrics.set_aside.inc()
        facts = {"file": str(path), "bytes": len(record.payload)}
        log.error("message set aside", extra=ids_of(record.payload) | facts)

    def publish(self, message: bytes, confirmed: Confirmed) -> None:
        """Publish what the journal has no room for, before all that it holds.

        `confirmed` is told False at once if RabbitMQ is away or blocked.
        """
        if self._now is None or not self._now[0].unblocked.is_set():
            confirmed(False)  # noqa: FBT003  # the answer to its name
            return
        _, window, publisher = self._now
        publisher.send([(window.add_direct(confirmed), message)])

    async def _publish(self, broker: Broker, window: Window, publisher: Publisher) -> None:
        while True:
            await broker.unblocked.wait()
            if self._strikes >= STRIKES:
                await self._set_aside(window)
            while window.room <= 0 or (window and self._careful):
                window.changed.clear()
                await window.changed.wait()
            wanted = 1 if self._careful else window.room
            records = await self.journal.read(window.last, wanted)
            window.add(records)
            publisher.send(records)
            if len(records) < wanted:
                await asyncio.sleep(PACE)

    async def _retry(self, broker: Broker, window: Window, publisher: Publisher) -> None:
        """Publish again what nothing would take, once all is declared again."""
        while True:
            await asyncio.sleep(POSTPONED_PAUSE)
            if window.refused:
                count, window.refused = window.refused, 0
                log.warning("a queue refuses", extra={"messages": count, "kept_in": REFUSED})
            if window.postponed:
                await broker.declare(BRIDGE)
                again, window.postponed = window.postponed, []
                log.warning("RabbitMQ took no message", extra={"messages": len(again)})
                publisher.send(again)

    async def _watch(self, broker: Broker, window: Window) -> None:
        """Give up a connection on which confirms stop coming, unless RabbitMQ said why."""
        loop = asyncio.get_running_loop()
        timeout = self.settings.confirm_timeout
        while True:
            await asyncio.sleep(timeout / 5)
            if self.link.blocked is broker.unblocked.is_set():
                self._note_blocked(blocked=not broker.unblocked.is_set())
            if not window or self.link.blocked:
                window.progress = loop.time()
            elif loop.time() - window.progress > timeout:
                broker.abandon(f"no confirm for {timeout:g} s")

    def _note_here(self) -> None:
        self.link.connected, self.link.reason = True, ""
        log.info("broker connected", extra={"waiting": self.journal.depth})

    def _note_away(self, reason: str) -> None:
        if self.link.connected or self.link.reason != reason:
            log.warning(
                "broker unavailable", extra={"reason": reason, "waiting": self.journal.depth}
            )
        self.link.connected, self.link.reason = False, reason
        self.link.blocked = False

    def _note_blocked(self, *, blocked: bool) -> None:
        self.link.blocked = blocked
        log.warning("broker blocked" if blocked else "broker unblocked")
