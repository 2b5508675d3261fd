"""Tells the stream `openim.outcomes` what came of each attempt; never in anybody's way.

On a connection of its own: whatever RabbitMQ does with it, handling goes on. What it does
not take in time is dropped and counted.
"""

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Sequence
from itertools import count

from bridge.broker import Broker, BrokerError, connect
from bridge.outcomes import Attempt, encoded
from bridge.outcomes import set_up as outcomes_set_up
from bridge.topology import OUTCOMES
from bridge.waiting import Backoff, first_of
from bridge.wire import Numbered, Publisher
from bridge.wire import Outcome as Confirm
from consumers.lanes import Job
from consumers.outcome import Handled, Note, Outcome, Tried, Waits, ignore
from consumers.settings import Worker as Settings

log = logging.getLogger(__name__)

PACE = 0.1
"""Seconds in which attempts gather for a message."""

MOST_IN_MESSAGE = 200

MOST_UNCONFIRMED = 50
"""Messages on their way to RabbitMQ, at most."""

MOST_WAITING = 10_000
"""Attempts that wait to be published, at most: about 6 MB."""

FAREWELL = 1.0
"""Seconds that a stop waits for what is not published yet."""


class Records:
    """What came of attempts, on its way to RabbitMQ.

    Args:
        settings: The worker's.
        worker: Its name.

    """

    def __init__(self, settings: Settings, worker: str) -> None:
        self._settings = settings
        self._worker = worker
        self._host = socket.gethostname()
        self._waiting: deque[Attempt] = deque()
        self._some = asyncio.Event()
        self._numbers = count(1)
        self._unconfirmed: dict[int, tuple[bytes, int]] = {}
        self._connected = False
        self._trouble = ""
        self.dropped = 0
        """Attempts that are in no stream, as there was no room or no connection."""

    def of(self, subscription: str) -> Note:
        """Give what notes the attempts of a subscription."""
        if not self._settings.outcomes_days:
            return ignore
        waiting, some = self._waiting, self._some

        def note(job: Job, outcome: Outcome, tried: Tried) -> None:
            if len(waiting) >= MOST_WAITING:
                self.dropped += 1
                return
            waiting.append(self._attempt(subscription, job, outcome, tried))
            some.set()

        return note

    def _attempt(self, subscription: str, job: Job, outcome: Outcome, tried: Tried) -> Attempt:
        delivery = job.delivery
        error, again = "", None
        if not isinstance(outcome, Handled):
            error = outcome.reason
        if isinstance(outcome, Waits):
            again = int((tried.began + tried.seconds + outcome.seconds) * 1000)
        return Attempt(
            message_id=delivery.message_id,
            command=delivery.command,
            operation_id=delivery.operation_id,
            subscription=subscription,
            handler=tried.handler,
            partition=job.source.partition,
            attempt=job.attempt,
            outcome=outcome.kind,
            received_ms=job.received_ms,
            began_ms=int(tried.began * 1000),
            seconds=round(tried.seconds, 6),
            worker=self._worker,
            host=self._host,
            error=error,
            again_ms=again,
        )

    async def run(self) -> None:
        """Connect, publish until the connection breaks, wait, connect again; for ever."""
        if not self._settings.outcomes_days:
            await asyncio.Event().wait()
        backoff = Backoff()
        while True:
            try:
                async with connect(
                    self._settings.broker_url,
                    name="openim-consumers outcomes",
                    timeout=self._settings.connect_timeout,
                ) as broker:
                    await self._publish_over(broker, backoff)
            except BrokerError as error:
                self._note_away(str(error))
            finally:
                self._connected = False
            await backoff.pause()

    async def _publish_over(self, broker: Broker, backoff: Backoff) -> None:
        settings = self._settings
        if not await outcomes_set_up(broker, settings.outcomes_days, settings.outcomes_bytes):
            await broker.until_lost()
        publisher = await broker.publisher(OUTCOMES, self._note_confirmed)
        backoff.reset()
        self._connected, self._trouble = True, ""
        # What the last connection left open; twice in the stream is better than not at all.
        publisher.send([(number, each) for number, (each, _) in self._unconfirmed.items()])
        await first_of(broker.until_lost(), self._publish(broker, publisher))

    async def _publish(self, broker: Broker, publisher: Publisher) -> None:
        while True:
            await self._some.wait()
            await asyncio.sleep(PACE)
            await broker.unblocked.wait()
            publisher.send(self._next())
            if not self._waiting:
                self._some.clear()

    def _next(self) -> list[Numbered]:
        """Take what waits, as much as may be on its way."""
        messages: list[Numbered] = []
        while self._waiting and len(self._unconfirmed) < MOST_UNCONFIRMED:
            most = min(len(self._waiting), MOST_IN_MESSAGE)
            attempts = [self._waiting.popleft() for _ in range(most)]
            number, message = next(self._numbers), encoded(attempts)
            self._unconfirmed[number] = message, most
            messages.append((number, message))
        return messages

    def _note_confirmed(self, messages: Sequence[Numbered], outcome: Confirm) -> None:
        for number, _ in messages:
            _, attempts = self._unconfirmed.pop(number, (b"", 0))
            if outcome is not Confirm.CONFIRMED:
                self.dropped += attempts

    async def published(self) -> None:
        """Wait until all is published, for a while, if RabbitMQ is there."""
        try:
            async with asyncio.timeout(FAREWELL):
                while self._connected and (self._waiting or self._unconfirmed):  # noqa: ASYNC110
                    await asyncio.sleep(PACE / 10)
        except TimeoutError:
            self.dropped += len(self._waiting)

    def _note_away(self, reason: str) -> None:
        if reason != self._trouble:
            # The worker itself says so louder; alone, this holds up nobody.
            log.info("outcomes wait", extra={"reason": reason})
        self._trouble = reason
