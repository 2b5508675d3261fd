"""The audit log of the dead letters: who replayed or discarded which, and why."""

import time
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import BigInteger, Column, Index, LargeBinary, String, Table, Text, insert
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.message import Ids
from consumers.database import METADATA, storable
from consumers.dead_letters import Letter

REPLAY, DISCARD = "replay", "discard"

TABLE = Table(
    "dead_letter_audit",
    METADATA,
    Column("id", String(36), primary_key=True, doc="UUIDv7: sorted by time."),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False, doc="User and host."),
    Column("action", String(16), nullable=False),
    Column("reason", Text, nullable=False, doc="Of a discard."),
    Column("subscription", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("body", LargeBinary, doc="Only where that was asked for."),
    Index("dead_letter_audit_by_message", "message_id"),
    Index("dead_letter_audit_by_time", "at_ms"),
)

_ids = Ids()


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is done to letters, by whom."""

    action: str
    who: str
    reason: str = ""
    keep_body: bool = False


async def add(transaction: AsyncConnection, act: Act, letters: Iterable[Letter]) -> None:
    """Note what is about to be done to letters; a crash may keep it from being done."""
    now = time.time_ns() // 1_000_000
    rows = [
        {
            "id": _ids.mint(),
            "at_ms": now,
            "who": act.who,
            "action": act.action,
            "reason": storable(act.reason),
            "subscription": letter.subscription,
            "message_id": storable(letter.delivery.message_id),
            "command": storable(letter.delivery.command),
            "error": storable(letter.error),
            "body": letter.delivery.body if act.keep_body else None,
        }
        for letter in letters
    ]
    if rows:
        await transaction.execute(insert(TABLE), rows)
