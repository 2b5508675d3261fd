"""What can be set for every process, and for those that speak to RabbitMQ."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal, TypeAlias

from msgspec import Meta, Struct
from yarl import URL

from bridge.tls import client_context, trouble

Seconds: TypeAlias = float

Host: TypeAlias = Annotated[
    str,
    Meta(
        pattern=r"^[!-~]+\Z",
        title="an IP address or a host name",
        description="Address to listen on; `0.0.0.0` for every one.",
    ),
]
Port: TypeAlias = Annotated[
    int, Meta(ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
]

FILE = "the path of a file in PEM form, or nothing"

TABLES = ("bridge", "consumers", "friends_api", "console")
"""The tables of a settings file, which all processes may share."""


def names_a_host(url: str) -> bool:
    """Say whether a URL says where."""
    parsed = URL(url)
    return bool(parsed.host) and parsed.port != 0


class Settings(Struct, frozen=True, kw_only=True):
    """Base of the settings of a process."""

    table: ClassVar[str]
    """Name of the table in the file, and, in capitals, prefix of the variables."""
    reloaded: ClassVar[frozenset[str]] = frozenset()
    """Names of those that a process reads again at SIGHUP."""

    def problems(self) -> Iterator[str]:
        """Say what is wrong between settings that are each allowed, and with their files."""
        yield from ()


class Process(Settings, frozen=True, kw_only=True):
    """What every process needs."""

    log_format: Annotated[Literal["json", "text"], Meta(description="How log lines look.")] = (
        "json"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level logged.")
    ] = "info"


class Connected(Process, frozen=True, kw_only=True):
    """What processes need that speak to RabbitMQ."""

    amqp_url: Annotated[
        str,
        Meta(
            pattern=r"^amqps?://\S+\Z",
            title="a URL such as `amqp://user:password@host:5672/vhost`",
            description="RabbitMQ; `amqps` for TLS.",
            extra={"secret": True, "check": names_a_host},
        ),
    ] = "amqp://guest:guest@127.0.0.1/"
    amqp_ca: Annotated[
        str,
        Meta(
            title=FILE,
            description="Certificate authorities that RabbitMQ's certificate has to come from,"
            " with `amqps`. Nothing: those of the system.",
        ),
    ] = ""
    amqp_certificate: Annotated[
        str,
        Meta(title=FILE, description="Certificate that RabbitMQ is shown, if it asks for one."),
    ] = ""
    amqp_key: Annotated[str, Meta(title=FILE, description="Its key.")] = ""
    connect_timeout: Annotated[
        Seconds, Meta(gt=0, le=300, description="Seconds that connecting to RabbitMQ may take.")
    ] = 10.0

    @property
    def broker_url(self) -> str:
        """The URL, with the files of TLS in its query, where the client library reads them."""
        names = {
            "cafile": self.amqp_ca,
            "certfile": self.amqp_certificate,
            "keyfile": self.amqp_key,
        }
        given = {name: file for name, file in names.items() if file}
        return str(URL(self.amqp_url).update_query(given)) if given else self.amqp_url

    def problems(self) -> Iterator[str]:
        """Say what is wrong with the files of TLS."""
        prefix = f"{self.table.upper()}_AMQP"
        files = self.amqp_ca, self.amqp_certificate, self.amqp_key
        if any(files) and not self.amqp_url.startswith("amqps:"):
            yield f"{prefix}_URL must begin with amqps:, or what {prefix}_CA says has no effect"
        yield from pair(prefix, *files[1:])
        if why := any(files) and trouble(lambda: client_context(*files)):
            yield f"{prefix}_CA, {prefix}_CERTIFICATE or {prefix}_KEY cannot be used: {why}"


def pair(prefix: str, certificate: str, key: str) -> Iterator[str]:
    """Say that a certificate and its key are set both or not at all."""
    if bool(certificate) is not bool(key):
        yield f"{prefix}_CERTIFICATE and {prefix}_KEY need each other; set both or none"
