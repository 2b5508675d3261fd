"""Spans for OpenTelemetry, with the extra `tracing`: what happened to a callback, and when.

    receive   from its receipt until it is stored, or a before callback answered
      publish   from its sending until RabbitMQ confirms it
      process   each attempt of a handler
      decide    a decision handler's answer

`traceparent` names `receive` from there on: in the journal, in RabbitMQ, in dead letters. Spans
wait in a bounded queue and leave by a thread of the library, which nothing here waits for.
"""

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import Link, Span, SpanKind

from bridge import contract, traceparent
from bridge.intake import Delivery
from bridge.logs import Sampled
from bridge.request import LONGEST_ID, Callback, clean
from bridge.span_kinds import Facts, Handling, Publishing, Receipt, context_of, under

log = logging.getLogger(__name__)

FAREWELL = 2.0
"""Seconds in which spans that still wait may leave at the end."""

BETWEEN_LINES = 60.0
"""Seconds from one line about spans that do not arrive to the next."""

_KNOWN = frozenset(contract.COMMANDS)


class _Counted(BatchSpanProcessor):
    """Counts the spans that are to leave, those that find no room in the queue included."""

    ended = 0

    def on_end(self, span: ReadableSpan) -> None:
        if span.context.trace_flags.sampled:
            self.ended += 1
        super().on_end(span)


class _Reported(SpanExporter):
    """Counts the spans that arrive, and says now and then that some do not."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lines = Sampled(BETWEEN_LINES)
        self.arrived = 0

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        result = self._exporter.export(spans)
        if result is SpanExportResult.SUCCESS:
            self.arrived += len(spans)
        else:
            more = self._lines.admit("lost")
            if more is not None:
                log.warning("traces do not arrive", extra={"spans": len(spans), "more": more})
        return result

    def shutdown(self) -> None:
        self._exporter.shutdown()


class Spans:
    """Makes spans, and sends them where the `OTEL_…` variables say."""

    def __init__(self, service: str) -> None:
        self.provider = TracerProvider(resource=_resource(service), shutdown_on_exit=False)
        self._exporter = _Reported(OTLPSpanExporter())
        self._processor = _Counted(self._exporter)
        self.provider.add_span_processor(self._processor)
        self._tracer = self.provider.get_tracer("openim-bridge", version("openim-bridge"))

    @property
    def ended(self) -> int:
        """How many spans were to leave so far."""
        return self._processor.ended

    @property
    def arrived(self) -> int:
        """How many of them the collector took."""
        return self._exporter.arrived

    def receive(self, callback: Callback, message_id: str) -> tuple[Callback, Receipt]:
        """Begin the span of a callback's receipt; give the callback that names it."""
        known = callback.command if callback.command in _KNOWN else "unknown"
        given = traceparent.checked(callback.traceparent)
        span = self._tracer.start_span(
            f"receive {known}",
            under(given),
            SpanKind.SERVER,
            {
                "messaging.message.id": message_id,
                "messaging.message.conversation_id": clean(callback.operation_id, LONGEST_ID),
                "messaging.message.body.size": len(callback.body),
                "openim.callback": known,
            },
        )
        return callback._replace(traceparent=_named(span) or given), Receipt(span)

    def publishing(self) -> Publishing:
        """Give what makes the spans of one connection."""
        return Publishing(self._tracer)

    def process(
        self, name: str, deliveries: Sequence[Delivery], facts: Facts, began: float = 0.0
    ) -> Handling:
        """Begin the span of handling deliveries.

        Args:
            name: Of the span.
            deliveries: The trace of a single one goes on; those of several are linked to.
            facts: Its attributes.
            began: Seconds since 1970; now, if it is 0.

        """
        given = [delivery.traceparent for delivery in deliveries]
        parent, links = "", [Link(context_of(each)) for each in given if each]
        told = {"messaging.system": "rabbitmq", "messaging.operation.type": "process", **facts}
        if len(deliveries) == 1:
            parent, links = given[0], []
            told["messaging.message.id"] = deliveries[0].message_id
        start = int(began * 1e9) or None
        span = self._tracer.start_span(
            name, under(parent), SpanKind.CONSUMER, told, links, start
        )
        return Handling(span)

    def use_for_all(self) -> None:
        """Have what handlers and their libraries trace go the same way."""
        trace.set_tracer_provider(self.provider)

    async def farewell(self) -> None:
        """Let what waits leave, for a while."""
        # A thread of its own, which a collector that hangs cannot have the process wait for.
        leaving = threading.Thread(target=self.provider.shutdown, daemon=True)
        leaving.start()
        await asyncio.to_thread(leaving.join, FAREWELL)
        # What has not left by now is not tried again.
        self._exporter.shutdown()


def trouble() -> str:
    """Say which of OpenTelemetry's variables cannot be used, if one cannot."""
    try:
        Spans("").provider.shutdown()
    except (ValueError, OSError) as error:
        return str(error)
    return ""


@asynccontextmanager
async def opened(service: str) -> AsyncIterator[Spans]:
    """Make and send spans during the block."""
    spans = Spans(service)
    try:
        yield spans
    finally:
        await spans.farewell()


def _resource(service: str) -> Resource:
    """Say who we are; a name that the variables give wins."""
    found = Resource.create()
    if str(found.attributes[SERVICE_NAME]).startswith("unknown_service"):
        found = found.merge(Resource({SERVICE_NAME: service}))
    return found


def _named(span: Span) -> str:
    context = span.get_span_context()
    if not context.is_valid:
        return ""
    return traceparent.written(context.trace_id, context.span_id, context.trace_flags)
