"""Friend verification messages in SQL: who asked whom to be friends, and who agreed.

OpenIM reports an application (`callbackAfterAddFriendCommand`) and its acceptance
(`callbackAfterAddFriendAgreeCommand`); a refusal is never reported. Messages are only added:
each has a position, and positions grow in the order in which messages become visible, so
that whoever has read up to one has missed none before it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct
from sqlalchemy import (
    BigInteger,
    Column,
    ColumnElement,
    Index,
    Integer,
    RowMapping,
    String,
    Table,
    Text,
    func,
    or_,
    select,
    text,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import METADATA, insert_into, storable

TABLE = Table(
    "friend_verification_messages",
    METADATA,
    Column(
        "position",
        # SQLite numbers rows in a column of exactly this type only.
        BigInteger().with_variant(Integer, "sqlite"),
        primary_key=True,
        autoincrement=True,
    ),
    Column("message_id", String(36), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("from_user_id", Text, nullable=False, doc="Who asked."),
    Column("to_user_id", Text, nullable=False, doc="Who was asked, and who agrees."),
    Column("message", Text, nullable=False, doc="What was said with it."),
    Column("result", Integer, doc="HandleResult of an agreement, 1; null for an application."),
    Column("received_ms", BigInteger, nullable=False),
    Index("friend_verification_messages_by_time", "received_ms", "message_id"),
    Index("friend_verification_messages_by_asked", "to_user_id", "received_ms"),
    Index("friend_verification_messages_by_asking", "from_user_id", "received_ms"),
    # Or SQLite gives the position of a removed row again.
    sqlite_autoincrement=True,
)

_TURN = 5_271_044
"""Key of the PostgreSQL advisory lock under which messages are added, any fixed number."""

LONGEST_TURN = "5s"
"""After so long without a word from a worker that holds the lock, PostgreSQL hangs up on it."""


class Verification(Struct, frozen=True, kw_only=True):
    """One friend verification message."""

    message_id: Annotated[
        str, Meta(description="The callback's id, the same for every copy of it.")
    ]
    kind: Annotated[
        Literal["application", "agreement"],
        Meta(description="Whether somebody asks, or agrees to what was asked."),
    ]
    from_user_id: Annotated[str, Meta(description="Who asked.")]
    to_user_id: Annotated[str, Meta(description="Who was asked, and who agrees.")]
    message: Annotated[str, Meta(description="What was said with it.")]
    result: Annotated[
        int | None,
        Meta(description="OpenIM's HandleResult of an agreement, 1; null for an application."),
    ]
    received: Annotated[datetime, Meta(description="When the bridge took it from OpenIM, UTC.")]


class Place(NamedTuple):
    """Where a message stands by time of receipt."""

    received_ms: int
    message_id: str


class Wanted(Struct, frozen=True, kw_only=True):
    """Which messages are wanted: those that fit all that is given."""

    user: str | None = None
    """Who asked or was asked."""

    from_user: str | None = None
    to_user: str | None = None
    kind: str | None = None
    since: datetime | None = None
    """Received then or later."""

    def fits(self, message: Verification) -> bool:
        """Say whether a message is wanted."""
        users = message.from_user_id, message.to_user_id
        return (
            (self.user is None or storable(self.user) in users)
            and (self.from_user is None or storable(self.from_user) == message.from_user_id)
            and (self.to_user is None or storable(self.to_user) == message.to_user_id)
            and self.kind in {None, message.kind}
            and (self.since is None or message.received >= self.since)
        )

    def clauses(self) -> list[ColumnElement[bool]]:
        """Give the same in SQL."""
        column = TABLE.c
        found: list[ColumnElement[bool]] = []
        if self.user is not None:
            user = storable(self.user)
            found.append(or_(column.from_user_id == user, column.to_user_id == user))
        if self.from_user is not None:
            found.append(column.from_user_id == storable(self.from_user))
        if self.to_user is not None:
            found.append(column.to_user_id == storable(self.to_user))
        if self.kind is not None:
            found.append(column.kind == self.kind)
        if self.since is not None:
            found.append(column.received_ms >= milliseconds(self.since))
        return found


EVERYTHING = Wanted()


async def add(transaction: AsyncConnection, message: Verification) -> bool:
    """Add a message; say whether it is new.

    A callback comes again after a crash or a lost connection, under the same message id.
    Others that add wait until this transaction ends, so make it its last statement.
    """
    await _wait_for_turn(transaction)
    row = {
        "message_id": message.message_id,
        "kind": message.kind,
        "from_user_id": storable(message.from_user_id),
        "to_user_id": storable(message.to_user_id),
        "message": storable(message.message),
        "result": message.result,
        "received_ms": milliseconds(message.received),
    }
    added = await transaction.execute(
        insert_into(TABLE, transaction)
        .values(row)
        .on_conflict_do_nothing(index_elements=["message_id"])
    )
    return added.rowcount == 1


async def _wait_for_turn(transaction: AsyncConnection) -> None:
    """Keep others from adding until this transaction ends: SQLite does, PostgreSQL is told.

    Without it, position 7 may be visible before 6, and who has read up to 7 never sees 6.
    """
    if transaction.dialect.name == "postgresql":
        hold = "SELECT pg_advisory_xact_lock(:key), set_config(:name, :longest, true)"
        name = "idle_in_transaction_session_timeout"
        await transaction.execute(
            text(hold), {"key": _TURN, "name": name, "longest": LONGEST_TURN}
        )


async def newest(
    transaction: AsyncConnection,
    wanted: Wanted = EVERYTHING,
    *,
    before: Place | None = None,
    most: int = 20,
) -> list[Verification]:
    """List messages, newest first.

    Args:
        transaction: SQL.
        wanted: Which.
        before: Only those older than this place.
        most: How many.

    """
    place = TABLE.c.received_ms, TABLE.c.message_id
    query = select(TABLE).where(*wanted.clauses()).limit(most)
    query = query.order_by(*(column.desc() for column in place))
    if before is not None:
        query = query.where(tuple_(*place) < tuple_(*before))
    return [_message(row) for row in (await transaction.execute(query)).mappings()]


async def one(transaction: AsyncConnection, message_id: str) -> Verification | None:
    """Give a message, or None if there is none with this id."""
    query = select(TABLE).where(TABLE.c.message_id == storable(message_id))
    row = (await transaction.execute(query)).mappings().one_or_none()
    return None if row is None else _message(row)


async def last_position(transaction: AsyncConnection) -> int:
    """Give the position of the message that was added last, 0 if there is none."""
    return (await transaction.execute(select(func.max(TABLE.c.position)))).scalar() or 0


async def after(
    transaction: AsyncConnection, position: int, most: int
) -> Sequence[tuple[int, Verification]]:
    """Give the messages behind a position, in the order in which they were added."""
    query = select(TABLE).where(TABLE.c.position > position).limit(most)
    rows = (await transaction.execute(query.order_by(TABLE.c.position))).mappings()
    return [(row["position"], _message(row)) for row in rows]


def milliseconds(moment: datetime) -> int:
    """Give a time as it is stored."""
    # Rounded: a float of seconds may lie just below the millisecond that it came from.
    return round(moment.timestamp() * 1000)


def place(message: Verification) -> Place:
    """Give a message's place by time of receipt."""
    return Place(milliseconds(message.received), message.message_id)


def _message(row: RowMapping) -> Verification:
    return Verification(
        message_id=row["message_id"],
        kind=row["kind"],
        from_user_id=row["from_user_id"],
        to_user_id=row["to_user_id"],
        message=row["message"],
        result=row["result"],
        received=moment(row["received_ms"]),
    )


def moment(received_ms: int) -> datetime:
    """Give the time that was stored."""
    return datetime.fromtimestamp(received_ms / 1000, UTC)
