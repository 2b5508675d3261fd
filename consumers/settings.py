"""Settings of the worker and of the friends API: tables of `bridge.settings`."""

from typing import Annotated, Any, ClassVar

from msgspec import Meta
from yarl import URL

from bridge.settings import Connected, Host, Port, Process, Seconds

_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_BEARER = r"[A-Za-z0-9._~+/=-]{16,500}"


def _has_a_possible_port(url: str) -> bool:
    return URL(url).port != 0


_DATABASE: dict[str, Any] = {
    "pattern": r"^(sqlite:///|postgres(ql)?://).+\Z",
    "title": "a URL such as `sqlite:///file.db` or `postgresql://user:password@host/database`",
    "extra": {"secret": True, "check": _has_a_possible_port},
}


class Worker(Connected, frozen=True, kw_only=True):
    """Settings of a worker, `openim-consumers work`."""

    table: ClassVar[str] = "consumers"

    database_url: Annotated[
        str,
        Meta(description="Where handlers write: SQLite in a file, or PostgreSQL.", **_DATABASE),
    ] = "sqlite:///openim-consumers.db"
    handlers: Annotated[
        str,
        Meta(
            pattern=rf"^{_MODULE}(,{_MODULE})*\Z",
            title="names of modules such as `my_app.handlers`, with commas between them",
            description="Modules with handlers.",
        ),
    ] = "consumers.handlers.friend_verification"
    prefetch: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Deliveries handled at a time, for each subscription. An ordered one"
            " fetches so many for each partition.",
        ),
    ] = 16
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Queues of an ordered subscription: as many as `BRIDGE_PARTITIONS`.",
        ),
    ] = 16
    database_connections: Annotated[
        int,
        Meta(
            ge=1,
            le=1000,
            description="Connections to PostgreSQL, at most, and so transactions at a time."
            " SQLite has one.",
        ),
    ] = 20
    inbox_days: Annotated[
        float,
        Meta(
            gt=0,
            le=3650,
            description="Days for which the inbox remembers what was handled. A message that"
            " comes again later, such as a replayed one, is handled again.",
        ),
    ] = 30.0
    messages_days: Annotated[
        float,
        Meta(
            gt=0,
            le=36500,
            description="Days for which the message archive keeps messages, if there is one.",
        ),
    ] = 365.0
    outcomes_days: Annotated[
        float,
        Meta(
            ge=0,
            le=3650,
            description="Days for which the stream `openim.outcomes` keeps what came of each"
            " attempt to handle a callback; 0: nothing is recorded.",
        ),
    ] = 7.0
    outcomes_bytes: Annotated[
        int,
        Meta(
            ge=2**20,
            description="Bytes that they may take on RabbitMQ's disk; the oldest go first.",
        ),
    ] = 2 * 2**30
    handler_timeout: Annotated[
        Seconds,
        Meta(
            gt=0,
            le=1500,
            description="Seconds that a handler may take before it is cancelled and tried again"
            " later. RabbitMQ takes a delivery back after 30 minutes.",
        ),
    ] = 30.0
    confirm_timeout: Annotated[
        Seconds,
        Meta(gt=0, le=300, description="Seconds that RabbitMQ may take to confirm a message."),
    ] = 5.0
    grace_period: Annotated[
        Seconds,
        Meta(gt=0, le=600, description="Seconds that handlers may take to finish at a stop."),
    ] = 8.0


class FriendsApi(Process, frozen=True, kw_only=True):
    """Settings of the friends API, `openim-consumers api`."""

    table: ClassVar[str] = "friends_api"

    database_url: Annotated[
        str,
        Meta(description="Where the workers write; it is only read.", **_DATABASE),
    ] = "sqlite:///openim-consumers.db"
    host: Host = "127.0.0.1"
    port: Port = 10007
    token: Annotated[
        str,
        Meta(
            pattern=rf"^{_BEARER}(,{_BEARER})?\Z",
            title="a random text of at least 16 letters, digits and `-._~+/=`; or two of them"
            " with a comma between",
            description="What the App's backend sends as `Authorization: Bearer …`. Two, for a"
            " change. Without any, the API does not start.",
            extra={"secret": True},
        ),
    ] = ""
    database_connections: Annotated[
        int,
        Meta(ge=1, le=1000, description="Connections to PostgreSQL, at most. SQLite has one."),
    ] = 5
    streams: Annotated[
        int,
        Meta(ge=1, le=10_000, description="Live streams at a time; more are refused."),
    ] = 100
    heartbeat: Annotated[
        Seconds,
        Meta(gt=0, le=300, description="Seconds of silence after which a stream says so."),
    ] = 15.0
