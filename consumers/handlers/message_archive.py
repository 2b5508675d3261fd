"""Keeps every message that OpenIM accepted in SQL, some hundreds at a time.

Not among the default handlers: whoever keeps what people write to each other decides to.
"""

from collections.abc import Sequence

from bridge.contract import AfterMsgSaveDB, AfterRevokeMsg, AfterSendMsg, Message
from consumers.messages import archive
from consumers.registry import BatchContext, Context, Handlers

handlers = Handlers("message_archive")


@handlers.on_batch(AfterSendMsg, most=500)
async def record_messages(events: Sequence[AfterSendMsg], context: BatchContext) -> None:
    """Keep messages that were accepted."""
    await _add(events, context)


@handlers.on_batch(AfterMsgSaveDB, most=500)
async def record_numbers(events: Sequence[AfterMsgSaveDB], context: BatchContext) -> None:
    """Keep messages with the numbers by which a revocation will name them."""
    await _add(events, context)


@handlers.on(AfterRevokeMsg)
async def record_revocation(event: AfterRevokeMsg, context: Context) -> None:
    """Keep which message was withdrawn."""
    await archive.revoke(
        context.transaction, event.conversation_id, event.seq, context.received
    )
    context.log.info("message revocation recorded")


async def _add(events: Sequence[Message], context: BatchContext) -> None:
    messages = [
        archive.kept(event, receipt.message_id, receipt.received)
        for event, receipt in zip(events, context.receipts, strict=True)
    ]
    added = await archive.add(context.transaction, messages)
    context.log.info("messages recorded", extra={"messages": added})
