"""The commands `openim-bridge secrets show`, `rotate` and `drop`."""

import math
import os
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import yarl

from bridge import secrets_file
from bridge.callers import USER
from bridge.cli.grammar import DRY_RUN, JSON, URL, Number, confirm, progress, yes
from bridge.commands import FAILED, UNREACHABLE, fail, own_settings, show, url_of
from bridge.secrets_file import CannotChange, with_another, without

ANSWERING = 5.0
"""Seconds that the receiver may take to tell its metrics."""

_USES = re.compile(r'openim_bridge_secret_uses_total\{[^}]*secret="([^"]+)"\} (\S+)')

VARIABLE = "BRIDGE_SECRETS_FILE"


def _file(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option(
        "--file",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"Where they lie; default: the file that {VARIABLE} names.",
    )(command)


@click.group("secrets")
def group() -> None:
    """Show and change the secrets that OpenIM has to know, while callbacks go on."""


@group.command("show")
@_file
@URL
@JSON
def show_(file: Path | None, url: str | None, *, as_json: bool) -> None:
    """Show the names of the secrets, and how often each was used; never a secret.

    Example: openim-bridge secrets show
    """
    known = _read(_place(file))
    uses = _uses(url)
    for name in known:
        about = {"name": name, "answered": uses is not None, "uses": (uses or {}).get(name)}
        show(about, f"{name}  {_said(uses, name)}", as_json=as_json)


def _said(uses: Mapping[str, float] | None, name: str) -> str:
    if uses is None:
        return "the receiver does not answer"
    if name not in uses:
        return "the receiver does not know it yet: send it SIGHUP"
    return f"used {uses[name]:,.0f} times since the receiver started"


@group.command()
@_file
@click.option("--name", default="", help="Of the new secret; default: the day.")
@URL
@JSON
def rotate(file: Path | None, name: str, url: str | None, *, as_json: bool) -> None:
    """Write a new secret beside the one that is active, and say what to do next.

    Both are active until the old one is dropped.

    Example: openim-bridge secrets rotate --file /etc/openim-bridge/secrets
    """
    place, receiver = _place(file), _receiver(url)
    with _explained():
        if name and not re.fullmatch("[A-Za-z0-9_-]{1,32}", name):
            raise CannotChange("a name has up to 32 letters, digits, - and _")
        both = secrets_file.change(place, lambda known: with_another(known, name))
    *known, new = both
    called = str(receiver.with_user(USER).with_password(both[new]))
    openim = "put this into OpenIM's config/webhooks.yml, and start OpenIM again:"
    openim += f"\n   url: {called}"
    if known:
        (old,) = known
        steps = ["send the receiver SIGHUP: it takes both from then on", openim]
        steps.append(f"openim-bridge secrets drop {old}")
    else:
        steps = [openim, f"set {VARIABLE}={place} and start the receiver again"]
    lines = [f"{number}. {step}" for number, step in enumerate(steps, 1)]
    text = "\n".join([f"{new} was written to {place}\n", *lines])
    about = {"name": new, "file": str(place), "url": called, "others": known}
    show(about, text, as_json=as_json)


@group.command()
@click.argument("name")
@_file
@URL
@click.option(
    "--watch",
    default=60.0,
    show_default=True,
    type=Number(0, 7 * 86400),
    help="Seconds in which nobody may use it.",
)
@click.option("--unseen", is_flag=True, help="Drop it without looking at who uses it.")
@DRY_RUN
@yes("always")
@JSON
def drop(  # noqa: PLR0913  # the options of a command
    *,
    name: str,
    file: Path | None,
    url: str | None,
    watch: float,
    unseen: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Drop the secret NAME, once the receiver has seen that nobody uses it any more.

    Exits with 1 if it is still used; nothing has changed then.

    Example: openim-bridge secrets drop 2026-01-31 --watch 600
    """
    place = _place(file)
    with _explained():
        left = without(_read(place), name)
    if not unseen:
        _check_unused(name, list(left), url, watch)
    about = {"name": name, "file": str(place), "dropped": not dry_run}
    if dry_run:
        show(about, f"{name} may be dropped from {place}", as_json=as_json)
        return
    confirm(f"Drop {name}? Who uses it then is refused.", yes=yes)
    with _explained():
        secrets_file.change(place, lambda known: without(known, name))
    text = f"{name} was dropped from {place}; send the receiver SIGHUP, and it is refused"
    show(about, text, as_json=as_json)


def _check_unused(name: str, others: list[str], url: str | None, watch: float) -> None:
    before = _uses_of(name, others, url)
    begun = time.monotonic()
    with progress(f"watching {name}", math.ceil(watch)) as tell:
        while (passed := time.monotonic() - begun) < watch:
            tell(int(passed))
            time.sleep(min(watch - passed, 0.2))
    after = _uses_of(name, others, url)
    if after < before:
        fail("the receiver was started again meanwhile, so nobody can say who uses it", FAILED)
    if after > before:
        fail(f"{name} is still used: OpenIM has it in its webhooks.yml", FAILED)


def _uses_of(name: str, others: list[str], url: str | None) -> float:
    """Ask how often a secret was used by a receiver that takes the others as well."""
    uses = _uses(url)
    if uses is None:
        fail(
            "the receiver does not answer, so nobody can say who uses it; or use --unseen",
            UNREACHABLE,
        )
    unknown = [each for each in (name, *others) if each not in uses]
    if unknown:
        fail(
            f"the receiver does not know {' and '.join(unknown)}: send it SIGHUP, or name"
            " another receiver with --url; or use --unseen",
            FAILED,
        )
    return uses[name]


def _place(file: Path | None) -> Path:
    if file is not None:
        return file
    if VARIABLE not in os.environ:
        raise click.UsageError(f"name the file with --file, or with {VARIABLE}")
    return Path(os.environ[VARIABLE])


def _read(place: Path) -> Mapping[str, str]:
    with _explained():
        return secrets_file.read(place)


def _uses(url: str | None) -> Mapping[str, float] | None:
    """Ask the receiver how often each secret was used; None if it does not answer."""
    where = _receiver(url).with_user(None).with_path("/metrics")
    try:
        with urllib.request.urlopen(str(where), timeout=ANSWERING) as answer:  # noqa: S310
            text = answer.read().decode()
    except (OSError, ValueError):
        return None
    uses: dict[str, float] = {}
    for name, count in _USES.findall(text):
        uses[name] = uses.get(name, 0.0) + float(count)
    return uses


def _receiver(url: str | None) -> yarl.URL:
    """Give where a receiver is; without a path in `url`, with the one of its settings."""
    settings = own_settings()
    try:
        where = yarl.URL(url_of(settings, "") if url is None else url)
    except ValueError:
        where = yarl.URL()
    if where.scheme not in {"http", "https"} or not where.host:
        raise click.BadParameter("must be like http://127.0.0.1:10006", param_hint="--url")
    return where if where.path.strip("/") else where.with_path(settings.path)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except (CannotChange, OSError) as error:
        fail(str(error))
