"""Spans that are under way: a callback's receipt, its sending, a handler's turn."""

from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import Self, TypeAlias

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext, SpanKind, Status, StatusCode

from bridge import traceparent
from bridge.message import ids_of, traceparent_of
from bridge.request import Kept, Rejected
from bridge.topology import RECEIVED
from bridge.wire import Numbered

Facts: TypeAlias = Mapping[str, str | int]


class Receipt:
    """The span of a callback's receipt."""

    def __init__(self, span: Span) -> None:
        self._span = span

    def answered(self, verdict: str, source: str, problem: str) -> None:
        """End it with what OpenIM is answered, by what rule or handler, and what was wrong."""
        end(self._span, problem, {"openim.verdict": verdict, "openim.verdict.source": source})

    def noting(self, done: Kept) -> Kept:
        """Give what calls `done`, and then ends it."""

        def noted(lost: Rejected | None) -> None:
            done(lost)
            end(self._span, f"{lost.reason}: {lost}" if lost else "")

        return noted


class Publishing:
    """The spans of messages that are on their way to RabbitMQ, over one connection."""

    def __init__(self, tracer: trace.Tracer) -> None:
        self._tracer = tracer
        self._open: dict[int, Span] = {}

    def begin(self, messages: Iterable[Numbered]) -> None:
        """Note that messages are sent now."""
        for number, message in messages:
            given = traceparent_of(message)
            if given and traceparent.is_sampled(given):
                self._open[number] = self._begun(message, given)

    def _begun(self, message: bytes, given: str) -> Span:
        key = message[1 : 1 + message[0]].decode(errors="replace")
        return self._tracer.start_span(
            f"publish {RECEIVED}",
            under(given),
            SpanKind.PRODUCER,
            {
                "messaging.system": "rabbitmq",
                "messaging.operation.type": "send",
                "messaging.operation.name": "publish",
                "messaging.destination.name": f"{RECEIVED}:{key}",
                "messaging.rabbitmq.destination.routing_key": key,
                "messaging.message.id": ids_of(message)["message_id"],
            },
        )

    def confirmed(self, messages: Iterable[Numbered]) -> None:
        """Note that RabbitMQ has messages."""
        for number, _ in messages:
            if span := self._open.pop(number, None):
                span.end()

    def lost(self) -> None:
        """Note that the connection is gone: what was not confirmed is published again."""
        while self._open:
            end(self._open.popitem()[1], "ConnectionLost: not confirmed, published again")


class Handling:
    """The span of handling, under which what a handler begins is found, during the block."""

    def __init__(self, span: Span) -> None:
        self._span = span
        self._current = trace.use_span(
            span, record_exception=False, set_status_on_exception=False
        )

    def __enter__(self) -> Self:
        self._current.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._current.__exit__(kind, error, traceback)
        if kind is not None:
            self.end(f"{kind.__name__}: interrupted")

    def end(self, problem: str = "", facts: Facts | None = None) -> None:
        """End it, with what is wrong if something is; only the first time counts."""
        end(self._span, problem, facts)


def end(span: Span, problem: str = "", facts: Facts | None = None) -> None:
    """End a span, with what is wrong if something is; once."""
    if not span.is_recording():
        return
    span.set_attributes(facts or {})
    if problem:
        span.set_status(Status(StatusCode.ERROR, problem))
        span.set_attribute("error.type", problem.partition(":")[0])
    span.end()


def context_of(given: str) -> SpanContext:
    """Give what names a span of another process."""
    number, span, flags = traceparent.parts(given)
    return SpanContext(number, span, is_remote=True, trace_flags=trace.TraceFlags(flags))


def under(given: str) -> Context:
    """Give a context with that parent, or with none, whatever is current."""
    if not given:
        return Context()
    return trace.set_span_in_context(trace.NonRecordingSpan(context_of(given)), Context())
