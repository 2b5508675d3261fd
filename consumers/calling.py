"""How a handler is called, and what it is told of its events."""

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from bridge import traceparent
from bridge.contract import Event
from consumers.context import BatchContext, Context, EventLog, Receipt
from consumers.lanes import Job
from consumers.registry import Handler

LONGEST_REASON = 500
"""Characters of an error that travel in a header."""


@dataclass(eq=False, slots=True)
class Task:
    """A job whose event has been read."""

    job: Job
    event: Event
    duplicate: bool = False
    """Whether the inbox has it already."""


async def called(
    handler: Handler, tasks: Sequence[Task], transaction: AsyncConnection | None
) -> None:
    """Call a handler as it wants to be called."""
    if handler.batching is not None:
        events = [task.event for task in tasks]
        if not handler.wants_context:
            await handler.call(events)
            return
        receipts = tuple(Receipt(**_receipt(task.job)) for task in tasks)
        name = logging.getLogger(f"handler.{handler.name}")
        await handler.call(
            events,
            BatchContext(receipts=receipts, sql=transaction, log=EventLog(name, {})),
        )
    elif handler.wants_context:
        (task,) = tasks
        name = logging.getLogger(f"handler.{handler.name}")
        await handler.call(
            task.event,
            Context(**_receipt(task.job), sql=transaction, log=EventLog(name, ids(task.job))),
        )
    else:
        await handler.call(tasks[0].event)


def is_handlers(error: BaseException) -> bool:
    """Tell whether an error is a handler's own, and not the end of our task or process.

    What a handler awaits may have been cancelled by somebody else, and it may call `sys.exit`:
    both are errors like any other, or its delivery would never be settled.
    """
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        return task is None or not task.cancelling()
    return not isinstance(error, KeyboardInterrupt | GeneratorExit)


def in_words(error: BaseException) -> str:
    """Say what was raised, so that it fits into a header: it may quote half a character."""
    try:
        said = str(error)
    except Exception as another:  # noqa: BLE001  # whatever an App's code does
        said = f"its text cannot be made, for {type(another).__name__}"
    text = f"{type(error).__name__}: {said}"[:LONGEST_REASON]
    return text.encode(errors="backslashreplace").decode()[:LONGEST_REASON]


def _receipt(job: Job) -> dict[str, Any]:
    delivery = job.delivery
    return {
        "message_id": delivery.message_id,
        "attempt": job.attempt,
        "received": datetime.fromtimestamp(job.received_ms / 1000, UTC),
        "operation_id": delivery.operation_id,
    }


def ids(job: Job) -> dict[str, Any]:
    """Give what names a delivery in a log."""
    return {
        "message_id": job.delivery.message_id,
        "command": job.delivery.command,
        "operation_id": job.delivery.operation_id,
        **traceparent.as_fact(job.delivery.traceparent),
    }
