"""The worker's settings: a table of `bridge.settings`."""

from typing import Annotated, ClassVar

from msgspec import Meta

from bridge.settings import SECRET, Process, Seconds


class Worker(Process, frozen=True, kw_only=True):
    """Settings of a worker, `openim-consumers work`."""

    table: ClassVar[str] = "consumers"

    database_url: Annotated[
        str,
        Meta(
            pattern=r"^(sqlite:///|postgres(ql)?://).+",
            description="Where handlers write: `sqlite:///file.db` or"
            " `postgresql://user:password@host/database`.",
            extra=SECRET,
        ),
    ] = "sqlite:///openim-consumers.db"
    handlers: Annotated[
        str,
        Meta(
            min_length=1,
            description="Modules with handlers, separated by commas.",
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
