"""The head of a plain callback, read in a few steps; of all else, that it is none."""

import re
from functools import lru_cache
from typing import NamedTuple

MAX_HEADERS = 64

USUAL_LINE = 128
"""Bytes of a line that is remembered, at most."""

_REQUEST_LINE = re.compile(rb"POST (/[!-~]*) HTTP/1\.1")
_HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([ -~]*?)[ \t]*")
_LENGTH = re.compile(rb"[0-9]{1,8}")

_LEFT_TO_AIOHTTP = frozenset(
    (
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"connection",
        b"trailer",
    )
)
"""Headers that change how a request is read or answered."""


class Plain(NamedTuple):
    """The head of a plain callback."""

    path: str
    query: str
    headers: dict[bytes, bytes]
    """By their names in small letters."""
    body_at: int
    """Where the body starts."""
    end: int
    """Where it ends."""

    def header(self, name: bytes) -> str:
        """Give a header, "" if there is none."""
        return self.headers.get(name, b"").decode("ascii")


def _target(line: bytes) -> tuple[str, str] | None:
    """Read path and query from a request line; None if it is no plain POST."""
    found = _REQUEST_LINE.fullmatch(line)
    if found is None:
        return None
    path, _, query = found[1].decode("ascii").partition("?")
    return path, query


def _header(line: bytes) -> tuple[bytes, bytes] | None:
    """Read a header, its name in small letters; None if it is no plain one."""
    header = _HEADER.fullmatch(line)
    if header is None or (name := header[1].lower()) in _LEFT_TO_AIOHTTP:
        return None
    return name, header[2]


# OpenIM's lines are the same in all requests but for one or two.
_usual_target = lru_cache(256)(_target)
_usual_header = lru_cache(256)(_header)


def plain(data: bytes) -> Plain | None:
    """Read the head of a request if there is nothing unusual about it."""
    at = data.find(b"\r\n\r\n")
    first, *lines = data[: max(at, 0)].split(b"\r\n")
    target = _usual_target(first) if len(first) <= USUAL_LINE else _target(first)
    if target is None or len(lines) > MAX_HEADERS:
        return None
    headers: dict[bytes, bytes] = {}
    for each in lines:
        header = _usual_header(each) if len(each) <= USUAL_LINE else _header(each)
        if header is None or header[0] in headers:
            return None
        headers[header[0]] = header[1]
    length = headers.get(b"content-length", b"")
    if b"host" not in headers or not _LENGTH.fullmatch(length):
        return None
    body_at = at + 4
    return Plain(*target, headers, body_at, body_at + int(length))
