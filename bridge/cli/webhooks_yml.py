"""The commands `openim-bridge webhooks-yml check` and `write`."""

import sys
from dataclasses import asdict
from pathlib import Path

import click
import orjson
from ruamel.yaml.comments import CommentedMap

from bridge import webhooks_yml
from bridge.cli.replay import routing_patterns
from bridge.commands import FAILED, echo, fail, own_settings, own_url, problems_explained
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
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def check(file: Path, *, as_json: bool) -> None:
    """Say what in FILE loses callbacks or answers, and what has no effect.

    Exits with 1 if callbacks or answers are lost.
    """
    read = _read(file)
    found = webhooks_yml.check(read, wanted_by(own_settings()))
    for finding in found:
        echo(orjson.dumps(asdict(finding)).decode() if as_json else _line(file, finding))
    enabled = webhooks_yml.enabled(read)
    if not as_json:
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
    help="Callbacks, or patterns such as friend.*, with commas between them.",
)
@click.option("--disable", callback=routing_patterns, multiple=True, help="The same.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def write(
    *,
    file: Path,
    url: str | None,
    enable: tuple[str, ...],
    disable: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Have FILE send callbacks to the receiver.

    What else the file says stays, comments too; a file that is not there is made.
    """
    wanted = wanted_by(own_settings())
    read = _read(file) if file.exists() else CommentedMap()
    before = webhooks_yml.enabled(read)
    after = {
        event
        for event in EVENTS_BY_KEY.values()
        if _meant(event, enable) or (event in before and not _meant(event, disable))
    }
    if url is not None or webhooks_yml.url_problems(read.get("url"), wanted):
        url = own_url() if url is None else url
        if problems := webhooks_yml.url_problems(url, wanted):
            raise click.BadParameter(problems[0].text, param_hint="--url")
        echo("url: set")
        read["url"] = url
    for key, event in EVENTS_BY_KEY.items():
        if (event in before) is not (event in after):
            echo(f"{key}: {'enabled' if event in after else 'disabled'}")
    webhooks_yml.enable(read, after)
    if not dry_run:
        with problems_explained():
            file.write_text(webhooks_yml.written(read), encoding="utf-8")
        echo(AFTERWARDS)


def wanted_by(settings: Settings) -> webhooks_yml.Wanted:
    """Give what OpenIM's file ought to say for a receiver with these settings."""
    return webhooks_yml.Wanted(
        path=settings.path,
        patience=settings.reply_timeout,
        secrets=tuple(named_secrets(settings.secrets).values()),
    )


def _read(file: Path) -> CommentedMap:
    try:
        with problems_explained():
            return webhooks_yml.read(file.read_text(encoding="utf-8"))
    except (Unreadable, UnicodeDecodeError) as error:
        fail(f"{file}: {error}")


def _meant(event: type[Event], patterns: tuple[str, ...]) -> bool:
    # The fourth word of a key is the partition, which no pattern is about.
    return any(matches(pattern, f"{event.routing_key}.p00") for pattern in patterns)


COMMANDS: tuple[click.Command, ...] = (group,)
