"""Friend verification messages in SQL: who asked whom to be friends, and who agreed.

OpenIM reports an application (`callbackAfterAddFriendCommand`) and its acceptance
(`callbackAfterAddFriendAgreeCommand`); a refusal is never reported.
"""

from datetime import UTC, datetime

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
    Text,
    or_,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import METADATA

APPLICATION = "application"
AGREEMENT = "agreement"

TABLE = Table(
    "friend_verifications",
    METADATA,
    Column("message_id", String(36), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("from_user_id", Text, nullable=False, doc="Who asked."),
    Column("to_user_id", Text, nullable=False, doc="Who was asked, and who agrees."),
    Column("message", Text, nullable=False, doc="What was said with it."),
    Column("result", Integer, doc="HandleResult of an agreement, 1; null for an application."),
    Column("received_ms", BigInteger, nullable=False),
    Index("friend_verifications_by_time", "received_ms"),
    Index("friend_verifications_by_asked", "to_user_id", "received_ms"),
    Index("friend_verifications_by_asking", "from_user_id", "received_ms"),
)


async def add(  # noqa: PLR0913  # the columns of a row
    transaction: AsyncConnection,
    *,
    message_id: str,
    kind: str,
    from_user_id: str,
    to_user_id: str,
    message: str,
    result: int | None,
    received: datetime,
) -> bool:
    """Add a verification message; say whether it is new.

    A callback comes again after a crash or a lost connection, under the same message id.
    """
    insert = (sqlite if transaction.dialect.name == "sqlite" else postgresql).insert
    row = {
        "message_id": message_id,
        "kind": kind,
        "from_user_id": _storable(from_user_id),
        "to_user_id": _storable(to_user_id),
        "message": _storable(message),
        "result": result,
        "received_ms": int(received.timestamp() * 1000),
    }
    added = await transaction.execute(
        insert(TABLE).values(row).on_conflict_do_nothing(index_elements=["message_id"])
    )
    return added.rowcount == 1


def _storable(text: str) -> str:
    """Replace what PostgreSQL cannot store in a text: the character NUL."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def newest(
    transaction: AsyncConnection, *, user_id: str | None = None, most: int = 20
) -> list[RowMapping]:
    """List verification messages, newest first.

    Args:
        transaction: SQL.
        user_id: Only those that this user sent or got.
        most: How many.

    """
    wanted = select(TABLE).order_by(TABLE.c.received_ms.desc(), TABLE.c.message_id.desc())
    if user_id is not None:
        wanted = wanted.where(
            or_(TABLE.c.to_user_id == user_id, TABLE.c.from_user_id == user_id)
        )
    return list((await transaction.execute(wanted.limit(most))).mappings())


def moment(received_ms: int) -> datetime:
    """Give the time of a row."""
    return datetime.fromtimestamp(received_ms / 1000, UTC)
