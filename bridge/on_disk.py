"""What a receiver on this machine has on disk and RabbitMQ has not: found for `why`."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bridge import mark, reading, segments, set_aside, slots
from bridge.layout import NotAMessage
from bridge.message import Message, decode, ids_of


@dataclass(frozen=True, kw_only=True)
class Held:
    """A message, and what holds it."""

    message: Message
    journal: str = ""
    """Folder of a journal that goes on with it."""
    set_aside: str = ""
    """File that it was set aside in."""


def held(path: Path, problems: list[str]) -> Iterator[Held]:
    """Read all that is not in RabbitMQ, and add to `problems` what cannot be read.

    Raises:
        OSError: there is no journal, or it cannot be read.
        JournalBroken: a file is no segment of this version.

    """
    for slot in slots.left_behind(path):
        for message in _unconfirmed(slot, problems):
            yield Held(message=message, journal=str(slot))
    for slot in reading.folders(path):
        for file in set_aside.kept(slot):
            yield Held(message=_named(set_aside.read(file).payload), set_aside=str(file))


def _named(stored: bytes) -> Message:
    """Read a message, or at least its ids: what RabbitMQ refuses may be broken elsewhere."""
    try:
        return decode(stored)
    except NotAMessage:
        ids = ids_of(stored)
        return Message(
            id=ids["message_id"],
            routing_key="",
            command=ids["command"],
            received_ms=0,
            body=b"",
            operation_id=ids["operation_id"],
        )


def _unconfirmed(slot: Path, problems: list[str]) -> Iterator[Message]:
    confirmed = mark.read(slot)
    for segment in segments.segments(slot):
        unreadable = 0
        found = segments.read(segment, 0, confirmed, reading.CHUNK)
        while found.records:
            for record in found.records:
                try:
                    yield decode(record.payload)
                except NotAMessage:
                    unreadable += 1
            found = segments.read(segment, found.offset, confirmed, reading.CHUNK)
        if unreadable:
            problems.append(f"{unreadable} records in {segment} are no messages")
