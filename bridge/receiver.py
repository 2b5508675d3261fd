"""The HTTP side: takes OpenIM's callbacks and answers them.

The reply is all that OpenIM waits for, so little happens before it: the command from the
path, one look at the JSON, and the journal. OpenIM reads no HTTP status and sends nothing
twice. Hence every reply is a JSON object that its decoder takes; a reply that reports a
problem lets the operation go on (`actionCode` 1); and what cannot be read is kept too.
"""

import asyncio
import hmac
import logging
import re
from dataclasses import dataclass
from http import HTTPStatus
from time import perf_counter, time_ns

import orjson
from aiohttp import web

from bridge import contract
from bridge.forwarder import Link
from bridge.journal import Journal, JournalFull
from bridge.logs import Sampled
from bridge.message import Ids, Message
from bridge.metrics import Metrics
from bridge.settings import Receiver as Settings

log = logging.getLogger(__name__)

LONGEST_ID = 128
"""Characters of an operation id that are kept: any client chooses it, at any length."""

LONGEST_QUERY = 2048

_COMMAND = re.compile(r"[A-Za-z]{1,80}")
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


@dataclass
class Receiver:
    """Answers requests."""

    settings: Settings
    journal: Journal
    link: Link
    metrics: Metrics
    draining: bool = False

    def __post_init__(self) -> None:
        self._path = self.settings.path.encode()
        self._ids = Ids()
        self._lines = Sampled()
        self._probes = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": self._show_metrics,
        }

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        path, _, query = request.raw_path.partition("?")
        probe = self._probes.get(path)
        try:
            if probe is not None and request.method in {"GET", "HEAD"}:
                response = probe(query)
            else:
                response = await self._callback(request, self._command(path), query)
        except Rejected as rejected:
            response = self._problem(request, rejected)
        if self.draining:
            response.force_close()
        return response

    def _command(self, path: str) -> str:
        """Find the callback command in `path`, of which the rest may be a secret."""
        prefix, _, command = path.rpartition("/")
        # A slash at the end of OpenIM's `url` makes two in the path.
        known = hmac.compare_digest(prefix.rstrip("/").encode(), self._path)
        if not known or not _COMMAND.fullmatch(command):
            raise Rejected(404, "path", "nothing is here; check url in OpenIM's webhooks.yml")
        return command

    async def _callback(
        self, request: web.BaseRequest, command: str, query: str
    ) -> web.Response:
        started = perf_counter()
        if request.method != "POST":
            raise Rejected(405, "method", f"a callback comes by POST, not {request.method}")
        try:
            body = await self._read(request)
            fields = _checked(command, body)
        except Rejected as rejected:
            if rejected.keep is not None:
                await self._keep_unreadable(request, command, query, rejected)
            raise
        event = contract.event_type(command, fields)
        stored = self.journal.append(
            self._message(request, command, query, body, event, fields)
        )
        self.metrics.count(command)
        if event is None or event.phase == "after":
            await self._durable(stored)
        else:
            stored.add_done_callback(self._note_unstored)
        self.metrics.reply_seconds.observe(perf_counter() - started)
        return _json(contract.allow(event, fields))

    async def _read(self, request: web.BaseRequest) -> bytes:
        """Read the body, within the limits of size and time."""
        most = self.settings.max_body
        if (request.content_length or 0) > most:
            raise Rejected(413, "size", f"a body may have {most} bytes at most")
        try:
            if request.content.is_eof():
                body = await request.read()
            else:
                async with asyncio.timeout(self.settings.body_timeout):
                    body = await request.read()
        except web.HTTPRequestEntityTooLarge as error:
            raise Rejected(413, "size", f"a body may have {most} bytes at most") from error
        except TimeoutError as error:
            raise Rejected(408, "stalled", "the body did not arrive in time") from error
        _check_encoding(request, body)
        return body

    def _message(  # noqa: PLR0913, PLR0917
        self,
        request: web.BaseRequest,
        command: str,
        query: str,
        body: bytes,
        event: type[contract.Event] | None,
        fields: dict[str, object],
    ) -> bytes:
        """Encode a readable callback for the journal."""
        operation_id = _clean(request.headers.get("operationID", ""), LONGEST_ID)
        key = (event.ordering_key(fields) if event else "") or operation_id or command
        partition = contract.partition(key, self.settings.partitions)
        return Message(
            id=self._ids.mint(),
            routing_key=contract.routing_key(command, event, partition),
            command=command,
            received_ms=time_ns() // 1_000_000,
            body=body,
            operation_id=operation_id,
            ordering_key=key,
            headers=_headers(request, query),
        ).encode()

    async def _keep_unreadable(
        self, request: web.BaseRequest, command: str, query: str, rejected: Rejected
    ) -> None:
        """Store a body that nobody can read yet: OpenIM will not send it again."""
        message = Message(
            id=self._ids.mint(),
            routing_key=contract.MALFORMED,
            command=command,
            received_ms=time_ns() // 1_000_000,
            body=rejected.keep or b"",
            operation_id=_clean(request.headers.get("operationID", ""), LONGEST_ID),
            headers={**_headers(request, query), "x-reason": str(rejected)},
        )
        await self._durable(self.journal.append(message.encode()))

    async def _durable(self, stored: asyncio.Future[None]) -> None:
        """Wait until a callback is on disk."""
        try:
            async with asyncio.timeout(self.settings.reply_timeout):
                await stored
        except JournalFull as error:
            raise Rejected(503, "full", f"not stored: {error}") from error
        except TimeoutError as error:
            raise Rejected(503, "slow_disk", "the disk did not answer in time") from error

    def _note_unstored(self, stored: asyncio.Future[None]) -> None:
        """Count a before callback that was answered and could not be stored as news."""
        if not stored.cancelled() and (error := stored.exception()):
            self._report(Rejected(503, "full", f"not stored: {error}"), "")

    def _problem(self, request: web.BaseRequest, rejected: Rejected) -> web.Response:
        self._report(rejected, request.remote or "")
        response = problem(rejected.status, str(rejected))
        if rejected.status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "POST"
        if not request.content.is_eof():
            response.force_close()
        return response

    def _report(self, rejected: Rejected, peer: str) -> None:
        self.metrics.rejected.labels(rejected.reason).inc()
        more = self._lines.admit(rejected.reason)
        if more is not None:
            facts = {
                "reason": rejected.reason,
                "detail": str(rejected),
                "peer": peer,
                "more": more,
            }
            log.warning("request rejected", extra=facts)

    def broken(
        self, request: web.BaseRequest, status: int, error: BaseException | None
    ) -> web.Response:
        """Answer a request that aiohttp could not parse, or that we failed at."""
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return self._problem(
                request, Rejected(status, "http", "this is no HTTP we understand")
            )
        log.error("request failed", exc_info=error)
        return self._problem(request, Rejected(status, "internal", "our fault, see our log"))

    def _live(self, _query: str) -> web.Response:
        return _json(b'{"alive":true}')

    def _ready(self, query: str) -> web.Response:
        """Say whether callbacks are taken; a broker that is away is no reason not to."""
        ready = not self.draining
        checks = {
            "journal": {
                "depth": self.journal.depth,
                "bytes": self.journal.size,
                "quota": self.settings.journal_quota,
            },
            "broker": {
                "connected": self.link.connected,
                "blocked": self.link.blocked,
                "reason": self.link.reason,
            },
            "draining": self.draining,
        }
        answer = {"ready": ready} | (checks if "verbose" in query else {})
        return _json(orjson.dumps(answer), 200 if ready else 503)

    def _show_metrics(self, _query: str) -> web.Response:
        return web.Response(
            body=self.metrics.render(),
            headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"},
        )


def problem(status: int, message: str) -> web.Response:
    """Answer with an error, in the form that OpenIM reads and lets its operation go on."""
    return _json(contract.problem(4000 + status, message), status)


def _json(body: bytes, status: int = 200) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


def _checked(command: str, body: bytes) -> dict[str, object]:
    """Read the JSON object of a body that is what its path says."""
    try:
        fields = contract.fields_of(body)
    except contract.MalformedCallback as error:
        raise Rejected(400, "malformed", str(error), body) from error
    if fields.get("callbackCommand", command) != command:
        raise Rejected(400, "command", "path and body name different commands", body)
    return fields


def _check_encoding(request: web.BaseRequest, body: bytes) -> None:
    """Refuse a compressed body: OpenIM sends none, and unpacking has no bound."""
    content = request.headers.get("Content-Encoding", "identity")
    transfer = request.headers.get("Transfer-Encoding", "chunked")
    if content.lower() != "identity" or transfer.lower() != "chunked":
        raise Rejected(415, "encoding", "a body must not be compressed or encoded", body)


def _headers(request: web.BaseRequest, query: str) -> dict[str, str]:
    """Give the further AMQP headers of a request's message."""
    headers = {}
    if query:
        headers["x-query"] = _clean(query, LONGEST_QUERY)
    traceparent = request.headers.get("traceparent", "")
    if _TRACEPARENT.fullmatch(traceparent):
        headers["traceparent"] = traceparent
    return headers


def _clean(text: str, longest: int) -> str:
    """Keep what can stand in a header or a log line: printable, and not too long."""
    cut = text[:longest]
    return cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1][:longest]
