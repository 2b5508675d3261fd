"""The commands `openim-bridge webhooks-yml check` and `write`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click
from ruamel.yaml.comments import CommentedMap
from yarl import URL

from bridge import webhooks_yml, whole_file
from bridge.cli.grammar import DRY_RUN, JSON, callback_names, confirm, routing_patterns, yes
from bridge.commands import FAILED, echo, fail, own_settings, own_url, show
from bridge.contract import Before, Event
from bridge.downstream import matches
from bridge.lists import named_secrets
from bridge.settings import Receiver as Settings
from bridge.webhooks_yml import EVENTS_BY_KEY, Finding, Unreadable

FILE = click.argument("file", type=click.Path(dir_okay=False, path_type=Path))

AFTERWARDS = (
    "OpenIM reads the file when it starts, and a variable IMENV_WEBHOOKS_… overrides it."
)


@click.group("webhooks-yml")
def group() -> None:
    """Check or write OpenIM's config/webhooks.yml, with the receiver's settings."""


@group.command()
@FILE
@JSON
def check(file: Path, *, as_json: bool) -> None:
    """Say what in FILE loses callbacks or answers, and what has no effect.

    Exits with 1 if callbacks or answers are lost.

    Example: openim-bridge webhooks-yml check config/webhooks.yml
    """
    read = _read(file)
    found = webhooks_yml.check(read, wanted_by(own_settings()))
    for finding in found:
        show(asdict(finding), _line(file, finding), as_json=as_json)
    if not as_json and not webhooks_yml.respelt(read):
        enabled = webhooks_yml.enabled(read)
        asked = sum(issubclass(event, Before) for event in enabled)
        echo(f"enabled: {len(enabled) - asked} after, {asked} before. {AFTERWARDS}")
    sys.exit(FAILED if any(finding.is_problem for finding in found) else 0)


def _line(file: Path, finding: Finding) -> str:
    kind = "error" if finding.is_problem else "note"
    return f"{file}:{finding.line}: {kind}: {finding.key}: {finding.text}"


@group.command()
@FILE
@click.option(
    "--url",
    help="Where OpenIM finds the receiver; default: what the file says, or this machine.",
)
@click.option(
    "--enable",
    callback=routing_patterns,
    multiple=True,
    shell_complete=callback_names,
    help="Callbacks, or patterns such as friend.*, with commas between them.",
)
@click.option(
    "--disable",
    callback=routing_patterns,
    multiple=True,
    shell_complete=callback_names,
    help="The same.",
)
@DRY_RUN
@yes("where a URL is replaced or a callback disabled")
@JSON
def write(  # noqa: PLR0913  # the options of a command
    *,
    file: Path,
    url: str | None,
    enable: tuple[str, ...],
    disable: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Have FILE send callbacks to the receiver.

    What else the file says stays, comments too; a file that is not there is made.

    Example: openim-bridge webhooks-yml write config/webhooks.yml --enable 'friend.*'
    """
    wanted = wanted_by(own_settings())
    read = _read(file) if file.exists() else CommentedMap()
    _refuse_unclear(file, read, (*enable, *disable))
    before = webhooks_yml.enabled(read)
    after = {
        event
        for event in EVENTS_BY_KEY.values()
        if _meant(event, enable) or (event in before and not _meant(event, disable))
    }
    changes = {
        key: "enabled" if event in after else "disabled"
        for key, event in EVENTS_BY_KEY.items()
        if (event in before) is not (event in after)
    }
    old = read.get("url")
    if url is not None or webhooks_yml.url_problems(old, wanted):
        read["url"] = _called(url, old, wanted)
        changes = {"url": "set"} | changes
    for key, change in changes.items():
        show({"key": key, "change": change}, f"{key}: {change}", as_json=as_json)
    webhooks_yml.enable(read, after)
    if dry_run:
        return
    if before - after or (old and read["url"] != old):
        where = URL(read["url"]).authority.rpartition("@")[2]
        confirm(f"Have OpenIM call {where}, and lose what the file says otherwise?", yes=yes)
    whole_file.replace(file, webhooks_yml.written(read), 0o644)
    if not as_json:
        echo(AFTERWARDS)


def _refuse_unclear(file: Path, read: CommentedMap, said: tuple[str, ...]) -> None:
    for key, own in webhooks_yml.respelt(read).items():
        fail(f"{file}: write {own} for {key}, or OpenIM might have both")
    keys = [key for key in webhooks_yml.unclear(read) if not _meant(EVENTS_BY_KEY[key], said)]
    if keys:
        fail(
            f"{file}: enable must be true or false under {', '.join(keys)}: mend that, or say"
            " by --enable or --disable what is meant"
        )


def _called(url: str | None, old: object, wanted: webhooks_yml.Wanted) -> str:
    """Give the `url` that the file ought to say.

    Where only a secret was missing, the host stays: nobody here knows better how OpenIM
    finds the receiver.
    """
    place = own_url() if url is None else url
    if url is None and webhooks_yml.leads_to(old, wanted.path):
        place = webhooks_yml.moved(place, str(old))
    if problems := webhooks_yml.url_problems(place, wanted):
        raise click.BadParameter(problems[0].text, param_hint="--url")
    return place


def wanted_by(settings: Settings) -> webhooks_yml.Wanted:
    """Give what OpenIM's file ought to say for a receiver with these settings."""
    return webhooks_yml.Wanted(
        path=settings.path,
        patience=settings.reply_timeout,
        secrets=tuple(named_secrets(settings.secrets).values()),
    )


def _read(file: Path) -> CommentedMap:
    try:
        return webhooks_yml.read(file.read_text(encoding="utf-8"))
    except (Unreadable, UnicodeDecodeError) as error:
        fail(f"{file}: {error}")


def _meant(event: type[Event], patterns: tuple[str, ...]) -> bool:
    # The fourth word of a key is the partition, which no pattern is about.
    return any(matches(pattern, f"{event.routing_key}.p00") for pattern in patterns)
