"""The worker's settings: a table of `bridge.settings`."""

from typing import Annotated, ClassVar

from msgspec import Meta
from yarl import URL

from bridge.settings import Process, Seconds

_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"


def _has_a_possible_port(url: str) -> bool:
    return URL(url).port != 0


class Worker(Process, frozen=True, kw_only=True):
    """Settings of a worker, `openim-consumers work`."""

    table: ClassVar[str] = "consumers"

    database_url: Annotated[
        str,
        Meta(
            pattern=r"^(sqlite:///|postgres(ql)?://).+\Z",
            title="a URL such as `sqlite:///file.db` or"
            " `postgresql://user:password@host/database`",
            description="Where handlers write: SQLite in a file, or PostgreSQL.",
            extra={"secret": True, "check": _has_a_possible_port},
        ),
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
