"""Finding messages of one conversation, newest first, page by page."""

from typing import NamedTuple

from msgspec import Struct
from sqlalchemy import Select, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from consumers.database import storable
from consumers.messages.archive import MESSAGES, REVOCATIONS, text_of

LOOKED_THROUGH = 20_000
"""Messages that one page looks through for words; the next page goes on from there."""


class Place(NamedTuple):
    """Where a message stands in its conversation."""

    sent_ms: int
    id: str

    def __str__(self) -> str:
        """Give it as a cursor."""
        return f"{self.sent_ms}-{self.id}"


class BadCursor(Exception):
    """A cursor that no page has given."""


def place(cursor: str) -> Place:
    """Read a cursor.

    Raises:
        BadCursor: it is none.

    """
    sent, _, id_ = cursor.partition("-")
    if not (sent.isascii() and sent.isdecimal() and len(sent) < len(str(2**63)) and id_):
        raise BadCursor(f"{cursor!r} is no cursor: take one that a page has given")
    return Place(int(sent), storable(id_))


class Wanted(Struct, frozen=True, kw_only=True):
    """Which messages are wanted."""

    conversation_id: str
    words: tuple[str, ...] = ()
    """Each must stand in the text, in any order and case."""
    since: float | None = None
    until: float | None = None
    """Seconds since 1970, by when messages were sent."""


class Found(Struct, frozen=True, kw_only=True, rename="camel"):
    """A message that was found."""

    id: str
    conversation_id: str
    send_id: str
    sent_ms: int
    content_type: int
    text: str
    content: str
    cursor: str


class Page(NamedTuple):
    """Some messages, and where the next page begins, if there may be one."""

    messages: list[Found]
    cursor: str


async def search(
    transaction: AsyncConnection, wanted: Wanted, *, behind: Place | None, most: int
) -> Page:
    """Give messages that were not withdrawn, newest first."""
    looked = _conversation(wanted, behind).limit(LOOKED_THROUGH).subquery()
    query = select(looked).order_by(looked.c.sent_ms.desc(), looked.c.id.desc())
    for word in wanted.words:
        query = query.where(looked.c.words.contains(storable(word.lower()), autoescape=True))
    rows = (await transaction.execute(query.limit(most))).mappings().all()
    messages = [
        Found(
            **{name: row[name] for name in ("id", "conversation_id", "send_id", "sent_ms")},
            content_type=row["content_type"],
            content=row["content"],
            text=text_of(row["content"]),
            cursor=str(Place(row["sent_ms"], row["id"])),
        )
        for row in rows
    ]
    if len(messages) == most:
        return Page(messages, messages[-1].cursor)
    last = _conversation(wanted, behind).offset(LOOKED_THROUGH - 1).limit(1)
    reached = (await transaction.execute(last)).mappings().one_or_none()
    return Page(messages, str(Place(reached["sent_ms"], reached["id"])) if reached else "")


def _conversation(wanted: Wanted, behind: Place | None) -> Select[tuple[object, ...]]:
    revoked = (
        select(REVOCATIONS.c.seq)
        .where(REVOCATIONS.c.conversation_id == MESSAGES.c.conversation_id)
        .where(REVOCATIONS.c.seq == MESSAGES.c.seq, MESSAGES.c.seq > 0)
        .exists()
    )
    order = MESSAGES.c.sent_ms, MESSAGES.c.id
    query = (
        select(MESSAGES)
        .where(MESSAGES.c.conversation_id == storable(wanted.conversation_id), ~revoked)
        .order_by(*(column.desc() for column in order))
    )
    if behind is not None:
        query = query.where(tuple_(*order) < tuple_(*behind))
    if wanted.since is not None:
        query = query.where(MESSAGES.c.sent_ms >= wanted.since * 1000)
    if wanted.until is not None:
        query = query.where(MESSAGES.c.sent_ms < wanted.until * 1000)
    return query
