"""Reads settings from the environment and a file, and says all that is wrong at once.

`port` in the class `Receiver` is the variable `BRIDGE_PORT` and, in the file that
`BRIDGE_CONFIG` names, `port` in the table `[bridge]`; the variable wins. A secret may also
lie in a file of its own: `BRIDGE_AMQP_URL_FILE`.
"""

import difflib
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct

from bridge.settings import TABLES, Settings

SettingsT = TypeVar("SettingsT", bound=Settings)

LONGEST_SHOWN = 100
"""Characters of a bad value that are repeated."""


class BadSettings(Exception):
    """Settings that cannot be used, one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True, kw_only=True)
class _Given:
    """A setting as somebody set it."""

    name: str
    source: str
    """Where: a variable, or a place in the file."""

    value: object
    strict: bool
    """Whether its type counts: TOML has types, a variable is always text."""


_Problems: TypeAlias = list[str]


def load(kind: type[SettingsT], environment: Mapping[str, str]) -> SettingsT:
    """Read the settings of one process.

    Raises:
        BadSettings: with every problem that was found.

    """
    return load_with_sources(kind, environment)[0]


def load_with_sources(
    kind: type[SettingsT], environment: Mapping[str, str]
) -> tuple[SettingsT, dict[str, str]]:
    """Read the settings of one process, and where each comes from that is no default.

    Raises:
        BadSettings: with every problem that was found.

    """
    problems: _Problems = []
    # Later ones win: the variables.
    given = {g.name: g for g in _from_file(kind, environment, problems)}
    given |= {g.name: g for g in _from_environment(kind, environment, problems)}
    types = types_of(kind)
    values: dict[str, Any] = {}
    for name, each in given.items():
        try:
            values[name] = checked(each.value, types[name], strict=each.strict)
        # Bytes that are not UTF-8 in a variable escape msgspec as a UnicodeError.
        except (msgspec.ValidationError, ValueError):
            shown = "***" if is_secret(types[name]) else repr(each.value)[:LONGEST_SHOWN]
            problems.append(f"{each.source}={shown} is not allowed: {allowed(types[name])}")
    if problems:
        raise BadSettings(problems)
    settings = kind(**values)
    if problems := list(settings.problems()):
        raise BadSettings(problems)
    return settings, {name: each.source for name, each in given.items()}


def checked(value: object, annotated: object, *, strict: bool) -> object:
    """Convert a value to its type.

    Args:
        value: As somebody set it.
        annotated: Its type, with `Meta`.
        strict: Whether its own type counts: TOML has types, a variable is always text.

    Raises:
        ValidationError: it is not of its type, or out of bounds.
        ValueError: it has the right form and still makes no sense.

    """
    converted = msgspec.convert(value, annotated, strict=strict)
    check = (_meta(annotated).extra or {}).get("check")
    if check is not None and not check(converted):
        raise ValueError(value)
    return converted


def _from_environment(
    kind: type[Settings], environment: Mapping[str, str], problems: _Problems
) -> Iterator[_Given]:
    prefix = kind.table.upper() + "_"
    names = {prefix + name.upper(): name for name in kind.__struct_fields__}
    secrets = {
        f"{prefix}{name.upper()}_FILE": name
        for name, annotated in types_of(kind).items()
        if is_secret(annotated)
    }
    config = prefix + "CONFIG"
    for variable in sorted(environment):
        if not variable.startswith(prefix) or variable == config:
            continue
        if variable in names:
            value = environment[variable]
            yield _Given(name=names[variable], source=variable, value=value, strict=False)
        elif variable in secrets:
            yield from _from_secret_file(secrets[variable], variable, environment, problems)
        else:
            problems.append(unknown(variable, "setting", [*names, config]))


def _from_secret_file(
    name: str, variable: str, environment: Mapping[str, str], problems: _Problems
) -> Iterator[_Given]:
    direct = variable.removesuffix("_FILE")
    if direct in environment:
        problems.append(f"{direct} and {variable} are both set; keep one of them")
        return
    path = environment[variable]
    try:
        value = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        problems.append(f"{variable}={path!r} cannot be read: {why(error)}")
    else:
        yield _Given(name=name, source=variable, value=value, strict=False)


def _from_file(
    kind: type[Settings], environment: Mapping[str, str], problems: _Problems
) -> Iterator[_Given]:
    variable = kind.table.upper() + "_CONFIG"
    if variable not in environment:
        return
    path = environment[variable]
    try:
        file = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{variable}={path!r} cannot be read: {why(error)}")
        return
    for name in file:
        if name not in TABLES:
            problems.append(f"{path}: {unknown(name, 'table', TABLES)}")
    table = file.get(kind.table, {})
    if not isinstance(table, dict):
        problems.append(f"{path}: {kind.table} must be a table, [{kind.table}]")
        return
    for name, value in table.items():
        if name in kind.__struct_fields__:
            source = f"{path}: [{kind.table}] {name}"
            yield _Given(name=name, source=source, value=value, strict=True)
        else:
            known = unknown(name, "setting", kind.__struct_fields__)
            problems.append(f"{path}: [{kind.table}] {known}")


def why(error: OSError | ValueError) -> str:
    """Say in short why a file cannot be read."""
    return getattr(error, "strerror", None) or str(error)


def unknown(name: str, what: str, known: list[str] | tuple[str, ...]) -> str:
    """Say that a name is none of those known, and which may have been meant."""
    spelled = {each.lower(): each for each in known}
    nearest = difflib.get_close_matches(name.lower(), spelled, 1)
    others = f"known are {', '.join(known)}" if known else "there is none"
    hint = f"did you mean {spelled[nearest[0]]}?" if nearest else others
    return f"{name} is not a {what}; {hint}"


def types_of(kind: type[Struct]) -> dict[str, Any]:
    """Give the fields of a class by name, each with its type and `Meta`."""
    hints = get_type_hints(kind, include_extras=True)
    return {name: hints[name] for name in kind.__struct_fields__}


def _meta(annotated: object) -> Meta:
    (meta,) = (part for part in get_args(annotated) if isinstance(part, Meta))
    return meta


def is_secret(annotated: object) -> bool:
    """Say whether a setting is never shown, and may come from a file of its own."""
    return bool((_meta(annotated).extra or {}).get("secret"))


def description(annotated: object) -> str:
    """Give the sentence about a setting."""
    return _meta(annotated).description or ""


def allowed(annotated: object) -> str:
    """Say in words which values a setting may have."""
    kind, meta = get_args(annotated)[0], _meta(annotated)
    if meta.title:
        return meta.title
    if choices := get_args(kind):
        return "one of " + ", ".join(map(str, choices))
    if kind is str:
        return "text, not empty"
    bounds = [
        f"{word} {bound:,}"
        for word, bound in (("at least", meta.ge), ("above", meta.gt), ("at most", meta.le))
        if bound is not None
    ]
    return f"a {'whole ' if kind is int else ''}number " + " and ".join(bounds)
