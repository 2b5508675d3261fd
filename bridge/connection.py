"""A connection from OpenIM: plain callbacks are taken here, all else is aiohttp's.

Almost every request is a whole, well-formed callback, alone on its connection. For such a
one aiohttp's request, task and response cost more than all the rest, so it is read here and
answered with one write. Anything that is not exactly that goes to aiohttp as it came, and
so does all that follows on its connection: one of the two reads a stream, never both.
"""

import asyncio
from collections.abc import Callable
from time import perf_counter
from typing import Any

from aiohttp import web

from bridge.accepted import Accepted
from bridge.contract import problem
from bridge.plain import MAX_HEADERS, Plain, plain
from bridge.receiver import Receiver
from bridge.refusals import too_slow
from bridge.request import Callback, Rejected

MAX_LINE = 64 * 1024
"""Large, since OpenIM puts ids into the query that its clients may choose."""

MAX_HEADER = 2**20 + 2**13
"""Larger than all headers of a request to OpenIM (Go's `DefaultMaxHeaderBytes`): it passes
its clients' operation ids on, and an overlong one must not get around the callbacks.
"""

LINGERING = 1.0
"""Seconds that the rest of a refused body is read, so that the reply can be."""


def _response(status: bytes, body: bytes, *, close: bool = False) -> bytes:
    connection = b"Connection: close\r\n" if close else b""
    return (
        b"HTTP/1.1 %b\r\nContent-Type: application/json\r\n%bContent-Length: %d\r\n\r\n%b"
        % (status, connection, len(body), body)
    )


class Connection(web.RequestHandler):
    """One connection."""

    def __init__(self, receiver: Receiver, server: web.Server) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=receiver.settings.keepalive_timeout,
            access_log=None,  # type: ignore[arg-type]  # None turns it off, as documented
            max_line_size=MAX_LINE,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
            lingering_time=LINGERING,
            auto_decompress=False,
        )
        self._receiver = receiver
        self._plain = True
        self._arrived = b""
        self._wanted = 0
        self._timer: asyncio.TimerHandle | None = None
        self._answering = False
        self._started = 0.0
        self._reply = self._message = b""

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, or pass it on to aiohttp."""
        if not self._plain:
            super().data_received(data)
            self._watch_head()
            return
        self._arrived += data
        if self._answering:
            # One at a time, in order; the next can wait in the socket.
            if self.transport is not None:
                self.transport.pause_reading()
        elif len(self._arrived) >= self._wanted:
            self._next()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what has not wholly arrived."""
        self._stop_timer()
        super().connection_lost(exc)

    def _next(self) -> None:
        """Take the callback that has arrived, if it has wholly and is a plain one."""
        self._stop_timer()
        request = plain(self._arrived)
        settings = self._receiver.settings
        if request is None or request.end - request.body_at > settings.max_body:
            self._leave_to_aiohttp()
        elif request.end > len(self._arrived):
            self._wait_for_rest(request, settings.arrival_timeout)
        elif not self._take(request):
            self._leave_to_aiohttp()

    def _wait_for_rest(self, request: Plain, seconds: float) -> None:
        """Wait for the rest of a body, if its sender may call."""
        try:
            self._admit(request)
        except Rejected:
            self._leave_to_aiohttp()
        else:
            self._wanted = request.end
            self._set_timer(seconds, self._leave_to_aiohttp)

    def _admit(self, request: Plain) -> tuple[str, str]:
        callers = self._receiver.callers
        if callers.by_address:
            callers.check_source(self._peer(), request.header(b"x-forwarded-for"))
        known = request.header(b"authorization") if callers.by_secret else ""
        return callers.admit(request.path, known)

    def _take(self, request: Plain) -> bool:
        """Take a callback; False if it has to be told what is wrong with it."""
        receiver = self._receiver
        self._started = perf_counter()
        try:
            command, secret = self._admit(request)
            callback = Callback(
                command,
                self._arrived[request.body_at : request.end],
                request.query,
                request.header(b"operationid"),
                request.header(b"traceparent"),
            )
            accepted = receiver.accept(callback, self._decided)
        except Exception:  # noqa: BLE001  # it happens again there, and is reported there
            return False
        receiver.metrics.knew(secret)
        self._arrived = self._arrived[request.end :]
        self._wanted = 0
        if accepted is not None and not accepted.waits:
            self._answer(b"200 OK", accepted.reply)
            return True
        self._answering = True
        if accepted is not None:
            self._reply, self._message = accepted.reply, accepted.message
            self._set_timer(receiver.settings.reply_timeout, self._give_up)
            receiver.keep(accepted.message, self._kept, accepted.receipt)
        return True

    def _decided(self, accepted: Accepted) -> None:
        self._answer(b"200 OK", accepted.reply)

    def _kept(self, lost: Rejected | None) -> None:
        if not self._answering:
            return
        if lost is None:
            self._answer(b"200 OK", self._reply)
        else:
            self._refuse(lost)

    def _give_up(self) -> None:
        """Answer without the disk, and hang up: what it says later is about this callback."""
        self._refuse(too_slow(), close=True)

    def _refuse(self, rejected: Rejected, *, close: bool = False) -> None:
        self._receiver.refusals.report(rejected, self._peer(), message=self._message)
        reply = problem(4000 + rejected.status, str(rejected))
        self._answer(b"503 Service Unavailable", reply, close=close)

    def _answer(self, status: bytes, reply: bytes, *, close: bool = False) -> None:
        self._answering = False
        self._stop_timer()
        transport = self.transport
        if transport is None:
            return
        close = close or self._receiver.draining
        transport.write(_response(status, reply, close=close))
        self._receiver.metrics.replied(perf_counter() - self._started)
        if close:
            transport.close()
            return
        # aiohttp closes what has been idle for too long, and sees none of our requests.
        self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._arrived:
            transport.resume_reading()
            self._loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        """Take what came while an answer was under way."""
        if self.transport is not None and self._plain and not self._answering:
            self._next()

    def _leave_to_aiohttp(self) -> None:
        self._stop_timer()
        self._plain = False
        arrived, self._arrived = self._arrived, b""
        super().data_received(arrived)
        self._watch_head()

    def _watch_head(self) -> None:
        """Wait for the end of a head as long as for that of a body; aiohttp would for ever."""
        if not (self._timer or self._messages or self._current_request):
            self._set_timer(self._receiver.settings.arrival_timeout, self._hang_up)

    def head_has_arrived(self) -> None:
        """Take note that aiohttp has begun with a request."""
        self._stop_timer()

    def _hang_up(self) -> None:
        rejected = Rejected(408, "stalled", "the head did not arrive in time")
        self._receiver.refusals.report(rejected, self._peer())
        if self.transport is not None:
            reply = problem(4000 + rejected.status, str(rejected))
            self.transport.write(_response(b"408 Request Timeout", reply, close=True))
            self.transport.close()

    def _set_timer(self, seconds: float, call: Callable[[], None]) -> None:
        self._timer = self._loop.call_later(seconds, call)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _peer(self) -> str:
        name = self.transport.get_extra_info("peername") if self.transport else None
        return str(name[0]) if name else ""

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # it repeats the bad bytes
    ) -> web.StreamResponse:
        """Answer a request that aiohttp could not parse, or that we failed at."""
        response = self._receiver.broken(request, status, exc)
        response.force_close()
        return response


class Server(web.Server):
    """aiohttp's low-level server: no routing, no middleware, one handler."""

    def __init__(self, receiver: Receiver) -> None:
        super().__init__(receiver.handle, request_factory=self._request)
        self._receiver = receiver

    def __call__(self) -> web.RequestHandler:
        """Give the protocol of a new connection."""
        return Connection(self._receiver, self)

    def _request(self, *parts: Any) -> web.BaseRequest:  # noqa: ANN401  # as aiohttp calls it
        message, payload, protocol, writer, task = parts
        protocol.head_has_arrived()
        return web.BaseRequest(
            message,
            payload,
            protocol,
            writer,
            task,
            asyncio.get_running_loop(),
            client_max_size=self._receiver.settings.max_body,
        )
