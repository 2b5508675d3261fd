"""Reads settings from the environment and a file, and says all that is wrong at once.

A process has one class of settings. Each field is a setting: its type holds the bounds and
the sentence that `docs/reference.md` shows. `port` in the class `Receiver` is the variable
`BRIDGE_PORT` and, in the file that `BRIDGE_CONFIG` names, `port` in the table `[bridge]`;
the variable wins. A secret may also lie in a file of its own: `BRIDGE_AMQP_URL_FILE`.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeAlias,
    TypeVar,
    get_args,
    get_type_hints,
)

import msgspec
from msgspec import Meta, Struct

Seconds: TypeAlias = float

SECRET = {"secret": True}
"""Marks a setting that is never shown, and that may come from a file of its own."""


class BadSettings(Exception):
    """Settings that cannot be used, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Settings(Struct, frozen=True, kw_only=True):
    """Base of the settings of a process."""

    table: ClassVar[str]
    """Name of the table in the file, and, in capitals, prefix of the variables."""


class Process(Settings, frozen=True, kw_only=True):
    """What the receiver and the consumers both need."""

    amqp_url: Annotated[
        str,
        Meta(
            pattern="^amqps?://",
            description="RabbitMQ: `amqp://user:password@host:port/vhost`, or `amqps` for TLS.",
            extra=SECRET,
        ),
    ] = "amqp://guest:guest@127.0.0.1/"
    connect_timeout: Annotated[
        Seconds, Meta(gt=0, le=300, description="Seconds that connecting to RabbitMQ may take.")
    ] = 10.0
    log_format: Annotated[Literal["json", "text"], Meta(description="How log lines look.")] = (
        "json"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], Meta(description="Least level logged.")
    ] = "info"


class Receiver(Process, frozen=True, kw_only=True):
    """Settings of the receiver, `openim-bridge receive`."""

    table: ClassVar[str] = "bridge"

    host: Annotated[
        str, Meta(min_length=1, description="Address to listen on; `0.0.0.0` for every one.")
    ] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port to listen on; 0 lets the system choose.")
    ] = 10006
    path: Annotated[
        str,
        Meta(
            pattern=r"^(/[A-Za-z0-9._~-]+)+$",
            description="What precedes the command in a callback's path. OpenIM can send no"
            " other secret, so make it a long random one: `/callback/4f1c…`.",
            extra=SECRET,
        ),
    ] = "/callbackExample"
    journal_path: Annotated[
        str,
        Meta(
            min_length=1,
            description="Folder of the journal, on a local disk; each receiver has its own.",
        ),
    ] = "journal"
    journal_quota: Annotated[
        int,
        Meta(
            ge=32 * 2**20,
            description="Bytes that the journal may take. When they are used up, callbacks"
            " are refused until RabbitMQ has taken some.",
        ),
    ] = 4 * 2**30
    max_body: Annotated[
        int,
        Meta(ge=1024, le=15 * 2**20, description="Largest body accepted, in bytes."),
    ] = 2**20
    body_timeout: Annotated[
        Seconds,
        Meta(gt=0, le=15, description="Seconds that a body may take to arrive."),
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


SettingsT = TypeVar("SettingsT", bound=Settings)


def load(kind: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Read the settings of one process.

    Raises:
        BadSettings: with every problem that was found.

    """
    problems: list[str] = []
    given = dict(_from_file(kind, environment, problems))
    given.update(_from_environment(kind, environment, problems))
    values: dict[str, Any] = {}
    types = get_type_hints(kind, include_extras=True)
    for name, (source, value) in given.items():
        try:
            values[name] = msgspec.convert(value, types[name], strict=False)
        except msgspec.ValidationError:
            shown = "***" if is_secret(types[name]) else repr(value)
            problems.append(f"{source}={shown} is not allowed: {allowed(types[name])}")
    if problems:
        raise BadSettings(problems)
    return kind(**values)


Given: TypeAlias = Iterator[tuple[str, tuple[str, object]]]
"""Names of settings, each with where it was set and to what."""


def _from_environment(
    kind: type[Settings], environment: Mapping[str, str], problems: list[str]
) -> Given:
    prefix = kind.table.upper() + "_"
    fields = get_type_hints(kind, include_extras=True)
    for variable in sorted(environment):
        if not variable.startswith(prefix) or variable == prefix + "CONFIG":
            continue
        name = variable.removeprefix(prefix).lower()
        if name in kind.__struct_fields__:
            yield name, (variable, environment[variable])
            continue
        secret = name.removesuffix("_file")
        if secret in kind.__struct_fields__ and is_secret(fields[secret]):
            yield from _from_secret_file(secret, variable, environment, problems)
        else:
            problems.append(
                _unknown(variable, [prefix + f.upper() for f in kind.__struct_fields__])
            )


def _from_secret_file(
    name: str, variable: str, environment: Mapping[str, str], problems: list[str]
) -> Given:
    direct = variable.removesuffix("_FILE")
    if direct in environment:
        problems.append(f"{direct} and {variable} are both set; keep one of them")
        return
    try:
        yield name, (variable, Path(environment[variable]).read_text().strip())
    except (OSError, UnicodeDecodeError) as error:
        problems.append(f"{variable}={environment[variable]!r} cannot be read: {error}")


def _from_file(
    kind: type[Settings], environment: Mapping[str, str], problems: list[str]
) -> Given:
    path = environment.get(kind.table.upper() + "_CONFIG")
    if not path:
        return
    try:
        with Path(path).open("rb") as file:
            table = tomllib.load(file).get(kind.table, {})
    except (OSError, ValueError) as error:
        problems.append(f"the settings file {path} cannot be read: {error}")
        return
    for name, value in table.items():
        if name in kind.__struct_fields__:
            yield name, (f"{path}: [{kind.table}] {name}", value)
        else:
            problems.append(f"{path}: [{kind.table}] {_unknown(name, kind.__struct_fields__)}")


def _unknown(name: str, known: list[str] | tuple[str, ...]) -> str:
    nearest = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {nearest[0]}?" if nearest else f"; known are {', '.join(known)}"
    return f"{name} is not a setting{hint}"


def _meta(annotated: object) -> Meta:
    (meta,) = (part for part in get_args(annotated) if isinstance(part, Meta))
    return meta


def is_secret(annotated: object) -> bool:
    """Say whether the type of a setting marks it as a secret."""
    return _meta(annotated).extra == SECRET


def allowed(annotated: object) -> str:
    """Say in words which values the type of a setting allows."""
    kind, meta = get_args(annotated)[0], _meta(annotated)
    if choices := get_args(kind):
        return "one of " + ", ".join(map(str, choices))
    words = {int: "a whole number", float: "a number", str: "text"}[kind]
    bounds = [
        f"{word} {bound}"
        for word, bound in (("at least", meta.ge), ("above", meta.gt), ("at most", meta.le))
        if bound is not None
    ]
    if meta.pattern:
        bounds.append(f"matching `{meta.pattern}`")
    return " ".join([words, " and ".join(bounds)]).strip()
