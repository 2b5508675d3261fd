"""Deliveries in AMQP frames: many in one read, many acks in one write.

The library makes a task, a future and several objects for each delivery, which is more work
than most handlers do. Here deliveries are taken out of the stream where the library reads
it, their properties are read when somebody asks for them, and what is acked in one turn of
the event loop leaves in one write. Frames are laid out in AMQP 0-9-1, section 4.2.3.
"""

import asyncio
import struct
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from typing import Any, TypeAlias

from pamqp import decode

from bridge import traceparent
from bridge.wire import ACK, BODY, FRAME, FRAME_END, HEADER, METHOD, METHOD_ID, Line

LATEST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, since 1970: no time is later."""

DELIVER = (60, 60)
_TAG = struct.Struct(">QB")
CONTENT = struct.Struct(">HHQ")
_SINGLE, _MULTIPLE = 0, 1
_U64 = struct.Struct(">Q")
_RECEIVED_MS = b"\x0dx-received-msl"
"""Name of that header and the sign of its type, as they stand in a table."""

_SHORT, _TABLE = -1, -2
_PROPERTIES = {
    "content_type": _SHORT,
    "content_encoding": _SHORT,
    "headers": _TABLE,
    "delivery_mode": 1,
    "priority": 1,
    "correlation_id": _SHORT,
    "reply_to": _SHORT,
    "expiration": _SHORT,
    "message_id": _SHORT,
    "timestamp": 8,
    "type": _SHORT,
    "user_id": _SHORT,
    "app_id": _SHORT,
    "cluster_id": _SHORT,
}
"""AMQP's properties in their order on the wire, with the bytes that each takes."""


class Delivery:
    """A message that RabbitMQ has lent to this consumer until it is settled."""

    def __init__(  # noqa: PLR0913  # what frames say of it
        self,
        intake: "Intake",
        tag: int,
        routing_key: str,
        properties: bytes,
        body: bytes,
        *,
        again: bool,
    ) -> None:
        self._intake = intake
        self._tag = tag
        self._properties = dict(read_properties(properties))
        self.routing_key = routing_key
        self.body = body
        """OpenIM's bytes."""
        self.again = again
        """Whether RabbitMQ has lent it before, and got it back unsettled."""

    @cached_property
    def headers(self) -> dict[str, Any]:
        """Its AMQP headers."""
        table = self._properties.get("headers")
        return dict(decode.field_table(table)[1]) if table else {}

    def may_have(self, header: str) -> bool:
        """Say, faster than `headers` would, whether it can have a header."""
        return header.encode() in self._properties.get("headers", b"")

    def text(self, name: str) -> str:
        """Give one of its AMQP properties that are text, such as `app_id`."""
        return self._properties.get(name, b"").decode("utf-8", "replace")

    @property
    def message_id(self) -> str:
        """The same for every copy of one callback."""
        return self.text("message_id")

    @property
    def command(self) -> str:
        """Callback command as OpenIM sent it."""
        return self.text("type")

    @property
    def operation_id(self) -> str:
        """OpenIM's trace id."""
        return self.text("correlation_id")

    @cached_property
    def traceparent(self) -> str:
        """Which trace it belongs to, in W3C's form; nothing, if to none."""
        return traceparent.found_in(self._properties.get("headers", b""))

    @property
    def timestamp(self) -> int:
        """Seconds since 1970."""
        return int.from_bytes(self._properties.get("timestamp", b""), "big")

    @property
    def received_ms(self) -> int:
        """When the bridge received it: milliseconds since 1970; 0 if that is not said."""
        found = self._received_ms()
        return found if 0 <= found <= LATEST_MS else 0

    def _received_ms(self) -> int:
        # Reading all headers would take longer than all else about a delivery.
        table = self._properties.get("headers", b"")
        at = table.find(_RECEIVED_MS)
        if 0 <= at <= len(table) - len(_RECEIVED_MS) - _U64.size:
            (found,) = _U64.unpack_from(table, at + len(_RECEIVED_MS))
            return int(found)
        received = self.headers.get("x-received-ms", 0)
        return received if isinstance(received, int) else 0

    def ack(self) -> None:
        """Settle: it is done with, RabbitMQ may forget it.

        If the line breaks before the ack has left, the message comes again.
        """
        self._intake.ack(self._tag)


def read_properties(properties: bytes) -> Iterator[tuple[str, bytes]]:
    """Tell the properties apart; a table keeps its length before it."""
    at = 2
    for name, kind in _present(int.from_bytes(properties[:2], "big")):
        size = kind
        if kind == _SHORT:
            size, at = properties[at], at + 1
        elif kind == _TABLE:
            size = 4 + int.from_bytes(properties[at : at + 4], "big")
        yield name, properties[at : at + size]
        at += size


# Messages have few sets of properties; walking all fourteen takes longer than reading them.
@lru_cache(64)
def _present(flags: int) -> tuple[tuple[str, int], ...]:
    """Give the properties that are there, and what each takes."""
    kinds = enumerate(_PROPERTIES.items())
    return tuple(each for bit, each in kinds if flags & 0x8000 >> bit)


Take: TypeAlias = Callable[[Delivery], None]
"""Called with each delivery, from the very call that read it."""


class Intake:
    """A consuming channel: deliveries in, acks out."""

    def __init__(self, line: Line, channel: int, take: Take) -> None:
        self._line = line
        line.channels[channel] = self
        self._channel = channel
        self._take = take
        self._coming = (0, "", False)
        self._properties = b""
        self._body = b""
        self._missing = 0
        self._unsettled: dict[int, None] = {}
        self._acked: set[int] = set()

    def take(self, kind: int, method: tuple[int, ...] | None, payload: bytes) -> bool:
        """Read one frame of this channel; False if it is not about a delivery."""
        if kind == METHOD:
            if method == DELIVER:
                self._begin(payload)
            return method == DELIVER
        if kind == HEADER:
            self._missing = CONTENT.unpack_from(payload)[2]
            self._properties = payload[CONTENT.size :]
            self._body = b""
        elif kind == BODY:
            self._body += payload
            self._missing -= len(payload)
        if not self._missing:
            self._complete()
        return True

    def close(self) -> None:
        """Send the acks that wait, and leave the channel to the library."""
        self.flush()
        del self._line.channels[self._channel]

    def _begin(self, payload: bytes) -> None:
        at = 5 + payload[4]  # after the consumer's tag
        tag, again = _TAG.unpack_from(payload, at)
        at += 10 + payload[at + 9]  # after the exchange's name
        key = payload[at + 1 : at + 1 + payload[at]].decode(errors="replace")
        self._coming = tag, key, bool(again)

    def _complete(self) -> None:
        tag, key, again = self._coming
        self._unsettled[tag] = None
        self._take(Delivery(self, tag, key, self._properties, self._body, again=again))

    def ack(self, tag: int) -> None:
        """Ack a delivery, together with what else is acked in this turn of the loop."""
        if not self._acked:
            asyncio.get_running_loop().call_soon(self.flush)
        self._acked.add(tag)

    def flush(self) -> None:
        """Send the acks that wait."""
        acked, self._acked = self._acked & self._unsettled.keys(), set()
        oldest = 0
        for tag in self._unsettled:
            if tag not in acked:
                break
            oldest = tag
        frames = [self._frame(oldest, _MULTIPLE)] if oldest else []
        frames += [self._frame(tag, _SINGLE) for tag in sorted(acked) if tag > oldest]
        for tag in acked:
            del self._unsettled[tag]
        if frames:
            self._line.write(b"".join(frames))

    def _frame(self, tag: int, bits: int) -> bytes:
        method = METHOD_ID.pack(*ACK) + _TAG.pack(tag, bits)
        return FRAME.pack(METHOD, self._channel, len(method)) + method + FRAME_END
