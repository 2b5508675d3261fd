"""What can be set, and to what: the one source of settings.

A process has one class of settings. Each field is a setting: its type holds the bounds and
the sentence that `docs/reference.md` shows; `bridge.loading` reads the values.
"""

from collections.abc import Iterator
from typing import Annotated, ClassVar

from msgspec import Meta

from bridge.connected import (
    FILE,
    TABLES,
    Connected,
    Host,
    Port,
    Process,
    Seconds,
    Settings,
    names_a_host,
    pair,
)
from bridge.lists import NAMED_SECRET, are_networks, differ
from bridge.tls import Certificate, trouble
from bridge.tracing import Tracing
from bridge.tracing import problems as tracing_problems

__all__ = ["TABLES", "Connected", "Host", "Port", "Process", "Receiver", "Seconds", "Settings"]

NETWORKS = "networks such as `10.0.0.0/8`, with commas between, or nothing"


class Receiver(Connected, frozen=True, kw_only=True):
    """Settings of the receiver, `openim-bridge receive`."""

    table: ClassVar[str] = "bridge"
    reloaded: ClassVar[frozenset[str]] = frozenset(
        (
            *("log_format", "log_level", "amqp_url", "amqp_ca", "amqp_certificate", "amqp_key"),
            *("connect_timeout", "confirm_timeout"),
            *("path", "secrets", "sources", "proxies", "policy", "questions"),
            *("max_body", "arrival_timeout", "reply_timeout", "keepalive_timeout"),
            *("grace_period", "window"),
        )
    )

    host: Host = "127.0.0.1"
    port: Port = 10006
    path: Annotated[
        str,
        Meta(
            pattern=r"^(/[A-Za-z0-9._~-]+)+\Z",
            max_length=500,
            title="a path such as `/callback/4f1c9a`: letters, digits and `-._~`, no slash"
            " at the end",
            description="What precedes the command in a callback's path. Where there are no"
            " `BRIDGE_SECRETS`, make it a long random one.",
            extra={"secret": True},
        ),
    ] = "/callbackExample"
    secrets: Annotated[
        str,
        Meta(
            pattern=rf"^\s*({NAMED_SECRET}([\s,]+{NAMED_SECRET})?)?\s*\Z",
            title="one or two of `name:secret` with a space between, or nothing; a secret has"
            " at least 32 letters, digits and `-._~`",
            description="What OpenIM has to know besides the path, in its `url`: see"
            " docs/security.md. Two, for a change.",
            extra={"secret": True, "check": differ},
        ),
    ] = ""
    sources: Annotated[
        str,
        Meta(
            title=NETWORKS,
            description="From where callbacks are taken. Nothing: from everywhere.",
            extra={"check": are_networks},
        ),
    ] = ""
    proxies: Annotated[
        str,
        Meta(
            title=NETWORKS,
            description="Proxies in front of the receiver, whose `X-Forwarded-For` counts.",
            extra={"check": are_networks},
        ),
    ] = ""
    tls_certificate: Annotated[
        str,
        Meta(
            title=FILE,
            description="Certificate to take callbacks by HTTPS with, then those that lead to"
            " an authority. Nothing: plain HTTP.",
        ),
    ] = ""
    tls_key: Annotated[str, Meta(title=FILE, description="Its key.")] = ""
    workers: Annotated[
        int,
        Meta(
            ge=1,
            le=64,
            description="Processes that receive, each with a journal of its own. One does what"
            " one core can.",
        ),
    ] = 1
    policy: Annotated[
        str,
        Meta(
            title="a path, or nothing",
            description="File that says what `before` callbacks are answered, see"
            " docs/before.md. Nothing: all are allowed.",
        ),
    ] = ""
    questions: Annotated[
        int,
        Meta(
            ge=1,
            le=100_000,
            description="Callbacks that may wait for decision handlers at a time; about more,"
            " nobody is asked.",
        ),
    ] = 1000
    journal_path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder of the journal, on a local disk. Receivers may share it: each"
            " takes a slot in it, and publishes what others left behind.",
        ),
    ] = "journal"
    journal_quota: Annotated[
        int,
        Meta(
            ge=32 * 2**20,
            description="Bytes that the journal of a process may take. When they are used up,"
            " callbacks wait for RabbitMQ's confirm instead of the disk.",
        ),
    ] = 4 * 2**30
    max_body: Annotated[
        int,
        Meta(ge=1024, le=15 * 2**20, description="Largest body accepted, in bytes."),
    ] = 2**20
    arrival_timeout: Annotated[
        Seconds,
        Meta(
            gt=0,
            le=15,
            description="Seconds that a request's head may take to arrive, and then its body.",
        ),
    ] = 3.0
    reply_timeout: Annotated[
        Seconds,
        Meta(
            gt=0,
            le=14,
            description="Seconds that a callback may wait for the disk before it is refused."
            " OpenIM itself waits for the `timeout` of its `webhooks.yml`, 5 s.",
        ),
    ] = 3.0
    keepalive_timeout: Annotated[
        Seconds,
        Meta(
            ge=60,
            le=7 * 86400,
            description="Seconds that an idle connection stays open. OpenIM loses the callback"
            " that it sends while we close, so hours.",
        ),
    ] = 6 * 3600.0
    grace_period: Annotated[
        Seconds,
        Meta(gt=0, le=600, description="Seconds that a stop may take to answer what came in."),
    ] = 8.0
    window: Annotated[
        int,
        Meta(ge=1, le=4096, description="Messages published and not yet confirmed, at most."),
    ] = 256
    confirm_timeout: Annotated[
        Seconds,
        Meta(
            gt=0,
            le=300,
            description="Seconds without a confirm after which the connection to RabbitMQ is"
            " given up and made anew.",
        ),
    ] = 5.0
    partitions: Annotated[
        int,
        Meta(
            ge=1,
            le=100,
            description="Partitions that ordering keys are spread over: the number at the end"
            " of routing keys. A change reorders what is under way.",
        ),
    ] = 16
    management_url: Annotated[
        str,
        Meta(
            pattern=r"^(https?://\S+)?\Z",
            title="a URL such as `http://user:password@host:15672`, or nothing",
            description="RabbitMQ's management HTTP API, for the commands about subscriptions."
            " Nothing: port 15672 of the host in `BRIDGE_AMQP_URL`, 15671 with TLS. User and"
            " password are those of `BRIDGE_AMQP_URL`, unless it has its own.",
            extra={"secret": True, "check": lambda url: not url or names_a_host(url)},
        ),
    ] = ""
    archive_days: Annotated[
        float,
        Meta(
            ge=0,
            le=3650,
            description="Days for which the stream `openim.archive` keeps every callback, to be"
            " replayed from; 0: it is not made.",
        ),
    ] = 7.0
    archive_bytes: Annotated[
        int,
        Meta(
            ge=2**20,
            description="Bytes that the archive may take on RabbitMQ's disk; the oldest go"
            " first.",
        ),
    ] = 4 * 2**30

    tracing: Tracing = "off"

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the files of TLS, and with tracing."""
        yield from Connected.problems(self)
        yield from tracing_problems("BRIDGE_TRACING", self.tracing)
        files = self.tls_certificate, self.tls_key
        yield from pair("BRIDGE_TLS", *files)
        if why := all(files) and trouble(lambda: Certificate(*files)):
            yield f"BRIDGE_TLS_CERTIFICATE or BRIDGE_TLS_KEY cannot be used: {why}"
