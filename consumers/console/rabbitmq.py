"""What RabbitMQ says of its queues, consumers and exchanges, every few seconds."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from bridge import downstream
from bridge.deliveries import Seconds
from bridge.management import Management, NoManagement, management
from bridge.topology import (
    CALLBACKS,
    DEAD_LETTERS,
    SCHEDULE,
    Binding,
    wait_exchange,
    work_queue,
)
from consumers.pauses import PausedBy
from consumers.settings import Console as Settings

PACE: Seconds = 2.0
"""Time between two looks; RabbitMQ counts anew every five seconds."""

PATIENCE: Seconds = 5.0

DEAD = f"{DEAD_LETTERS}."
WORK = work_queue("")


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue, as RabbitMQ describes it."""

    name: str
    messages: int
    ready: int
    unsettled: int
    consumers: int
    coming: float
    """Messages a second that come in."""
    going: float
    """Messages a second that are settled."""
    oldest: float | None
    """When the first of them was received; None if RabbitMQ does not say."""


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who takes the deliveries of a queue."""

    queue: str
    host: str
    """Address of the connection."""
    connection: str
    """What it is called."""
    active: bool
    """False for one that waits until another goes."""


@dataclass(frozen=True, kw_only=True)
class Subscription:
    """Queues that belong together: of a worker's subscription, or of another team."""

    name: str
    ours: bool
    queues: tuple[Queue, ...]
    patterns: tuple[str, ...]
    holders: tuple[Holder, ...]
    dead: int
    paused: PausedBy | None = None
    """Who has paused it, if people have."""

    @property
    def ready(self) -> int:
        """Messages that wait."""
        return sum(queue.ready for queue in self.queues)

    @property
    def messages(self) -> int:
        """Messages that wait or are being handled."""
        return sum(queue.messages for queue in self.queues)

    @property
    def coming(self) -> float:
        """Messages a second that come in."""
        return sum(queue.coming for queue in self.queues)

    @property
    def going(self) -> float:
        """Messages a second that are settled."""
        return sum(queue.going for queue in self.queues)

    @property
    def consumers(self) -> int:
        """Consumers of all its queues."""
        return sum(queue.consumers for queue in self.queues)

    @property
    def orphaned(self) -> bool:
        """Whether messages wait in a queue that nobody consumes, and nobody has meant that."""
        return not self.paused and any(
            queue.messages and not queue.consumers for queue in self.queues
        )

    @property
    def oldest(self) -> float | None:
        """Seconds since the oldest message was received."""
        stamps = [queue.oldest for queue in self.queues if queue.oldest is not None]
        return time.time() - min(stamps) if stamps else None

    def wants(self, routing_key: str) -> bool:
        """Say whether a callback of this routing key is for it."""
        return any(downstream.matches(pattern, routing_key) for pattern in self.patterns)


@dataclass(kw_only=True)
class State:
    """RabbitMQ as it was at the last look."""

    trouble: str = "not asked yet"
    """Why it could not be asked; empty if it could."""
    at: float = 0.0
    """When it was last asked with success."""
    queues: Mapping[str, Queue] = field(default_factory=dict)
    holders: Sequence[Holder] = ()
    bindings: Sequence[Binding] = ()
    exchanges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Messages a second into and out of each."""
    alarms: tuple[str, ...] = ()
    """What it is short of, and therefore takes nothing."""
    paused: Mapping[str, PausedBy] = field(default_factory=dict)
    """Subscriptions of ours that people have paused."""

    def count(self, queue: str) -> int:
        """Count the messages of a queue; 0 if there is none."""
        return self.queues[queue].messages if queue in self.queues else 0

    @property
    def between(self) -> int:
        """Count what failed and waits for its next attempt."""
        return sum(self.count(wait_exchange(seconds)) for seconds in SCHEDULE)

    def dead(self) -> dict[str, int]:
        """Count dead letters by subscription."""
        return {
            name.removeprefix(DEAD): queue.messages
            for name, queue in sorted(self.queues.items())
            if name.startswith(DEAD)
        }

    def subscriptions(self) -> list[Subscription]:
        """Give all subscriptions: the workers' first, then those of other teams."""
        names: dict[tuple[str, str], list[Queue]] = {}
        for prefix in (WORK, downstream.PREFIX):
            for name, queue in sorted(self.queues.items()):
                if name.startswith(prefix):
                    own = name.removeprefix(prefix).partition(".")[0]
                    names.setdefault((prefix, own), []).append(queue)
        return [self._subscription(*key, tuple(found)) for key, found in names.items()]

    def _subscription(self, prefix: str, name: str, queues: tuple[Queue, ...]) -> Subscription:
        members = {queue.name for queue in queues}
        ours = prefix == WORK
        return Subscription(
            name=name,
            ours=ours,
            queues=queues,
            patterns=tuple(
                sorted(
                    {
                        downstream.pattern_of(bound.routing_key)
                        for bound in self.bindings
                        if bound.queue in members
                    }
                )
            ),
            holders=tuple(holder for holder in self.holders if holder.queue in members),
            dead=self.count(DEAD + name) if ours else 0,
            paused=self.paused.get(name) if ours else None,
        )


class Watch:
    """Looks at RabbitMQ by its management API.

    Args:
        settings: Where that is.

    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.state = State()

    async def run(self) -> None:
        """Look, again and again."""
        settings = self._settings
        async with management(settings.management_url, settings.broker_url, PATIENCE) as api:
            while True:
                try:
                    self.state = await _looked(api)
                except NoManagement as error:
                    # What was known is shown on, with its age.
                    self.state.trouble = str(error)
                await asyncio.sleep(PACE)


async def _looked(api: Management) -> State:
    queues, consumers, exchanges, alarms, bindings = await asyncio.gather(
        api.queues(), api.consumers(), api.exchanges(), api.alarms(), api.bindings(CALLBACKS)
    )
    return State(
        trouble="",
        at=time.time(),
        queues={each["name"]: _queue(each) for each in queues},
        holders=[_holder(each) for each in consumers],
        exchanges={each["name"]: _rates(each) for each in exchanges},
        bindings=bindings,
        alarms=alarms,
    )


def _queue(told: Mapping[str, Any]) -> Queue:
    return Queue(
        name=told["name"],
        messages=told.get("messages", 0),
        ready=told.get("messages_ready", 0),
        unsettled=told.get("messages_unacknowledged", 0),
        consumers=told.get("consumers", 0),
        coming=_rate(told, "publish"),
        going=_rate(told, "ack"),
        oldest=told.get("head_message_timestamp") or None,
    )


def _rates(told: Mapping[str, Any]) -> tuple[float, float]:
    return _rate(told, "publish_in"), _rate(told, "publish_out")


def _rate(told: Mapping[str, Any], of: str) -> float:
    details = (told.get("message_stats") or {}).get(f"{of}_details") or {}
    return float(details.get("rate", 0.0))


def _holder(told: Mapping[str, Any]) -> Holder:
    channel = told.get("channel_details") or {}
    return Holder(
        queue=told["queue"]["name"],
        host=f"{channel.get('peer_host', '')}:{channel.get('peer_port', '')}",
        connection=str(channel.get("connection_name", "")),
        active=bool(told.get("active", True)),
    )
