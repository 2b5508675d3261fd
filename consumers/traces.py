"""The spans of what a worker does, if traces are made."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from bridge.intake import Delivery
from bridge.topology import work_queue
from consumers.lanes import Job
from consumers.outcome import Handled, Note, Outcome, Tried, ignore
from consumers.registry import Handler

if TYPE_CHECKING:
    from bridge.span_kinds import Handling
    from bridge.spans import Spans

_UNTRACED: "AbstractContextManager[Handling | None]" = nullcontext()


def attempt(
    spans: "Spans | None", subscription: str, handler: Handler, jobs: Sequence[Job]
) -> "AbstractContextManager[Handling | None]":
    """Give the span of a handler's turn, which is current during its block."""
    return _UNTRACED if spans is None else _begun(spans, subscription, handler.name, jobs)


def _begun(
    spans: "Spans", subscription: str, handler: str, jobs: Sequence[Job], began: float = 0.0
) -> "Handling":
    first = jobs[0]
    facts: dict[str, str | int] = {
        "messaging.operation.name": "process",
        "messaging.destination.name": first.source.queue,
        "messaging.consumer.group.name": subscription,
        "openim.subscription": subscription,
        "openim.handler": handler,
        "openim.attempt": first.attempt,
    }
    if len(jobs) == 1:
        facts["messaging.rabbitmq.destination.routing_key"] = first.delivery.routing_key
    else:
        facts["messaging.batch.message_count"] = len(jobs)
    deliveries = [job.delivery for job in jobs]
    return spans.process(f"process {work_queue(subscription)}", deliveries, facts, began)


def decision(
    spans: "Spans | None", decider: str, queue: str, delivery: Delivery
) -> "AbstractContextManager[Handling | None]":
    """Give the span of a decision, which is current during its block."""
    if spans is None:
        return _UNTRACED
    facts = {
        "messaging.operation.name": "decide",
        "messaging.destination.name": queue,
        "openim.handler": decider,
    }
    return spans.process(f"decide {queue}", [delivery], facts)


def noting(spans: "Spans | None", subscription: str) -> Note:
    """Give what ends the span of a turn with what came of it."""
    if spans is None:
        return ignore

    def note(job: Job, outcome: Outcome, tried: Tried) -> None:
        # What nobody could read, or takes, was never begun.
        span = tried.span or _begun(spans, subscription, "", [job], tried.began)
        problem = "" if isinstance(outcome, Handled) else outcome.reason
        span.end(problem, {"openim.outcome": outcome.kind})

    return note
