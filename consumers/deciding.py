"""Answers the questions of receivers, for as long as somebody waits for the answer."""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, TypeAlias

from bridge import questions, traceparent
from bridge.broker import Broker, Consumer, Delivery
from bridge.contract import (
    Allow,
    Change,
    Event,
    MalformedCallback,
    Refuse,
    UnknownCommand,
    decode,
)
from bridge.direct_reply import Answers
from bridge.logs import Sampled
from bridge.questions import DEADLINE, HANDLER, OPERATION, encoded, failure
from consumers import traces
from consumers.calling import LONGEST_REASON, in_words, is_handlers
from consumers.context import EventLog
from consumers.decisions import Decider, Decisions, Question
from consumers.settings import Worker as Settings

if TYPE_CHECKING:
    from bridge.span_kinds import Handling
    from bridge.spans import Spans

log = logging.getLogger(__name__)

FAILED, LATE = "failed", "late"
"""What a function came to that gave no verdict: an error, or nothing in time."""

NoteDecision: TypeAlias = Callable[[str, str, float], None]
"""Told of each decision: the function, its verdict, the seconds that it took."""


class Deciding:
    """Has the functions of a worker answer.

    Args:
        decisions: Those that decide.
        consuming: The connection that questions come from.
        answering: The one that answers leave by.
        settings: The worker's.
        note: Told of each decision.
        spans: Makes traces, if they are wanted.

    """

    def __init__(  # noqa: PLR0913  # what deciding needs
        self,
        decisions: Sequence[Decisions],
        consuming: Broker,
        answering: Broker,
        settings: Settings,
        note: NoteDecision,
        *,
        spans: "Spans | None" = None,
    ) -> None:
        self._deciders = {
            event: decider
            for each in decisions
            for event in each.events
            if (decider := each.of(event))
        }
        self._consuming = consuming
        self._settings = settings
        self._answers = Answers(answering)
        self._consumers: list[Consumer] = []
        self._running: set[asyncio.Task[None]] = set()
        self._lines = Sampled()
        self._note = note
        self._spans = spans

    async def start(self, tasks: asyncio.TaskGroup) -> None:
        """Begin to answer, in `tasks`."""
        if not self._deciders:
            return
        await self._answers.open()
        await self._consuming.declare(questions.topology(self._deciders))

        def take(delivery: Delivery) -> None:
            task = tasks.create_task(self._settle(delivery))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

        self._consumers = [
            await self._consuming.consume(
                questions.queue_name(event), take, prefetch=self._settings.prefetch
            )
            for event in self._deciders
        ]

    async def finish(self) -> None:
        """Take no more questions, and answer those that were taken, for a while."""
        for consumer in self._consumers:
            await consumer.stop()
        if self._running:
            await asyncio.wait(self._running, timeout=self._settings.grace_period)

    def cancel(self) -> None:
        """End what still runs; the receivers give their fallbacks."""
        for task in self._running:
            task.cancel()

    async def _settle(self, delivery: Delivery) -> None:
        by, body = await self._answer(delivery)
        if body is not None:
            await self._answers.answer(delivery, body, {HANDLER: by} if by else {})
        delivery.ack()

    async def _answer(self, delivery: Delivery) -> tuple[str, bytes | None]:
        """Give who answers what; nothing if nobody waits any more."""
        deadline = time.monotonic() + _seconds_left(delivery)
        try:
            event = decode(delivery.command, delivery.body)
        except (MalformedCallback, UnknownCommand) as error:
            return "", failure(str(error)[:LONGEST_REASON])
        decider = self._deciders.get(type(event))
        if decider is None:
            return "", failure(f"no function decides about {type(event).__name__}")
        operation_id = str(delivery.headers.get(OPERATION, ""))
        ids = {
            "message_id": delivery.message_id,
            "command": delivery.command,
            "operation_id": operation_id,
            **traceparent.as_fact(delivery.traceparent),
        }
        question = Question(
            message_id=delivery.message_id,
            operation_id=operation_id,
            deadline=deadline,
            log=EventLog(log, ids),
        )
        queue = questions.queue_name(type(event))
        with traces.decision(self._spans, decider.name, queue, delivery) as span:
            return decider.name, await self._decide(decider, event, question, span)

    async def _decide(
        self, decider: Decider, event: Event, question: Question, span: "Handling | None"
    ) -> bytes | None:
        limit, started = asyncio.timeout(question.seconds_left), perf_counter()
        verdict, reason = FAILED, ""
        try:
            async with limit:
                # What has no time left ends here, however little it had to do.
                await asyncio.sleep(0)
                arguments = (event, question) if decider.wants_question else (event,)
                reply: object = await decider.call(*arguments)
                if not isinstance(reply, Allow | Refuse | Change):
                    given = type(reply).__name__
                    raise TypeError(f"it gave {given}, not Allow, Refuse or a change")  # noqa: TRY301
                body = encoded(reply)
                verdict = _verdict(reply)
                return body
        except BaseException as error:
            if not is_handlers(error):
                raise
            if limit.expired():
                verdict, reason = LATE, "no decision in time; are the clocks right?"
                self._report(decider, question, reason)
                return None
            reason = in_words(error)
            self._report(decider, question, reason)
            return failure(reason)
        finally:
            self._note(decider.name, verdict, perf_counter() - started)
            if span is not None:
                span.end(reason, {"openim.verdict": verdict})

    def _report(self, decider: Decider, question: Question, reason: str) -> None:
        more = self._lines.admit(decider.name)
        if more is not None:
            facts = {"handler": decider.name, "reason": reason, "more": more}
            question.log.warning("not decided", extra=facts)


def _verdict(reply: object) -> str:
    if isinstance(reply, Allow):
        return "allow"
    return "refuse" if isinstance(reply, Refuse) else "change"


def _seconds_left(delivery: Delivery) -> float:
    deadline = delivery.headers.get(DEADLINE)
    return deadline / 1000 - time.time() if isinstance(deadline, int) else 0.0
