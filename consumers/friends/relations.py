"""How users stand to each other now, as far as callbacks told: friends, remarks, black lists.

Each aspect of a pair is a register that the last writer wins, by time of receipt and then by
message id. Whatever order callbacks come in, and however often, it ends with the same value:

    aspect       of the owner's list             set by                      cleared by
    friend       the other is on it              agreement, import           deletion
    remark       what the owner calls a friend   remark                      deletion
    black_list   the other is on it              (before) addition           removal

OpenIM announces an addition to a black list before it happens, and never says whether it did.
"""

from collections.abc import Iterable
from datetime import datetime
from functools import cache
from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Insert,
    String,
    Table,
    Text,
    and_,
    select,
    tuple_,
)
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import METADATA, insert_into, storable
from consumers.friends.verifications import milliseconds, moment

Aspect: TypeAlias = Literal["friend", "remark", "black_list"]

TABLE = Table(
    "friend_relations",
    METADATA,
    Column("owner_user_id", Text, primary_key=True, doc="Whose list it is."),
    Column("aspect", String(16), primary_key=True),
    Column("other_user_id", Text, primary_key=True),
    # What no longer holds is kept: an older callback that comes late must find it.
    Column("holds", Boolean, nullable=False),
    Column("words", Text, nullable=False, doc="The remark; otherwise empty."),
    Column("received_ms", BigInteger, nullable=False),
    Column("message_id", String(36), nullable=False),
)


class Change(Struct, frozen=True, kw_only=True):
    """What a callback says about one user's list."""

    owner: str
    other: str
    aspect: Aspect
    holds: bool
    words: str = ""


class Friend(Struct, frozen=True, kw_only=True):
    """A friend on a user's list."""

    user_id: Annotated[str, Meta(description="Who is on the list.")]
    remark: Annotated[str, Meta(description="What the list's owner calls them, or empty.")]
    received: Annotated[
        datetime, Meta(description="When the bridge last heard that they are friends, UTC.")
    ]


class BlackListed(Struct, frozen=True, kw_only=True):
    """Somebody on a user's black list."""

    user_id: Annotated[str, Meta(description="Who is on the list.")]
    received: Annotated[
        datetime, Meta(description="When OpenIM announced that they would be put there, UTC.")
    ]


def befriended(one: str, other: str) -> list[Change]:
    """Two users are on each other's list of friends."""
    return [
        Change(owner=owner, other=friend, aspect="friend", holds=True)
        for owner, friend in ((one, other), (other, one))
    ]


def deleted(owner: str, friend: str) -> list[Change]:
    """A friend is no longer on the owner's list; the owner may still be on the friend's."""
    return [
        Change(owner=owner, other=friend, aspect="friend", holds=False),
        Change(owner=owner, other=friend, aspect="remark", holds=False),
    ]


def remarked(owner: str, friend: str, remark: str) -> list[Change]:
    """The owner calls a friend something; nothing if `remark` is empty."""
    return [
        Change(owner=owner, other=friend, aspect="remark", holds=bool(remark), words=remark)
    ]


def black_listed(owner: str, other: str, *, holds: bool) -> list[Change]:
    """Somebody is on the owner's black list, or no longer."""
    return [Change(owner=owner, other=other, aspect="black_list", holds=holds)]


async def change(
    transaction: AsyncConnection, changes: Iterable[Change], message_id: str, received: datetime
) -> None:
    """Write down what a callback says, where nothing that is known is newer.

    Args:
        transaction: SQL.
        changes: What it says, one change for an aspect of a pair.
        message_id: The callback's.
        received: When the bridge took it from OpenIM.

    """
    rows = {
        (storable(each.owner), each.aspect, storable(each.other)): (each.holds, each.words)
        for each in changes
    }
    if rows:
        await transaction.execute(
            _writing_newer(transaction.dialect.name),
            [
                {
                    "owner_user_id": owner,
                    "aspect": aspect,
                    "other_user_id": other,
                    "holds": holds,
                    "words": storable(words),
                    "received_ms": milliseconds(received),
                    "message_id": message_id,
                }
                # In one order, or two workers with the same pairs would wait for each other.
                for (owner, aspect, other), (holds, words) in sorted(rows.items())
            ],
        )


@cache
def _writing_newer(dialect: str) -> Insert:
    added = insert_into(TABLE, dialect)
    new = tuple_(added.excluded.received_ms, added.excluded.message_id)
    return added.on_conflict_do_update(
        index_elements=[column.name for column in TABLE.primary_key],
        set_={
            name: added.excluded[name]
            for name in ("holds", "words", "received_ms", "message_id")
        },
        where=new > tuple_(TABLE.c.received_ms, TABLE.c.message_id),
    )


async def friends(
    transaction: AsyncConnection, owner: str, *, behind: str = "", most: int = 1000
) -> list[Friend]:
    """List a user's friends by their ids, those behind an id."""
    remark = TABLE.alias()
    same_pair = and_(
        remark.c.owner_user_id == TABLE.c.owner_user_id,
        remark.c.other_user_id == TABLE.c.other_user_id,
        remark.c.aspect == "remark",
    )
    query = (
        select(TABLE.c.other_user_id, TABLE.c.received_ms, remark.c.words)
        .outerjoin(remark, same_pair)
        .where(TABLE.c.owner_user_id == storable(owner), TABLE.c.aspect == "friend")
        .where(TABLE.c.holds, TABLE.c.other_user_id > storable(behind))
        .order_by(TABLE.c.other_user_id)
        .limit(most)
    )
    return [
        Friend(user_id=user_id, remark=words or "", received=moment(received_ms))
        for user_id, received_ms, words in await transaction.execute(query)
    ]


async def black_list(
    transaction: AsyncConnection, owner: str, *, behind: str = "", most: int = 1000
) -> list[BlackListed]:
    """List who is on a user's black list by their ids, those behind an id."""
    query = (
        select(TABLE.c.other_user_id, TABLE.c.received_ms)
        .where(TABLE.c.owner_user_id == storable(owner), TABLE.c.aspect == "black_list")
        .where(TABLE.c.holds, TABLE.c.other_user_id > storable(behind))
        .order_by(TABLE.c.other_user_id)
        .limit(most)
    )
    return [
        BlackListed(user_id=user_id, received=moment(received_ms))
        for user_id, received_ms in await transaction.execute(query)
    ]
