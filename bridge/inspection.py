"""Compares exchanges, queues and bindings as they are wanted with what RabbitMQ has."""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from bridge import archive
from bridge.broker import Broker
from bridge.management import Management, NoManagement
from bridge.settings import Receiver as Settings
from bridge.topology import (
    ARCHIVED,
    BRIDGE,
    CALLBACKS,
    Binding,
    Exchange,
    Passage,
    Queue,
    Topology,
)

Thing: TypeAlias = Exchange | Queue | Passage | Binding
Kind: TypeAlias = Literal["missing", "different", "extra"]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """Something that is not as it is wanted."""

    kind: Kind
    what: str
    """Such as `queue openim.unrouted`."""
    how: str
    """Such as `is missing`."""
    thing: Thing
    by_policy: bool = False
    """Whether a policy of RabbitMQ does it, and not how the thing was declared."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What came of a comparison."""

    differences: tuple[Difference, ...]
    unseen: str = ""
    """Why arguments and bindings could not be seen, if so."""


def wanted(settings: Settings) -> Topology:
    """Give what a receiver with these settings needs in RabbitMQ."""
    if not settings.archive_days:
        return BRIDGE
    return together([BRIDGE, Topology(queues=(archive.queue(settings),)), ARCHIVED])


def together(parts: Iterable[Topology]) -> Topology:
    """Give all of several topologies, each thing once."""
    all_parts = list(parts)
    exchanges = {each.name: each for part in all_parts for each in part.exchanges}
    queues = {each.name: each for part in all_parts for each in part.queues}
    return Topology(
        exchanges=tuple(exchanges.values()),
        passages=tuple(dict.fromkeys(each for part in all_parts for each in part.passages)),
        queues=tuple(queues.values()),
        bindings=tuple(dict.fromkeys(each for part in all_parts for each in part.bindings)),
    )


def named(thing: Thing) -> str:
    """Name a part of a topology."""
    match thing:
        case Exchange(name=name):
            return f"exchange {name}"
        case Queue(name=name):
            return f"queue {name}"
        case Passage(source=source, target=target, routing_key=key):
            return f"binding {source} -> exchange {target} ({key or 'no key'})"
        case Binding(exchange=source, queue=target, routing_key=key):
            return f"binding {source} -> queue {target} ({key or 'no key'})"


async def compared(broker: Broker, api: Management, wanted: Topology) -> Compared:
    """Compare by the management API; without it, look only for what is missing.

    Raises:
        BrokerError: the connection was lost.

    """
    try:
        exchanges, found, bound = (
            await api.exchanges(),
            await api.queues(),
            await api.all_bindings(),
        )
    except NoManagement as error:
        return Compared(
            differences=tuple([d async for d in _missing(broker, wanted)]), unseen=str(error)
        )
    return Compared(differences=tuple(differences(wanted, exchanges, found, bound)))


async def _missing(broker: Broker, wanted: Topology) -> AsyncIterator[Difference]:
    things: list[Exchange | Queue] = [*wanted.exchanges, *wanted.queues]
    for thing in things:
        if not await broker.has(thing):
            yield _is_missing(thing)


def _is_missing(thing: Thing) -> Difference:
    return Difference(kind="missing", what=named(thing), how="is missing", thing=thing)


Described: TypeAlias = list[dict[str, Any]]


def differences(
    wanted: Topology, exchanges: Described, queues: Described, bindings: Described
) -> Iterator[Difference]:
    """Give what differs, as the management API describes what there is."""
    there = {each["name"]: each for each in exchanges}
    for exchange in wanted.exchanges:
        as_wanted = {"type": exchange.kind, "durable": True}
        yield from _differs(exchange, as_wanted, there.get(exchange.name))
    there = {each["name"]: each for each in queues}
    for queue in wanted.queues:
        yield from _differs(queue, {"durable": True}, there.get(queue.name))
        yield from _by_policy(queue, there.get(queue.name, {}))
    yield from _bindings(wanted, bindings)


def _differs(
    thing: Exchange | Queue, as_wanted: Mapping[str, Any], found: dict[str, Any] | None
) -> Iterator[Difference]:
    if found is None:
        yield _is_missing(thing)
        return
    is_so = {name: found[name] for name in as_wanted} | found["arguments"]
    should = {**as_wanted, **thing.arguments}
    how = [
        f"has {_value(name, is_so)}, wanted {_value(name, should)}"
        for name in sorted(is_so | should)
        if is_so.get(name) != should.get(name)
    ]
    if how:
        yield Difference(kind="different", what=named(thing), how="; ".join(how), thing=thing)


def _value(name: str, of: Mapping[str, Any]) -> str:
    return f"{name}={of[name]}" if name in of else f"no {name}"


_BOUNDS = ("max-length", "max-length-bytes", "overflow")

_LOSING = (
    *("dead-letter-exchange", "dead-letter-routing-key", "delivery-limit", "expires"),
    *_BOUNDS,
    "message-ttl",
)
"""Keys of a policy by which RabbitMQ drops messages, or brings them elsewhere."""


def _by_policy(queue: Queue, found: Mapping[str, Any]) -> Iterator[Difference]:
    # A policy may well bound a stream, which drops its oldest messages in any case.
    if queue.arguments["x-queue-type"] == "stream":
        return
    # RabbitMQ says [] where there is no policy, and nothing of a queue made just now.
    policy: dict[str, str | int] = dict(found.get("effective_policy_definition") or {})
    # What a full queue refuses stays with its publisher.
    refuses = queue.arguments.get("x-overflow", policy.get("overflow")) == "reject-publish"
    how = [
        f"a policy has {key}={policy[key]}, wanted {queue.arguments.get(f'x-{key}', 'none')}"
        for key in _LOSING
        if key in policy
        and not (refuses and key in _BOUNDS)
        and _prevails(policy[key], queue.arguments.get(f"x-{key}"))
    ]
    if how:
        yield Difference(
            kind="different", what=named(queue), how="; ".join(how), thing=queue, by_policy=True
        )


def _prevails(of_policy: str | int, argument: str | int | None) -> bool:
    """RabbitMQ goes by the smaller of two numbers, and by the argument of two texts."""
    if isinstance(of_policy, int) and isinstance(argument, int):
        return 0 <= of_policy < argument
    # A delivery-limit of -1 is none.
    return argument is None and of_policy != -1


def _bindings(wanted: Topology, found: Described) -> Iterator[Difference]:
    bound = {
        (each["source"], each["destination_type"], each["destination"], each["routing_key"])
        for each in found
    }
    for passage in wanted.passages:
        if (passage.source, "exchange", passage.target, passage.routing_key) not in bound:
            yield _is_missing(passage)
    for binding in wanted.bindings:
        if (binding.exchange, "queue", binding.queue, binding.routing_key) not in bound:
            yield _is_missing(binding)
    ours = {queue.name for queue in wanted.queues}
    for source, kind, target, key in sorted(bound):
        extra = Binding(exchange=source, queue=target, routing_key=key)
        if (
            source == CALLBACKS
            and kind == "queue"
            and target in ours
            and extra not in wanted.bindings
        ):
            yield Difference(
                kind="extra", what=named(extra), how="is there and not wanted", thing=extra
            )


def definitions(wanted: Topology, virtual_host: str) -> dict[str, list[dict[str, Any]]]:
    """Give a topology in the form that RabbitMQ imports."""
    common = {"vhost": virtual_host, "durable": True, "auto_delete": False}
    return {
        "vhosts": [{"name": virtual_host}],
        "exchanges": [
            {
                **common,
                "name": each.name,
                "type": each.kind,
                "internal": False,
                "arguments": dict(each.arguments),
            }
            for each in wanted.exchanges
        ],
        "queues": [
            {**common, "name": each.name, "arguments": dict(each.arguments)}
            for each in wanted.queues
        ],
        "bindings": [
            {"vhost": virtual_host, "arguments": {}} | each
            for each in (
                *(_passage(each) for each in wanted.passages),
                *(_binding(each) for each in wanted.bindings),
            )
        ],
    }


def _passage(of: Passage) -> dict[str, Any]:
    return {
        "source": of.source,
        "destination": of.target,
        "destination_type": "exchange",
        "routing_key": of.routing_key,
    }


def _binding(of: Binding) -> dict[str, Any]:
    return {
        "source": of.exchange,
        "destination": of.queue,
        "destination_type": "queue",
        "routing_key": of.routing_key,
    }
