"""From the journal to RabbitMQ: everything, oldest first, until it is confirmed."""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bridge import archive
from bridge.broker import Broker, BrokerError, connect
from bridge.journal import Journal, Record
from bridge.layout import NotAMessage
from bridge.message import ids_of
from bridge.metrics import Metrics
from bridge.settings import Receiver as Settings
from bridge.topology import BRIDGE, RECEIVED, REFUSED
from bridge.waiting import Backoff, first_of
from bridge.window import Confirmed, Window
from bridge.wire import Publisher

if TYPE_CHECKING:
    from bridge.spans import Spans

log = logging.getLogger(__name__)

PACE = 0.01
"""Seconds between small batches: what comes in the meantime shares a write, a confirm and,
in RabbitMQ, a sync. A lone callback waits for nobody, nor does a backlog; replies get the
CPU that this spares."""

POSTPONED_PAUSE = 1.0
"""Seconds before a message that nothing would take is published again."""

STRIKES = 3
"""Connections that one message, or what is none, may cost before it is set aside."""


@dataclass
class Link:
    """What is known of the broker, for those who ask how we are."""

    connected: bool = False
    blocked: bool = False
    reason: str = "not connected yet"
    """Why not, if not."""


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
        except NotAMessage as error:
            self._blame(window)
            raise BrokerError(f"the journal holds {error}") from error
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
        path = await self._kept(record)
        self.journal.confirm(record.number)
        window.last = record.number
        self._suspect = self._strikes = 0
        self.metrics.set_aside.inc()
        facts = {"file": str(path), "bytes": len(record.payload)}
        log.error("message set aside", extra=ids_of(record.payload) | facts)

    async def _kept(self, record: Record) -> Path:
        """Keep a record in a file; until the disk takes it, it stays in the journal."""
        backoff = Backoff()
        while True:
            try:
                return await self.journal.set_aside(record)
            except OSError as error:
                facts = {"reason": str(error), "waiting": self.journal.depth}
                log.error(  # noqa: TRY400  # no traceback: the disk is at fault
                    "message not set aside", extra=ids_of(record.payload) | facts
                )
            await backoff.pause()

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
