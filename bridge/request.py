"""What is read from a request, within limits: anybody may send anything.

Each function raises `Rejected` for what it cannot take; nothing of the request is ever quoted.
"""

import asyncio
import re
from typing import NamedTuple

from aiohttp import web

from bridge import contract

LONGEST_ID = 128
"""Characters of an operation id that are kept: any client chooses it, at any length."""

LONGEST_QUERY = 2048

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Rejected(Exception):
    """A request that gets an error for an answer.

    Attributes:
        status: HTTP status, for people and proxies; OpenIM does not look at it.
        reason: Label in the metrics, one of a few words.
        keep: The body, if it may have been meant for us and must not be lost.

    """

    def __init__(
        self, status: int, reason: str, message: str, keep: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.keep = keep


class Callback(NamedTuple):
    """What a request says, as its sender chose it."""

    command: str
    body: bytes
    query: str
    operation_id: str
    traceparent: str


async def body_of(request: web.BaseRequest, most: int, timeout: float) -> bytes:
    """Give the body, if it has `most` bytes at most and arrives within `timeout` seconds."""
    too_large = f"a body may have {most} bytes at most"
    if (request.content_length or 0) > most:
        raise Rejected(413, "size", too_large)
    try:
        body = await _received(request, timeout)
    except web.HTTPRequestEntityTooLarge as error:
        raise Rejected(413, "size", too_large) from error
    except TimeoutError as error:
        raise Rejected(408, "stalled", "the body did not arrive in time") from error
    except ConnectionError as error:
        raise Rejected(400, "cut", "the caller left before its body was here") from error
    _check_encoding(request, body)
    return body


async def _received(request: web.BaseRequest, timeout: float) -> bytes:
    if request.content.is_eof():
        return await request.read()
    async with asyncio.timeout(timeout):
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return await request.read()


def _check_encoding(request: web.BaseRequest, body: bytes) -> None:
    """Refuse a compressed body: OpenIM sends none, and unpacking has no bound."""
    content = request.headers.get("Content-Encoding", "identity")
    transfer = request.headers.get("Transfer-Encoding", "chunked")
    if content.lower() != "identity" or transfer.lower() != "chunked":
        raise Rejected(415, "encoding", "a body must not be compressed or encoded", body)


def fields_in(command: str, body: bytes) -> dict[str, object]:
    """Give the JSON fields of a body that is what its path says."""
    try:
        fields = contract.fields_of(body)
    except contract.MalformedCallback as error:
        raise Rejected(400, "malformed", str(error), body) from error
    if fields.get("callbackCommand", command) != command:
        raise Rejected(400, "command", "path and body name different commands", body)
    return fields


def callback_in(request: web.BaseRequest, command: str, query: str, body: bytes) -> Callback:
    """Give what a request says."""
    headers = request.headers
    operation_id = headers.get("operationID", "")
    return Callback(command, body, query, operation_id, headers.get("traceparent", ""))


def way_of(request: web.BaseRequest) -> str:
    """Give what proxies say of the way that a request took."""
    # Not `getall`: what aiohttp could not parse has a plain dict for its headers.
    given = request.headers.items()
    return ",".join(value for name, value in given if name.title() == "X-Forwarded-For")


def further_headers(callback: Callback) -> dict[str, str]:
    """Give what else of a request travels with its message, as AMQP headers."""
    headers = {}
    if callback.query:
        headers["x-query"] = clean(callback.query, LONGEST_QUERY)
    if callback.traceparent and _TRACEPARENT.fullmatch(callback.traceparent):
        headers["traceparent"] = callback.traceparent
    return headers


def clean(text: str, longest: int) -> str:
    """Keep what can stand in a header or a log line: printable, and not too long."""
    cut = text[:longest]
    return cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1][:longest]
