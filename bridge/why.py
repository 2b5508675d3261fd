"""What became of one callback: found in journal, archive, outcomes and queues."""

import asyncio
import re
import time
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from bridge import archive, downstream, fields, on_disk, outcomes, queues, segments
from bridge.archive import NoArchive, Progress
from bridge.broker import Broker, BrokerError, Delivery, connect
from bridge.management import Management, NoManagement, management
from bridge.message import Message
from bridge.outcomes import Attempt
from bridge.settings import Receiver as Settings
from bridge.topology import CALLBACKS, REFUSED, UNROUTED, dead_letter_queue
from bridge.waiting import first_of

MOST = 100
"""Callbacks that are told of; an operation id may name more."""

LOOKED_AT = 1000
"""Messages of `openim.refused` that are looked at, at most."""

_MESSAGE_IDS = ("msgid", "msgids", "msgidlist")
"""How names of fields end that hold a message's id: `serverMsgID`, `clientMsgID`."""

_WORK = re.compile(r"openim\.work\.(\w+?)(?:\.p\d\d)?")
_UUID7 = re.compile(r"([0-9a-f]{8})-([0-9a-f]{4})-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@dataclass(kw_only=True)
class Queue:
    """A queue that wants the callback, as it is now."""

    name: str
    ready: int
    """Messages that wait in it."""
    consumers: int


@dataclass(kw_only=True)
class Fate:
    """What became of the callback in one subscription."""

    subscription: str
    foreign: bool = False
    """Whether it is another team's, which tells nothing."""
    queues: list[Queue] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    dead_letters: int = 0
    """How many it has, of whatever callbacks."""


@dataclass(kw_only=True)
class Life:
    """One callback, from its receipt."""

    message_id: str
    command: str
    operation_id: str
    received_ms: int
    routing_key: str = ""
    """"" if only outcomes tell of it."""
    archived: bool = False
    journal: str = ""
    """Folder that holds it, as RabbitMQ has not confirmed it yet."""
    set_aside: str = ""
    """File that holds it, as RabbitMQ would not have it."""
    refused: bool = False
    """Whether it waits in `openim.refused`."""
    headers: dict[str, object] = field(default_factory=dict)
    wanted_known: bool = False
    """Whether the queues that want it were looked at."""
    fates: dict[str, Fate] = field(default_factory=dict)

    def fate(self, subscription: str) -> Fate:
        """Give what became of it in a subscription."""
        return self.fates.setdefault(subscription, Fate(subscription=subscription))


@dataclass(kw_only=True)
class Found:
    """All that was found."""

    lives: dict[str, Life] = field(default_factory=dict)
    """By message id, about oldest first."""
    more: bool = False
    """Whether there are more than `MOST`."""
    archive_begins: float | None = None
    """When the oldest callback looked at was received: seconds since 1970."""
    archive_seen: bool = False
    journals_seen: bool = False
    problems: list[str] = field(default_factory=list)
    """What could not be looked at."""
    progress: Progress = lambda _: None

    def life(self, of: Delivery | Message | Attempt) -> Life | None:
        """Give the life of a callback; None if there are too many."""
        message_id = of.id if isinstance(of, Message) else of.message_id
        if message_id not in self.lives:
            if len(self.lives) >= MOST:
                self.more = True
                return None
            self.lives[message_id] = Life(
                message_id=message_id,
                command=of.command,
                operation_id=of.operation_id,
                received_ms=of.received_ms,
            )
        return self.lives[message_id]


def minted(wanted: str) -> float | None:
    """Give when a message id was minted, in seconds since 1970; None if it is no such id."""
    found = _UUID7.fullmatch(wanted.lower())
    return int(found[1] + found[2], 16) / 1000 if found else None


def names(wanted: str, message_id: str, operation_id: str, body: bytes) -> bool:
    """Say whether an id is one of a callback's: its own, OpenIM's, or a message's in it."""
    if wanted in {message_id, operation_id}:
        return True
    return wanted.encode() in body and wanted in fields.ids(body, _MESSAGE_IDS)


async def find(
    settings: Settings, wanted: str, since: float | None, progress: Progress = lambda _: None
) -> Found:
    """Look for a callback wherever it may be.

    Args:
        settings: A receiver's: its journal is looked at, and RabbitMQ.
        wanted: An id, as of `names`.
        since: Seconds since 1970: look at nothing older. None: look at everything.
        progress: Told how many of the archive were looked at.

    Raises:
        BrokerError: RabbitMQ is away, and the journal does not have it.

    """
    found = Found(progress=progress)
    await asyncio.to_thread(_look_into_journals, Path(settings.journal_path), wanted, found)
    begin = minted(wanted) if since is None else since
    try:
        async with connect(
            settings.broker_url, name="openim-bridge why", timeout=settings.connect_timeout
        ) as broker:
            await first_of(broker.until_lost(), _look(broker, settings, wanted, begin, found))
    except BrokerError as error:
        if not found.lives:
            raise
        found.problems.append(str(error))
    return found


def _look_into_journals(path: Path, wanted: str, found: Found) -> None:
    """Find what a receiver on this machine has on disk and not in RabbitMQ yet."""
    try:
        for held in on_disk.held(path, found.problems):
            message = held.message
            if names(wanted, message.id, message.operation_id, message.body):
                life = found.life(message)
                if life is not None:
                    life.journal, life.set_aside = held.journal, held.set_aside
                    life.routing_key, life.headers = message.routing_key, dict(message.headers)
        found.journals_seen = True
    except (OSError, segments.JournalBroken) as error:
        found.problems.append(f"the journal in {path} was not looked at: {error}")


async def _look(
    broker: Broker, settings: Settings, wanted: str, since: float | None, found: Found
) -> None:
    await _look_into_archive(broker, settings, wanted, since, found)
    await _look_at_outcomes(broker, settings, wanted, since, found)
    if found.lives:
        await _look_into_refused(broker, found)
        async with management(
            settings.management_url, settings.broker_url, settings.connect_timeout
        ) as api:
            await _look_at_queues(broker, api, found)


async def _look_into_archive(
    broker: Broker, settings: Settings, wanted: str, since: float | None, found: Found
) -> None:
    try:
        past = await archive.as_it_is(broker, settings.connect_timeout)
        async with aclosing(past.read(since, found.progress)) as deliveries:
            async for delivery in deliveries:
                if found.archive_begins is None:
                    found.archive_begins = delivery.received_ms / 1000
                if not names(wanted, delivery.message_id, delivery.operation_id, delivery.body):
                    continue
                life = found.life(delivery)
                if life is not None:
                    life.archived, life.routing_key = True, delivery.routing_key
                    life.headers = delivery.headers
                    life.journal = life.set_aside = ""
        found.archive_seen = True
    except NoArchive as error:
        found.problems.append(f"the archive was not looked at: {error}")


async def _look_at_outcomes(
    broker: Broker, settings: Settings, wanted: str, since: float | None, found: Found
) -> None:
    received = [life.received_ms / 1000 for life in found.lives.values() if life.received_ms]
    since = min(received, default=since)
    try:
        async with aclosing(outcomes.read(broker, settings.connect_timeout, since)) as attempts:
            async for attempt in attempts:
                if attempt.message_id in found.lives or wanted in {
                    attempt.message_id,
                    attempt.operation_id,
                }:
                    life = found.life(attempt)
                    if life is not None:
                        life.fate(attempt.subscription).attempts.append(attempt)
    except NoArchive as error:
        found.problems.append(f"outcomes were not looked at: {error}")


async def _look_into_refused(broker: Broker, found: Found) -> None:
    """See what waits as a full queue would not take it.

    RabbitMQ counts a look as a delivery; after too many it does what it would do anyway,
    and offers the message again.
    """
    waiting = await queues.ready(broker, REFUSED) or 0
    if not waiting:
        return
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the prefetch
    consumer = await broker.consume(
        REFUSED, deliveries.put_nowait, prefetch=min(waiting, LOOKED_AT)
    )
    try:
        async with asyncio.timeout(1):
            for _ in range(min(waiting, LOOKED_AT)):
                message_id = (await deliveries.get()).message_id
                if message_id in found.lives:
                    found.lives[message_id].refused = True
    except TimeoutError:
        pass  # they have expired on their way, to be offered again
    finally:
        await consumer.close()


async def _look_at_queues(broker: Broker, api: Management, found: Found) -> None:
    """Find the queues that want each callback, and how they are."""
    try:
        bindings = await api.bindings(CALLBACKS)
    except NoManagement as error:
        found.problems.append(f"which queues want it was not looked at: {error}")
        return
    states: dict[str, Queue] = {}
    for life in found.lives.values():
        life.wanted_known = True
        wanting = {
            bound.queue
            for bound in bindings
            if downstream.key_matches(bound.routing_key, life.routing_key)
        }
        for name in sorted(wanting - {UNROUTED}):
            if name not in states:
                look = await queues.looked_at(broker, name) or queues.Look(0, 0)
                states[name] = Queue(name=name, ready=look.ready, consumers=look.consumers)
            own = _WORK.fullmatch(name)
            fate = life.fate(own[1] if own else name.removeprefix(downstream.PREFIX))
            fate.foreign = not own
            fate.queues.append(states[name])
            if own:
                dead = await queues.looked_at(broker, dead_letter_queue(own[1]))
                fate.dead_letters = dead.ready if dead else 0


def now_ms() -> int:
    """Give the time as attempts have it."""
    return time.time_ns() // 1_000_000
