"""Reads what aiohttp has of a request, within limits."""

import asyncio

from aiohttp import web

from bridge.request import Callback, Rejected


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
