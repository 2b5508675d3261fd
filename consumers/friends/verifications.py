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


LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
"""Nothing was received before."""


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

    received_ms: Annotated[int, Meta(ge=0, le=2**53)]
    message_id: Annotated[str, Meta(pattern=r"^[!-~]{0,36}\Z")]


class Wanted(Struct, frozen=True, kw_only=True, rename={"from_user": "from", "to_user": "to"}):
    """Which messages are wanted: those that fit all that is given."""

    user: Annotated[
        str, Meta(min_length=1, description="Only what this user asked or was asked.")
    ] = ""
    from_user: Annotated[str, Meta(min_length=1, description="Only where this user asked.")] = (
        ""
    )
    to_user: Annotated[
        str, Meta(min_length=1, description="Only where this user was asked.")
    ] = ""
    kind: Annotated[
        str,
        Meta(
            pattern="^(application|agreement)$",
            title="application or agreement",
            description="Only one kind: `application` or `agreement`.",
        ),
    ] = ""
    since: Annotated[
        datetime,
        Meta(
            tz=True,
            title="a time with its zone, such as 2024-07-01T08:00:00Z",
            description="Only what was received then or later.",
        ),
    ] = LONG_AGO

    def fits(self, message: Verification) -> bool:
        """Say whether a message is wanted."""
        one, other = message.from_user_id, message.to_user_id
        return (
            (not self.user or storable(self.user) in {one, other})
            and (not self.from_user or storable(self.from_user) == one)
            and (not self.to_user or storable(self.to_user) == other)
            and (not self.kind or self.kind == message.kind)
            and self.since <= message.received
        )

    def clauses(self) -> list[ColumnElement[bool]]:
        """Give the same in SQL."""
        one, other = TABLE.c.from_user_id, TABLE.c.to_user_id
        user, from_user, to_user = map(storable, (self.user, self.from_user, self.to_user))
        clauses = [
            (user, or_(one == user, other == user)),
            (from_user, one == from_user),
            (to_user, other == to_user),
            (self.kind, TABLE.c.kind == self.kind),
            (self.since != LONG_AGO, TABLE.c.received_ms >= milliseconds(self.since)),
        ]
        return [clause for given, clause in clauses if given]


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
        insert_into(TABLE, transaction.dialect.name)
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
