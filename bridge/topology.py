"""Where callbacks travel: exchanges, queues and bindings, as data.

    openim.received (topic) ──► whoever only looks on
          │ everything
          ▼
    openim.callbacks (topic) ──► openim.work.<subscription> ──► a consumer
          │ no queue wanted it         │ tried in vain, or refused
          ▼                            ▼
    openim.unrouted (fanout)     openim.dead-letters (direct)
          │                            │
          ▼                            ▼
    openim.unrouted              openim.dead-letters.<subscription>

    openim.refused (fanout ─► queue of the same name, whose messages expire back into
    openim.callbacks): what one full queue would not take, out of the others' way
    openim.sub.<name>, bound to openim.callbacks: the queue of another team
    openim.archive, bound to openim.received: a stream of every callback, for some days
    openim.outcomes (fanout ─► stream of the same name): what came of each attempt

    openim.wait.<seconds>s (fanout ─► queue of the same name, whose messages expire into
    openim.retry (direct) and so return to the queue they left; else, to openim.unrouted)

Names and arguments are stated here, but for openim.sub (`bridge.downstream`), openim.questions
(`bridge.questions`) and openim.outcomes (`bridge.outcomes`); `bridge.broker` declares them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

Arguments: TypeAlias = Mapping[str, str | int]

RECEIVED = "openim.received"
"""The topic exchange that every callback is published to. Who only looks on binds to it:
at CALLBACKS an onlooker would count as a taker, and nothing would be unrouted any more."""

CALLBACKS = "openim.callbacks"
"""The topic exchange that gets them all from there, and that subscriptions bind to."""

UNROUTED = "openim.unrouted"
"""Alternate exchange of CALLBACKS and RETRY, and the queue that keeps what it gets."""

REFUSED = "openim.refused"
"""Fanout exchange and queue for what a full queue behind CALLBACKS refused. From there
RabbitMQ itself offers it to them again: after REFUSED_WAIT, and then every three minutes to
those that still have not taken it, 32 messages at a time. The other queues get one more copy
at most, and nobody waits."""

REFUSED_WAIT = 5
"""Seconds before a refused message is offered again."""

DEAD_LETTERS = "openim.dead-letters"
"""Direct exchange for deliveries that no attempt could handle."""

RETRY = "openim.retry"
"""Direct exchange that brings waiting messages back to the queue they left."""

ARCHIVE = "openim.archive"
"""The stream that keeps every callback for a while, to be replayed from."""

OUTCOMES = "openim.outcomes"
"""Fanout exchange, and the stream that keeps what came of each attempt to handle a callback."""

STREAM_SEGMENT = 64 * 2**20
"""Bytes of a stream's file. RabbitMQ removes whole files only, so what is older than asked for
may stay until so much more has come; by default that would be 500 MB."""

DELIVERY_LIMIT = 20
"""Deliveries of one message before RabbitMQ itself dead-letters it: the net under a
handler that takes its whole process down. Above the prefetch, or a message that merely
shared a process with a deadly one would go with it."""

NO_DELIVERY_LIMIT = 2**31 - 1
"""Deliveries of a message that is only looked at, over and over. RabbitMQ 4 drops it after 20
unless told otherwise, and RabbitMQ 3 has no other way to say never."""

SCHEDULE = (1, 5, 30, 120, 600)
"""Seconds to wait after each failed attempt; after the last, the dead letters.

    attempt   waits   since the first
    1         1 s     1 s
    2         5 s     6 s
    3         30 s    36 s
    4         2 min   2 min 36 s
    5         10 min  12 min 36 s
    6         dead-lettered

Each wait is a queue of its own: in one queue, a long wait would hold up a short one.
"""

HOLDS = (0.5, 1, 2, 4, 8, 15)
"""Seconds that an ordered subscription holds a key after each failed attempt, half a minute in
all; after the last, the dead letters, and the key goes on."""

WORKERS = "openim.workers"
"""Fanout exchange on which workers tell each other that they are there."""


@dataclass(frozen=True, kw_only=True)
class Exchange:
    """An exchange, durable."""

    name: str
    kind: str
    arguments: Arguments = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Queue:
    """A queue, durable. Quorum queues write to disk before they confirm."""

    name: str
    arguments: Arguments


@dataclass(frozen=True, kw_only=True)
class Binding:
    """What sends messages from an exchange to a queue."""

    exchange: str
    queue: str
    routing_key: str


@dataclass(frozen=True, kw_only=True)
class Passage:
    """What sends messages from an exchange on to another."""

    source: str
    target: str
    routing_key: str


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Exchanges, queues and what connects them, in the order to declare them."""

    exchanges: tuple[Exchange, ...] = ()
    passages: tuple[Passage, ...] = ()
    queues: tuple[Queue, ...] = ()
    bindings: tuple[Binding, ...] = ()


def queue(kind: str, name: str, **arguments: str | int) -> Queue:
    """Give a queue; `max_length` is RabbitMQ's `x-max-length`, and so on."""
    return Queue(
        name=name,
        arguments={"x-queue-type": kind}
        | {f"x-{key.replace('_', '-')}": value for key, value in arguments.items()},
    )


def quorum(name: str, **arguments: str | int) -> Queue:
    """Give a quorum queue."""
    return queue("quorum", name, **arguments)


def _dead_lettering(exchange: str, routing_key: str) -> dict[str, str | int]:
    """Arguments that move a message to `exchange` and keep it until it has arrived.

    Without `reject-publish` RabbitMQ quietly falls back to at-most-once.
    """
    return {
        "dead_letter_exchange": exchange,
        "dead_letter_routing_key": routing_key,
        "dead_letter_strategy": "at-least-once",
        "overflow": "reject-publish",
    }


def _waiting(name: str, seconds: int, then: str) -> Queue:
    """Keep messages for `seconds`, then pass them to the exchange `then`, by routing key."""
    return quorum(
        name,
        message_ttl=seconds * 1000,
        dead_letter_exchange=then,
        dead_letter_strategy="at-least-once",
        overflow="reject-publish",
    )


BRIDGE = Topology(
    exchanges=(
        Exchange(name=UNROUTED, kind="fanout"),
        Exchange(name=CALLBACKS, kind="topic", arguments={"alternate-exchange": UNROUTED}),
        Exchange(name=RECEIVED, kind="topic"),
        Exchange(name=REFUSED, kind="fanout"),
    ),
    passages=(Passage(source=RECEIVED, target=CALLBACKS, routing_key="#"),),
    queues=(quorum(UNROUTED), _waiting(REFUSED, REFUSED_WAIT, CALLBACKS)),
    bindings=(
        Binding(exchange=UNROUTED, queue=UNROUTED, routing_key=""),
        Binding(exchange=REFUSED, queue=REFUSED, routing_key=""),
    ),
)
"""What the receiver needs, whoever listens."""


def stream(name: str, seconds: int, most_bytes: int) -> Queue:
    """Keep messages for `seconds`, within `most_bytes`; the oldest go first."""
    return queue(
        "stream",
        name,
        max_age=f"{seconds}s",
        max_length_bytes=most_bytes,
        stream_max_segment_size_bytes=min(STREAM_SEGMENT, most_bytes // 2),
    )


def archive(seconds: int, most_bytes: int) -> Queue:
    """Keep callbacks for a while."""
    return stream(ARCHIVE, seconds, most_bytes)


ARCHIVED = Topology(bindings=(Binding(exchange=RECEIVED, queue=ARCHIVE, routing_key="#"),))
"""What fills the archive, once it exists."""


def partition_name(partition: int) -> str:
    """Give the last word of a routing key."""
    return f"p{partition:02d}"


def work_queue(subscription: str, partition: int | None = None) -> str:
    """Name the queue that `subscription` takes its deliveries from, if ordered one of them."""
    name = f"openim.work.{subscription}"
    return name if partition is None else f"{name}.{partition_name(partition)}"


def dead_letter_queue(subscription: str) -> str:
    """Name the queue that keeps what `subscription` could not handle."""
    return f"{DEAD_LETTERS}.{subscription}"


def dead_letters(subscription: str) -> Queue:
    """Keep what `subscription` could not handle, however often people look at it."""
    name = dead_letter_queue(subscription)
    return quorum(name, delivery_limit=NO_DELIVERY_LIMIT, overflow="reject-publish")


def wait_exchange(seconds: int) -> str:
    """Name the exchange, and its queue, where a message waits for `seconds`."""
    return f"openim.wait.{seconds}s"


SUBSCRIPTIONS = Topology(
    exchanges=(
        Exchange(name=DEAD_LETTERS, kind="direct"),
        # What no queue takes would hold up all that waits.
        Exchange(name=RETRY, kind="direct", arguments={"alternate-exchange": UNROUTED}),
        Exchange(name=WORKERS, kind="fanout"),
        *(Exchange(name=wait_exchange(wait), kind="fanout") for wait in SCHEDULE),
    ),
    queues=tuple(_waiting(wait_exchange(wait), wait, RETRY) for wait in SCHEDULE),
    bindings=tuple(
        Binding(exchange=name, queue=name, routing_key="")
        for name in map(wait_exchange, SCHEDULE)
    ),
)
"""What all subscriptions share."""


def subscription(name: str, events: tuple[str, ...], *, partitions: int = 0) -> Topology:
    """Everything that one subscription has for itself.

    Args:
        name: The subscription's name, part of its queues' names.
        events: Routing keys without their partitions, such as `friend.after.add_friend`.
        partitions: How many queues an ordered one has, each with one consumer at a time: as
            many as the receiver numbers. 0 if it is not ordered.

    """
    dead = dead_letter_queue(name)
    sources: tuple[int | None, ...] = tuple(range(partitions)) or (None,)
    alone = {"single_active_consumer": True} if partitions else {}
    arguments = _dead_lettering(DEAD_LETTERS, dead) | alone
    return Topology(
        queues=(
            dead_letters(name),
            *(
                quorum(work_queue(name, source), delivery_limit=DELIVERY_LIMIT, **arguments)
                for source in sources
            ),
        ),
        bindings=(
            Binding(exchange=DEAD_LETTERS, queue=dead, routing_key=dead),
            *(each for source in sources for each in _work_bindings(name, source, events)),
        ),
    )


def _work_bindings(
    name: str, partition: int | None, events: tuple[str, ...]
) -> tuple[Binding, ...]:
    work = work_queue(name, partition)
    last = "*" if partition is None else partition_name(partition)
    return (
        Binding(exchange=RETRY, queue=work, routing_key=work),
        *(Binding(exchange=CALLBACKS, queue=work, routing_key=f"{e}.{last}") for e in events),
    )
