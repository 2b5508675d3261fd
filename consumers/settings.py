"""Settings of worker, friends API and console: tables of `bridge.settings`."""

from collections.abc import Iterator
from typing import Annotated, Any, ClassVar

from msgspec import Meta
from yarl import URL

from bridge.settings import Connected, Host, Port, Process, Seconds
from bridge.tracing import Tracing
from bridge.tracing import problems as tracing_problems

_MODULE = r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*"
_USER = r"[A-Za-z0-9._-]{1,50}:(viewer|operator|admin):scrypt\$[A-Za-z0-9_=-]+\$[A-Za-z0-9_=-]+"
_ORIGIN = r"https?://[^\s,/]+"
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
    host: Host = "127.0.0.1"
    port: Annotated[
        int,
        Meta(
            ge=0,
            le=65535,
            description="Port for health and metrics; 0 lets the system choose, so that many"
            " workers fit on a machine. `docker-compose.yml` and `make run` set 10008.",
        ),
    ] = 0
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
    tracing: Tracing = "off"

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the files of TLS, and with tracing."""
        yield from Connected.problems(self)
        yield from tracing_problems("CONSUMERS_TRACING", self.tracing)


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


class Console(Connected, frozen=True, kw_only=True):
    """Settings of the web console, `openim-bridge console`."""

    table: ClassVar[str] = "console"

    host: Host = "127.0.0.1"
    port: Port = 10009
    password: Annotated[
        str,
        Meta(
            pattern=r"^(\S{12,200})?\Z",
            title="12 characters or more, without spaces",
            description="Password of the user `admin`. Without it, only `CONSOLE_USERS` get in;"
            " without both, the console does not start.",
            extra={"secret": True},
        ),
    ] = ""
    users: Annotated[
        str,
        Meta(
            pattern=rf"^({_USER}([,\s]+{_USER})*)?\Z",
            title="lines that `openim-bridge console-user` prints, or with commas between them",
            description="Who else gets in, each as `name:role:hash`; a role is `viewer`,"
            " `operator` or `admin`.",
            extra={"secret": True},
        ),
    ] = ""
    callback_url: Annotated[
        str,
        Meta(
            pattern=r"^https?://\S+\Z",
            title="a URL such as `http://127.0.0.1:10006/callbackExample`",
            description="Where the receiver takes callbacks, for a sample and for the lines of"
            " `webhooks.yml`.",
            extra={"secret": True, "check": _has_a_possible_port},
        ),
    ] = "http://127.0.0.1:10006/callbackExample"
    receivers: Annotated[
        str,
        Meta(
            pattern=rf"^({_ORIGIN}(,{_ORIGIN})*)?\Z",
            title="URLs such as `http://10.0.0.5:10006`, with commas between them, or nothing",
            description="Receivers whose metrics are shown. Nothing: the one of"
            " `CONSOLE_CALLBACK_URL`.",
        ),
    ] = ""
    management_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?\Z",
            title="a URL such as `http://user:password@host:15672`, or nothing",
            description="RabbitMQ's management HTTP API; its user needs the tag `monitoring`."
            " Nothing: port 15672 of the host in `CONSOLE_AMQP_URL`, with its user.",
            extra={"secret": True, "check": _has_a_possible_port},
        ),
    ] = ""
    database_url: Annotated[
        str,
        Meta(
            description="Where the workers write: friends are read from it, and it keeps what"
            " is done in the console.",
            **_DATABASE,
        ),
    ] = "sqlite:///openim-consumers.db"
    index_path: Annotated[
        str,
        Meta(
            min_length=1,
            description="File for the index of events; made anew from RabbitMQ's streams at"
            " each start.",
        ),
    ] = "openim-console-index.db"
    events: Annotated[
        int,
        Meta(ge=1000, le=2_000_000, description="Events in the index; the oldest go first."),
    ] = 100_000
    idle_timeout: Annotated[
        Seconds,
        Meta(gt=0, le=86400, description="Seconds without a click after which one is out."),
    ] = 1800.0
    session_timeout: Annotated[
        Seconds,
        Meta(gt=0, le=7 * 86400, description="Seconds after which one has to log in again."),
    ] = 12 * 3600.0
    streams: Annotated[
        int,
        Meta(ge=1, le=100, description="Pages that a user may have live at a time."),
    ] = 8
