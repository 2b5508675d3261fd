"""`traceparent`, W3C's header that names a trace: read from a request, found in a message."""

import re

_FORM = (
    r"(?!ff)[0-9a-f]{2}-(?!0{32})(?P<trace>[0-9a-f]{32})"
    r"-(?!0{16})(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})"
)
_WHOLE = re.compile(_FORM)
_IN_TABLE = re.compile(rb"\x0btraceparentS\0\0\0\x37(" + _FORM.encode() + rb")")
"""That header as it stands in an AMQP table; finding it so costs less than reading all."""


def checked(text: str) -> str:
    """Give a `traceparent` as it is, and nothing for what is none."""
    return text if text and _WHOLE.fullmatch(text) else ""


def found_in(encoded: bytes, begin: int = 0, end: int | None = None) -> str:
    """Give the `traceparent` among headers in the bytes that travel; nothing, if none is."""
    found = _IN_TABLE.search(encoded, begin, len(encoded) if end is None else end)
    return found[1].decode() if found else ""


def parts(traceparent: str) -> tuple[int, int, int]:
    """Give the numbers of trace and span, and the flags."""
    return int(traceparent[3:35], 16), int(traceparent[36:52], 16), int(traceparent[53:], 16)


def is_sampled(traceparent: str) -> bool:
    """Say whether spans of that trace are kept."""
    return bool(parts(traceparent)[2] & 1)


def written(trace: int, span: int, flags: int) -> str:
    """Write a `traceparent`."""
    return f"00-{trace:032x}-{span:016x}-{flags:02x}"


def as_fact(traceparent: str) -> dict[str, str]:
    """Give the trace's id as a fact for a log line, if there is one."""
    return {"trace_id": traceparent[3:35]} if traceparent else {}
