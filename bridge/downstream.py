"""The queues of other teams, as data: names, bounds, and what their patterns mean."""

import difflib
from collections.abc import Iterable

from bridge.contract import COMMANDS, EVENTS, MALFORMED
from bridge.topology import CALLBACKS, Binding, Queue, partition_name, quorum

PREFIX = "openim.sub."
"""What the names of their queues, and of their users, begin with."""

NO_DELIVERY_LIMIT = 2**31 - 1
"""RabbitMQ 4 would drop what came back 20 times, without a word, and has no other way to say
never that RabbitMQ 3 understands."""

_WORDS = 3
"""Words of a routing key, without its partition."""

_UNKNOWN = "unknown"


class UnknownPattern(Exception):
    """Nothing could ever match it; the message says what is meant perhaps."""


def queue_name(name: str, partition: int | None = None) -> str:
    """Name the queue of a subscription, if ordered one of them."""
    queue = PREFIX + name
    return queue if partition is None else f"{queue}.{partition_name(partition)}"


def queues(name: str, *, partitions: int, length: int, size: int) -> tuple[Queue, ...]:
    """Give the queues of a subscription, which shall hold up nobody when its team is away.

    A full one drops its oldest: if it refused the newest, RabbitMQ would refuse the whole
    publish, and every other subscriber would get one more copy of all that it refuses.

    Args:
        name: Of the subscription.
        partitions: How many queues an ordered one has, each with one consumer at a time; 0
            if it is not ordered.
        length: Messages that may wait, in all.
        size: Bytes that may wait, in all.

    """
    sources = _sources(partitions)
    alone = {"single_active_consumer": True} if partitions else {}
    return tuple(
        quorum(
            queue_name(name, source),
            max_length=max(length // len(sources), 1),
            max_length_bytes=max(size // len(sources), 1),
            overflow="drop-head",
            delivery_limit=NO_DELIVERY_LIMIT,
            **alone,
        )
        for source in sources
    )


def bindings(name: str, patterns: Iterable[str], *, partitions: int) -> tuple[Binding, ...]:
    """Give what brings a subscription the callbacks that match `patterns`."""
    return tuple(
        Binding(exchange=CALLBACKS, queue=queue_name(name, source), routing_key=key)
        for source in _sources(partitions)
        for pattern in patterns
        for key in _keys(pattern, source)
    )


def _sources(partitions: int) -> tuple[int | None, ...]:
    return tuple(range(partitions)) or (None,)


def _keys(pattern: str, partition: int | None) -> list[str]:
    """Give the binding keys for a pattern, which says nothing of partitions."""
    if pattern == MALFORMED:
        return [] if partition else [pattern]
    if partition is None:
        return [pattern if pattern.endswith("#") else f"{pattern}.*"]
    # What is malformed is in order with nothing, and has no partition.
    more = [MALFORMED] if pattern == "#" and partition == 0 else []
    return [f"{pattern}.{partition_name(partition)}", *more]


def pattern_of(key: str) -> str:
    """Give the pattern that a binding key was made for."""
    pattern, _, last = key.rpartition(".")
    return key if last == "#" or not pattern else pattern


def patterns(texts: Iterable[str]) -> tuple[str, ...]:
    """Read what people say they want: routing patterns, and names of callback commands.

    Raises:
        UnknownPattern: it would match nothing.

    """
    words = [word.strip() for text in texts for word in text.split(",")]
    found = tuple(dict.fromkeys(_pattern(word) for word in words if word))
    # What a wider one brings anyway needs no binding of its own.
    return ("#",) if "#" in found else found


def _pattern(text: str) -> str:
    if text in {"#", "*", MALFORMED}:
        return "#" if text == "*" else text
    if "." not in text:
        return _of_command(text)
    words = text.split(".")
    if words[-1] == "*" and words[0] != _UNKNOWN and len(words) != _WORDS:
        # Taken by the letter `friend.*` would match nothing, and a fourth is the partition.
        words = [*words[:-1], "#"] if len(words) < _WORDS else words[:-1]
    if words == [_UNKNOWN, "*"]:
        words = [_UNKNOWN, "#"]
    known = [event.routing_key.split(".") for event in EVENTS] + [[_UNKNOWN, words[-1]]]
    if not any(_matches(words, key) for key in known):
        hint = difflib.get_close_matches(text, [event.routing_key for event in EVENTS], 1)
        meant = f"; did you mean {hint[0]}?" if hint else ""
        raise UnknownPattern(f"no callback has a routing key like {text}{meant}")
    return ".".join(words)


def _of_command(text: str) -> str:
    wanted = text.lower().removeprefix("callback").removesuffix("command")
    titles = {
        command.removeprefix("callback").removesuffix("Command"): event
        for command, event in COMMANDS.items()
    }
    for title, event in titles.items():
        if title.lower() == wanted:
            return event.routing_key
    if wanted in {event.subject for event in EVENTS}:
        raise UnknownPattern(f"no callback is called {text}; did you mean {wanted}.#?")
    hint = difflib.get_close_matches(text, titles, 1)
    meant = f"; did you mean {hint[0]}?" if hint else ""
    raise UnknownPattern(f"no callback is called {text}{meant}")


def matches(pattern: str, routing_key: str) -> bool:
    """Say whether a pattern, as `patterns` gives it, is for a message of this routing key."""
    return any(key_matches(key, routing_key) for key in _keys(pattern, None))


def key_matches(binding_key: str, routing_key: str) -> bool:
    """Say whether a topic exchange sends a message of this routing key over this binding."""
    return _matches(binding_key.split("."), routing_key.split("."))


def _matches(pattern: list[str], key: list[str]) -> bool:
    """Match as a topic exchange does: `*` is one word, `#` any number of them."""
    if not pattern:
        return not key
    if pattern[0] == "#":
        return any(_matches(pattern[1:], key[at:]) for at in range(len(key) + 1))
    if not key or pattern[0] not in {"*", key[0]}:
        return False
    return _matches(pattern[1:], key[1:])
