"""The HTTP side: takes OpenIM's callbacks and answers them.

The reply is all that OpenIM waits for, so little happens before it: the command from the
path, one look at the JSON, and the journal. OpenIM reads no HTTP status and sends nothing
twice. Hence every reply is a JSON object that its decoder takes; a reply that reports a
problem lets the operation go on (`actionCode` 1); and what cannot be read is kept too.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from time import perf_counter
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from bridge import contract, probes, refusals, traceparent
from bridge.accepted import Accepted
from bridge.arrival import body_of, callback_in, way_of
from bridge.asking import Asked, Asking, Heard
from bridge.callers import Callers
from bridge.encoding import Encoder
from bridge.forwarder import Forwarder
from bridge.journal import Journal, JournalFull
from bridge.logs import Sampled
from bridge.metrics import CONTENT_TYPE, Metrics
from bridge.policy import Case, Decided, Policy
from bridge.refusals import Refusals, as_json, too_slow
from bridge.request import LONGEST_ID, Callback, Kept, Rejected, clean, fields_in
from bridge.settings import Receiver as Settings
from bridge.tls import Certificate
from bridge.workers import Worker, told

if TYPE_CHECKING:
    from bridge.span_kinds import Receipt
    from bridge.spans import Spans

log = logging.getLogger(__name__)

NEWS_DELAY = 0.005
"""Seconds that an answered before callback may wait to be stored: whoever asks next is then
answered first."""

NEWS_AT_ONCE = 64
"""Answered before callbacks that wait to be stored, at most."""


@dataclass
class Receiver:
    """Answers requests."""

    settings: Settings
    journal: Journal
    forwarder: Forwarder
    metrics: Metrics
    policy: Policy
    asking: Asking
    worker: Worker | None = None
    """Which of several workers this is, if there are several."""
    certificate: Certificate | None = None
    """With which callbacks are taken by HTTPS, if they are."""
    spans: "Spans | None" = None
    """Makes traces, if they are wanted."""
    draining: bool = False

    def __post_init__(self) -> None:
        self.use(self.settings, self.policy)
        self._encoder = Encoder(self.settings.partitions)
        self.refusals = Refusals(self.metrics)
        self._lines = Sampled()
        self._news: list[tuple[Callback, Case, Decided, str]] = []
        self._probes = {
            "/livez": self._live,
            "/readyz": self._ready,
            "/metrics": self._show_metrics,
        }

    def use(self, settings: Settings, policy: Policy) -> None:
        """Go on with these settings and this policy, from the next callback on."""
        self.settings = self.forwarder.settings = self.asking.settings = settings
        self.callers = Callers(settings)
        self.metrics.watch_secrets(self.callers.secrets)
        self.policy = policy
        if policy.asks:
            self.asking.wanted.set()

    async def handle(self, request: web.BaseRequest) -> web.Response:
        """Answer one request."""
        path, _, query = request.raw_path.partition("?")
        probe = self._probes.get(path)
        try:
            if probe is not None and request.method in {"GET", "HEAD"}:
                response = await probe(query)
            else:
                response = await self._callback(request, self._admit(request, path), query)
        except Rejected as rejected:
            response = self.refusals.answer(request, rejected, self._caller(request))
        if self.draining:
            response.force_close()
        return response

    def _admit(self, request: web.BaseRequest, path: str) -> str:
        """Give the callback command, if whoever calls may."""
        if self.callers.by_address:
            self.callers.check_source(request.remote or "", way_of(request))
        command, secret = self.callers.admit(path, request.headers.get("Authorization", ""))
        self.metrics.knew(secret)
        return command

    async def _callback(
        self, request: web.BaseRequest, command: str, query: str
    ) -> web.Response:
        started = perf_counter()
        if request.method != "POST":
            raise Rejected(405, "method", "a callback comes by POST")
        decided: asyncio.Future[Accepted] = asyncio.get_running_loop().create_future()
        try:
            body = await body_of(request, self.settings.max_body, self.settings.arrival_timeout)
            accepted = self.accept(
                callback_in(request, command, query, body), decided.set_result
            )
        except Rejected as rejected:
            if rejected.keep is not None:
                callback = callback_in(request, command, query, rejected.keep)
                await self._kept(self._encoder.unreadable(callback, str(rejected)))
            raise
        if accepted is None:
            accepted = await asyncio.shield(decided)
        if accepted.waits:
            await self._kept(accepted.message, accepted.receipt)
        self.metrics.replied(perf_counter() - started)
        return as_json(accepted.reply)

    def accept(self, callback: Callback, later: Callable[[Accepted], None]) -> Accepted | None:
        """Read a callback and make of it what is stored and what is answered.

        Args:
            callback: It.
            later: Called with that if decision handlers are asked first; then this gives None.

        Raises:
            Rejected: it cannot be read.

        """
        fields = fields_in(callback.command, callback.body)
        event = contract.event_type(callback.command, fields)
        self.metrics.count(callback.command)
        message_id, receipt = "", None
        if self.spans is not None:
            message_id = self._encoder.mint()
            callback, receipt = self.spans.receive(callback, message_id)
        if event is None or event.phase == "after":
            # What it follows from is stored before it.
            self.keep_news()
            message = self._encoder.message(callback, event, fields, message_id=message_id)
            return Accepted(message, contract.ALLOW, waits=True, receipt=receipt)
        case = Case(event, fields)
        decided = self.policy.decide(case)
        if isinstance(decided, Decided):
            return self._decided(callback, case, decided, message_id, receipt)
        question, message_id = decided, message_id or self._encoder.mint()

        def heard(heard: Heard) -> None:
            found = heard.decided(case, question.otherwise)
            later(self._decided(callback, case, found, message_id, receipt))

        self._ask(callback, case, question.within, message_id, heard)
        return None

    def _ask(
        self,
        callback: Callback,
        case: Case,
        within: float,
        message_id: str,
        heard: Callable[[Heard], None],
    ) -> None:
        self.asking.ask(
            Asked(
                event=case.event,
                command=callback.command,
                message_id=message_id,
                operation_id=clean(callback.operation_id, LONGEST_ID),
                traceparent=traceparent.checked(callback.traceparent),
                body=callback.body,
                within=within,
                done=heard,
            )
        )

    def _decided(
        self,
        callback: Callback,
        case: Case,
        decided: Decided,
        message_id: str,
        receipt: "Receipt | None",
    ) -> Accepted:
        """Note a decision, and keep it as news once the reply has left."""
        self.metrics.decided(case.event.command, decided)
        if decided.problem:
            message_id = message_id or self._encoder.mint()
            self.refusals.undecided(callback, decided.problem, message_id)
        self._news.append((callback, case, decided, message_id))
        loop = asyncio.get_running_loop()
        if receipt is not None:
            why = decided.decision
            loop.call_soon(receipt.answered, why.verdict, why.origin, decided.problem)
        if len(self._news) == 1:
            loop.call_later(NEWS_DELAY, self.keep_news)
        elif len(self._news) == NEWS_AT_ONCE:
            loop.call_soon(self.keep_news)
        return Accepted(b"", decided.body, waits=False)

    def keep_news(self) -> None:
        """Store the before callbacks that were answered and are not stored yet."""
        news, self._news = self._news, []
        for callback, case, decided, message_id in news:
            message = self._encoder.message(
                callback, case.event, case.fields, decided.headers, message_id
            )
            self.keep(message, partial(self.note_lost, message))

    def keep(self, message: bytes, done: Kept, receipt: "Receipt | None" = None) -> None:
        """Store `message`, or have RabbitMQ confirm it if there is no room; call `done`."""
        if receipt is not None:
            done = receipt.noting(done)
        self.journal.append(message, partial(self._stored, message, done))

    def _stored(self, message: bytes, done: Kept, full: JournalFull | None) -> None:
        if full is None:
            done(None)
        else:
            self.forwarder.publish(message, partial(self._published, done, full))

    def _published(self, done: Kept, full: JournalFull, confirmed: bool) -> None:  # noqa: FBT001
        if confirmed:
            self.metrics.unjournalled.inc()
            done(None)
        else:
            done(Rejected(503, "full", f"not stored: {full}"))

    async def _kept(self, message: bytes, receipt: "Receipt | None" = None) -> None:
        """Wait until a message is on disk or in RabbitMQ."""
        kept: asyncio.Future[Rejected | None] = asyncio.get_running_loop().create_future()
        self.keep(message, lambda lost: None if kept.done() else kept.set_result(lost), receipt)
        try:
            async with asyncio.timeout(self.settings.reply_timeout):
                lost = await kept
        except TimeoutError as error:
            raise too_slow() from error
        if lost is not None:
            raise lost

    def note_lost(self, message: bytes, lost: Rejected | None) -> None:
        """Report a before callback that was answered and could not be kept as news."""
        if lost is not None:
            self.refusals.report(lost, "", message=message)

    def _caller(self, request: web.BaseRequest) -> str:
        return self.callers.client(request.remote or "", way_of(request))

    def broken(
        self, request: web.BaseRequest, status: int, error: BaseException | None
    ) -> web.Response:
        """Answer a request that aiohttp could not parse, or that we failed at."""
        ours = error if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
        rejected = refusals.broken(status)
        return self.refusals.answer(request, rejected, self._caller(request), ours)

    async def _live(self, _query: str) -> web.Response:
        return as_json(b'{"alive":true}')

    async def _ready(self, query: str) -> web.Response:
        """Say whether callbacks are taken; a broker that is away is no reason not to."""
        ready = not self.draining
        checks = probes.details(
            self.journal, self.settings.journal_quota, self.forwarder.link, self.certificate
        ) | {"draining": self.draining}
        answer = {"ready": ready} | (checks if "verbose" in query else {})
        return as_json(orjson.dumps(answer), 200 if ready else 503)

    async def _show_metrics(self, _query: str) -> web.Response:
        return web.Response(
            body=await told(self.worker) if self.worker else self.metrics.render(),
            headers={"Content-Type": CONTENT_TYPE},
        )
