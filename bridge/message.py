"""A callback as an AMQP message, in the bytes that travel and are stored.

The journal keeps exactly what the forwarder will send, so a callback is encoded once,
at receipt, and is read in one format on disk and on the wire:

    routing key   short string: one byte of length, then UTF-8
    properties    four bytes of length, then AMQP property flags and values
    body          the rest, as OpenIM sent it
"""

import hashlib
import random
import struct
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from pamqp.commands import Basic

from bridge import traceparent
from bridge.intake import LATEST_MS, read_properties
from bridge.layout import NotAMessage, properties_of

APP_ID = "openim-bridge"
SOURCE = "/openim"
"""CloudEvents' source: events are unique by source and id."""

LONGEST_VALUE = 2048
"""Bytes of a header's value that are kept: an ordering key may name a thousand users."""

LARGEST_TABLE = 8192
"""Bytes that headers may take: they must fit into one frame, or RabbitMQ hangs up."""

_FLAGS = struct.pack(
    ">H",
    1 << 15  # content_type
    | 1 << 13  # headers
    | 1 << 12  # delivery_mode
    | 1 << 10  # correlation_id
    | 1 << 7  # message_id
    | 1 << 6  # timestamp
    | 1 << 5  # type
    | 1 << 3,  # app_id
)
_PERSISTENT = b"\x02"
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")


def _cut(text: str, most: int) -> bytes:
    """Encode text, without what follows the last character that fits into `most` bytes."""
    # A header of HTTP can hold bytes that are no text, which Python shows as surrogates.
    encoded = text.encode(errors="replace")
    if len(encoded) > most:
        encoded = encoded[:most].decode(errors="ignore").encode()
    return encoded


def _short(text: str) -> bytes:
    """Encode a short string, cut to the 255 bytes that AMQP allows."""
    encoded = _cut(text, 255)
    return bytes((len(encoded),)) + encoded


def _text(name: bytes, value: str) -> bytes:
    encoded = _cut(value, LONGEST_VALUE)
    return name + _U32.pack(len(encoded)) + encoded


@lru_cache(64)
def _header(name: str) -> bytes:
    """Encode what precedes the value of a text header in a field table."""
    return _short(name) + b"S"


_CONTENT_TYPE = _short("application/json")
_APP_ID = _short(APP_ID)
_FIXED = _text(_header("ce-specversion"), "1.0") + _text(_header("ce-source"), SOURCE)
_CE_ID, _CE_TYPE, _CE_PARTITIONKEY = map(_header, ("ce-id", "ce-type", "ce-partitionkey"))
_CE_TIME = _header("ce-time") + _U32.pack(len("2000-01-01T00:00:00.000Z"))
_RECEIVED_MS = _short("x-received-ms") + b"l"
_FINGERPRINT = _header("x-fingerprint")


class Message(NamedTuple):
    """A callback and what the bridge says about it."""

    id: str
    """UUIDv7 minted at receipt; every copy carries it, so it is the idempotency key."""

    routing_key: str

    command: str
    """Callback command as OpenIM sent it."""

    received_ms: int
    """When it was received: milliseconds since 1970, UTC."""

    body: bytes

    operation_id: str = ""
    """OpenIM's `operationID` header: chosen by a client, neither trusted nor unique."""

    ordering_key: str = ""
    """What it is about: conversation, group, user pair or user."""

    headers: Mapping[str, str] = MappingProxyType({})
    """Further AMQP headers, such as the raw query or why a body could not be read."""

    def encode(self) -> bytes:
        """Give the message as it is stored and sent; what is too long is cut."""
        command, ce_type = _of_command(self.command)
        properties = b"".join(
            (
                _FLAGS,
                _CONTENT_TYPE,
                self._table(ce_type),
                _PERSISTENT,
                _short(self.operation_id),
                _short(self.id),
                _U64.pack(self.received_ms // 1000),
                command,
                _APP_ID,
            )
        )
        return b"".join(
            (_short(self.routing_key), _U32.pack(len(properties)), properties, self.body)
        )

    def _table(self, ce_type: bytes) -> bytes:
        seconds, milliseconds = divmod(self.received_ms, 1000)
        table = b"".join(
            (
                _FIXED,
                ce_type,
                _text(_CE_ID, self.id),
                _CE_TIME,
                _second(seconds),
                b"%03dZ" % milliseconds,
                _RECEIVED_MS,
                _U64.pack(self.received_ms),
                _text(_FINGERPRINT, fingerprint(self.operation_id, self.command, self.body)),
                _text(_CE_PARTITIONKEY, self.ordering_key) if self.ordering_key else b"",
            )
        )
        for name, value in self.headers.items():
            entry = _text(_header(name), value)
            if len(table) + len(entry) <= LARGEST_TABLE:
                table += entry
        return _U32.pack(len(table)) + table


# Commands and seconds repeat; formatting them anew would be a third of all encoding.
@lru_cache(256)
def _of_command(command: str) -> tuple[bytes, bytes]:
    """Give what a message's command adds to its properties and to its headers."""
    return _short(command), _text(_CE_TYPE, command)


@lru_cache(4)
def _second(seconds: int) -> bytes:
    """Give the time as RFC 3339 has it, up to where the milliseconds stand."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.".encode()


def decode(stored: bytes) -> Message:
    """Read what `Message.encode` gave.

    Raises:
        NotAMessage: It did not give that.

    """
    try:
        return _decode(stored)
    except (ValueError, KeyError, IndexError, TypeError, struct.error) as error:
        raise NotAMessage(f"{len(stored)} bytes that are no message") from error


def _decode(stored: bytes) -> Message:
    begin, end = properties_of(stored)
    properties = Basic.Properties()
    flags = int.from_bytes(stored[begin : begin + 2], "big")
    properties.unmarshal(flags, stored[begin + 2 : end])
    headers = dict(properties.headers or {})
    received_ms = int(str(headers.pop("x-received-ms")))
    if not 0 <= received_ms <= LATEST_MS:
        raise ValueError
    return Message(
        id=properties.message_id or "",
        routing_key=stored[1 : begin - 4].decode(),
        command=properties.message_type or "",
        received_ms=received_ms,
        body=stored[end:],
        operation_id=properties.correlation_id or "",
        ordering_key=str(headers.pop("ce-partitionkey", "")),
        headers={name: str(headers[name]) for name in headers if not _is_derived(name)},
    )


def ids_of(stored: bytes) -> dict[str, str]:
    """Give what names an encoded message in a log; of what is no message, nothing."""
    # Not `decode`: RabbitMQ may have refused it over headers that nobody can read.
    try:
        begin, end = properties_of(stored)
        found = dict(read_properties(stored[begin:end]))
    except (NotAMessage, IndexError):
        found = {}
    names = {"message_id": "message_id", "command": "type", "operation_id": "correlation_id"}
    ids = {
        name: found.get(property_, b"").decode("utf-8", "replace")
        for name, property_ in names.items()
    }
    return ids | traceparent.as_fact(traceparent.found_in(found.get("headers", b"")))


def traceparent_of(stored: bytes) -> str:
    """Give the `traceparent` of an encoded message; nothing, if it has none."""
    return traceparent.found_in(stored, *properties_of(stored))


def _is_derived(header: str) -> bool:
    return header.startswith("ce-") or header == "x-fingerprint"


def fingerprint(operation_id: str, command: str, body: bytes) -> str:
    """Digest what was said, so that a repetition can be told from a second event.

    OpenIM gives its callbacks no id of their own.
    """
    digest = hashlib.sha256(f"{operation_id}\n{command}\n".encode(errors="replace"))
    digest.update(body)
    return digest.hexdigest()


class Ids:
    """Mints UUIDv7: unique, and in one process sorted by time of minting.

    Sorted even when the clock steps back: the id's time then stands still, and its
    counter goes on.
    """

    def __init__(self) -> None:
        self._last = 0
        # Unique is enough, nobody has to guess in vain; and a system call costs ten times that.
        self._random = random.Random()  # noqa: S311

    def mint(self) -> str:
        """Give the next id, in the usual text form."""
        # 48 bits of milliseconds and 12 of counter: RFC 9562, section 6.2, method 1.
        self._last = max(self._last + 1, time.time_ns() // 1_000_000 << 12)
        head = f"{self._last:015x}"
        tail = f"{1 << 63 | self._random.getrandbits(62):016x}"
        return f"{head[:8]}-{head[8:12]}-7{head[12:]}-{tail[:4]}-{tail[4:]}"
