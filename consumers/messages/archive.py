"""Messages in SQL: added in any order and however often, and gone when a user is erased.

    archived_messages     a message, by OpenIM's id; its sequence number once that is known
    message_revocations   what was withdrawn: OpenIM names it by conversation and number only
    message_erasures      whose messages were erased, when, by whom and why: the audit log

What was received before its sender was erased is not added again, so a replay changes nothing.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct
from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    text,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.contract import Message
from bridge.message import Ids
from consumers.database import METADATA, insert_into, storable
from consumers.friends.verifications import milliseconds

MESSAGES = Table(
    "archived_messages",
    METADATA,
    Column("id", Text, primary_key=True, doc="OpenIM's serverMsgID."),
    Column("conversation_id", Text, nullable=False),
    Column("seq", BigInteger, nullable=False, doc="0 until AfterMsgSaveDB tells it."),
    Column("send_id", Text, nullable=False),
    Column("content_type", Integer, nullable=False),
    Column("content", Text, nullable=False, doc="OpenIM's JSON, as it was sent."),
    Column("words", Text, nullable=False, doc="Its text in lower case, to be searched."),
    Column("sent_ms", BigInteger, nullable=False),
    Column("received_ms", BigInteger, nullable=False),
    Index("archived_messages_by_conversation", "conversation_id", "sent_ms", "id"),
    Index("archived_messages_by_sender", "send_id"),
    Index("archived_messages_by_time", "received_ms"),
)

REVOCATIONS = Table(
    "message_revocations",
    METADATA,
    Column("conversation_id", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Index("message_revocations_by_time", "received_ms"),
)

ERASURES = Table(
    "message_erasures",
    METADATA,
    Column("id", String(36), primary_key=True, doc="UUIDv7: sorted by time."),
    Column("at_ms", BigInteger, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("who", Text, nullable=False, doc="User and host."),
    Column("reason", Text, nullable=False),
    Index("message_erasures_by_user", "user_id", "at_ms"),
)

REMOVED_AT_ONCE = 10_000
"""Rows removed in one transaction."""

_ERASING = 5_271_045
"""Key of the PostgreSQL advisory lock that keeps erasing and adding apart, any fixed number."""

_ids = Ids()


class Archived(Struct, frozen=True, kw_only=True):
    """A message, as it is kept."""

    id: str
    conversation_id: str
    seq: int
    send_id: str
    content_type: int
    content: str
    words: str
    sent_ms: int
    received_ms: int


def kept(event: Message, message_id: str, received: datetime) -> Archived:
    """Give a message as it is kept.

    Args:
        event: What OpenIM said of it.
        message_id: The callback's, for a message to which OpenIM gave no id.
        received: When the bridge took it from OpenIM.

    """
    conversation_id = type(event).ordering_key(msgspec.to_builtins(event))
    return Archived(
        id=storable(event.server_msg_id or message_id),
        conversation_id=storable(conversation_id),
        seq=event.seq,
        send_id=storable(event.send_id),
        content_type=event.content_type,
        content=storable(event.content),
        words=storable(text_of(event.content).lower()),
        sent_ms=event.send_time,
        received_ms=milliseconds(received),
    )


def text_of(content: str) -> str:
    """Give what a person wrote, or nothing if it is a picture or the like."""
    try:
        fields = msgspec.json.decode(content)
    except (msgspec.DecodeError, RecursionError):
        return ""
    if not isinstance(fields, Mapping):
        return ""
    # Text messages say `content`; those that mention or quote somebody say `text`.
    values = (fields.get("content"), fields.get("text"))
    return next((value for value in values if isinstance(value, str)), "")


async def add(transaction: AsyncConnection, messages: Iterable[Archived]) -> int:
    """Add messages that are not there yet, and numbers to those that are; give how many."""
    # One row for an id, the one with the number: a statement must not meet a row twice.
    found = {each.id: each for each in sorted(messages, key=lambda each: each.seq)}
    erased = await _erased(transaction, sorted({each.send_id for each in found.values()}))
    rows = [
        msgspec.structs.asdict(each)
        # In one order, or two workers with the same messages would wait for each other.
        for each in sorted(found.values(), key=lambda each: each.id)
        if each.received_ms > erased.get(each.send_id, -1)
    ]
    if rows:
        added = insert_into(MESSAGES, transaction.dialect.name)
        numbered = added.on_conflict_do_update(
            index_elements=["id"],
            set_={"seq": added.excluded.seq},
            where=(MESSAGES.c.seq == 0) & (added.excluded.seq > 0),
        )
        await transaction.execute(numbered, rows)
    return len(rows)


async def _erased(transaction: AsyncConnection, users: Sequence[str]) -> dict[str, int]:
    """Give until when messages of users are erased; nobody else is until this ends."""
    await _keep_apart(transaction, "pg_advisory_xact_lock_shared")
    query = (
        select(ERASURES.c.user_id, func.max(ERASURES.c.at_ms).label("until"))
        .where(ERASURES.c.user_id.in_(users))
        .group_by(ERASURES.c.user_id)
    )
    return {row.user_id: row.until for row in await transaction.execute(query)}


async def _keep_apart(transaction: AsyncConnection, lock: str) -> None:
    """Have PostgreSQL keep erasing and adding apart; SQLite has one writer anyway."""
    if transaction.dialect.name == "postgresql":
        await transaction.execute(text(f"SELECT {lock}({_ERASING})"))


async def revoke(
    transaction: AsyncConnection, conversation_id: str, seq: int, received: datetime
) -> None:
    """Note that a message was withdrawn, whether it is here already or not."""
    row = {
        "conversation_id": storable(conversation_id),
        "seq": seq,
        "received_ms": milliseconds(received),
    }
    added = insert_into(REVOCATIONS, transaction.dialect.name).on_conflict_do_nothing()
    await transaction.execute(added, [row])


async def count_of(transaction: AsyncConnection, user_id: str) -> int:
    """Count the messages that a user sent."""
    query = select(func.count()).where(MESSAGES.c.send_id == storable(user_id))
    return (await transaction.execute(query)).scalar_one()


async def begin_erasing(
    transaction: AsyncConnection, user_id: str, *, who: str, reason: str
) -> None:
    """Note who erases whose messages: what they have sent by now is never added again."""
    await _keep_apart(transaction, "pg_advisory_xact_lock")
    row = {
        "id": _ids.mint(),
        "at_ms": time.time_ns() // 1_000_000,
        "user_id": storable(user_id),
        "who": storable(who),
        "reason": storable(reason),
    }
    await transaction.execute(insert(ERASURES), [row])


async def erase(transaction: AsyncConnection, user_id: str) -> int:
    """Remove messages that a user sent before the latest erasure, some at a time."""
    name = storable(user_id)
    until = select(func.max(ERASURES.c.at_ms)).where(ERASURES.c.user_id == name)
    theirs = (MESSAGES.c.send_id == name) & (MESSAGES.c.received_ms <= until.scalar_subquery())
    some = select(MESSAGES.c.id).where(theirs).limit(REMOVED_AT_ONCE)
    removed = await transaction.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(some)))
    return removed.rowcount


async def forget(transaction: AsyncConnection, older_than: timedelta) -> int:
    """Remove what was received long ago, some at a time; give how many messages."""
    before = time.time_ns() // 1_000_000 - int(older_than.total_seconds() * 1000)
    await transaction.execute(delete(REVOCATIONS).where(REVOCATIONS.c.received_ms < before))
    old = select(MESSAGES.c.id).where(MESSAGES.c.received_ms < before).limit(REMOVED_AT_ONCE)
    removed = await transaction.execute(delete(MESSAGES).where(MESSAGES.c.id.in_(old)))
    return removed.rowcount
