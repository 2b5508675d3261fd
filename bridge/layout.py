"""Where the parts of an encoded message are; `bridge.message` tells what they are."""

import struct

_U32 = struct.Struct(">I")


class NotAMessage(ValueError):
    """Bytes that `Message.encode` did not give, whatever their checksum says."""


def properties_of(stored: bytes) -> tuple[int, int]:
    """Give where properties begin and end: the routing key is before, the body behind them.

    Raises:
        NotAMessage: They would end behind the last byte.

    """
    try:
        begin = 1 + stored[0] + _U32.size
        end = begin + _U32.unpack_from(stored, begin - _U32.size)[0]
    except (IndexError, struct.error):
        end = len(stored) + 1
    if end > len(stored):
        raise NotAMessage(f"{len(stored)} bytes that are no message")
    return begin, end
