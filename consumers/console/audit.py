"""What was done in the console, by whom: a table to which rows are only added."""

import time
from collections.abc import Sequence

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    RowMapping,
    String,
    Table,
    Text,
    insert,
    select,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.message import Ids
from consumers.database import METADATA, storable

TABLE = Table(
    "console_audit",
    METADATA,
    Column("id", String(36), primary_key=True, doc="UUIDv7: sorted by time."),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", Text, nullable=False, doc="User of the console."),
    Column("address", Text, nullable=False, doc="Where that user sits."),
    Column("action", String(32), nullable=False),
    Column("target", Text, nullable=False, doc="To what it was done."),
    Column("reason", Text, nullable=False),
    Index("console_audit_by_time", "at_ms"),
)

LONGEST = 1000
"""Characters of a target or a reason that are kept."""

_ids = Ids()


async def add(  # noqa: PLR0913  # the columns of a row
    transaction: AsyncConnection,
    *,
    who: str,
    address: str,
    action: str,
    target: str = "",
    reason: str = "",
) -> None:
    """Note what is about to be done; a crash may keep it from being done."""
    await transaction.execute(
        insert(TABLE).values(
            id=_ids.mint(),
            at_ms=time.time_ns() // 1_000_000,
            who=storable(who[:LONGEST]),
            address=address,
            action=action,
            target=storable(target[:LONGEST]),
            reason=storable(reason[:LONGEST]),
        )
    )


async def newest(transaction: AsyncConnection, most: int) -> Sequence[RowMapping]:
    """Give what was done last."""
    query = select(TABLE).order_by(TABLE.c.id.desc()).limit(most)
    return (await transaction.execute(query)).mappings().all()
