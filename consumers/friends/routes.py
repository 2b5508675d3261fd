"""What can be asked for over HTTP, as data: paths, parameters, and what is answered."""

import re
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

from msgspec import Meta, Struct

from consumers.friends.relations import BlackListed, Friend
from consumers.friends.verifications import Verification, Wanted

LONGEST_PAGE = 200

Limit = Annotated[
    int, Meta(ge=1, le=LONGEST_PAGE, description="How many items to give at most.")
]
Cursor = Annotated[
    str,
    Meta(
        min_length=1,
        title="the `next_cursor` of an answer",
        description="`next_cursor` of the last answer, for the items that follow. It stays good"
        " while others are added.",
    ),
]


class NoQuery(Struct, frozen=True, kw_only=True):
    """No parameter."""


class VerificationsQuery(Wanted, frozen=True, kw_only=True):
    """Which messages are wanted, and which part of their list."""

    limit: Limit = 50
    cursor: Cursor = ""


class OneQuery(Struct, frozen=True, kw_only=True):
    """Which message is wanted."""

    message_id: Annotated[str, Meta(min_length=1, description="The callback's id.")]


class UserQuery(Struct, frozen=True, kw_only=True):
    """Whose list is wanted, and which part of it."""

    user: Annotated[str, Meta(min_length=1, description="Whose list.")]
    limit: Limit = 50
    cursor: Cursor = ""


NextCursor = Annotated[
    str | None, Meta(description="To be sent as `cursor` for the items that follow, if any do.")
]


class Verifications(Struct, frozen=True, kw_only=True):
    """Friend verification messages, newest first."""

    items: list[Verification]
    next_cursor: NextCursor
    last_event_id: Annotated[
        str,
        Meta(
            description="Sent to the stream as `Last-Event-ID`, it goes on from this answer:"
            " nothing is missed in between."
        ),
    ]


class Friends(Struct, frozen=True, kw_only=True):
    """A user's friends, sorted by their ids."""

    items: list[Friend]
    next_cursor: NextCursor


class BlackList(Struct, frozen=True, kw_only=True):
    """Who is on a user's black list, sorted by their ids."""

    items: list[BlackListed]
    next_cursor: NextCursor


class Alive(Struct, frozen=True, kw_only=True):
    """The process runs."""

    alive: bool


class Ready(Struct, frozen=True, kw_only=True):
    """Whether the database can be read."""

    ready: bool
    reason: Annotated[str, Meta(description="Why not, in a few words; otherwise empty.")]


STREAM, TEXT = "text/event-stream", "text/plain"


class Description(Struct, frozen=True, kw_only=True):
    """OpenAPI's description of the API."""

    openapi: str
    info: dict[str, str]
    paths: dict[str, Any]
    components: dict[str, Any]


class Trouble(Struct, frozen=True, kw_only=True):
    """What was wrong, and what to do."""

    error: Annotated[str, Meta(description="One of a few words, for programs.")]
    message: Annotated[str, Meta(description="A sentence for people.")]


@dataclass(frozen=True, kw_only=True)
class Route:
    """Something that can be asked for, with GET."""

    name: str
    path: str
    summary: str
    answer: type[Struct] | None
    """What is answered, as JSON; None for what is not JSON."""

    media: str = "application/json"
    """What is answered, as HTTP calls it."""

    query: type[Struct] = NoQuery
    problems: tuple[int, ...] = ()
    """Statuses of its own, beside 400, 401 and 503."""

    open: bool = False
    """Whether it takes no token, and no database."""

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its path looks like."""
        return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", self.path))


ROUTES = (
    Route(
        name="list_verifications",
        path="/friends/verifications",
        summary="List friend verification messages, newest first.",
        query=VerificationsQuery,
        answer=Verifications,
    ),
    Route(
        name="stream_verifications",
        path="/friends/verifications/stream",
        summary="Get friend verification messages as they come, as server-sent events.",
        query=Wanted,
        answer=None,
        media=STREAM,
        problems=(409,),
    ),
    Route(
        name="show_verification",
        path="/friends/verifications/{message_id}",
        summary="Get one friend verification message.",
        query=OneQuery,
        answer=Verification,
        problems=(404,),
    ),
    Route(
        name="list_friends",
        path="/friends",
        summary="List a user's friends, as far as callbacks told.",
        query=UserQuery,
        answer=Friends,
    ),
    Route(
        name="list_black_list",
        path="/friends/black-list",
        summary="List who is on a user's black list, as far as callbacks told.",
        query=UserQuery,
        answer=BlackList,
    ),
    Route(
        name="describe",
        path="/openapi.json",
        summary="Get this description.",
        answer=Description,
        open=True,
    ),
    Route(
        name="live",
        path="/livez",
        summary="Ask whether the process runs.",
        answer=Alive,
        open=True,
    ),
    Route(
        name="ready",
        path="/readyz",
        summary="Ask whether the database can be read.",
        answer=Ready,
        open=True,
    ),
    Route(
        name="metrics",
        path="/metrics",
        summary="Get the metrics, for Prometheus.",
        answer=None,
        media=TEXT,
        open=True,
    ),
)
"""In this order they are tried."""
