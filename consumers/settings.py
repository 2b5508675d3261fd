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
            le=19,
            description="Deliveries handled at a time, for each subscription. Below RabbitMQ's"
            " delivery limit of 20, or one that kills its worker takes innocents with it.",
        ),
    ] = 16
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
