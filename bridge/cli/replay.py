"""The command `openim-bridge replay`, and what others need of it."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import click

from bridge import logs, replay, tail
from bridge.archive import NoArchive
from bridge.commands import echo, fail, own_settings, problems_explained, run
from bridge.downstream import UnknownPattern, patterns
from bridge.replay import CAREFUL, Found, To, Wanted
from bridge.settings import Receiver as Settings

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

RATE = 200.0
"""Messages a second, if nobody says otherwise: consumers that keep up with the present have
the past to do besides."""


def moment(_context: click.Context, _option: click.Parameter, text: str | None) -> float | None:
    """Read a moment, `7d` ago or a date and time in ISO 8601, in seconds since 1970."""
    if text is None:
        return None
    age = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    try:
        if age:
            ago = timedelta(**{_UNITS[age[2]]: float(age[1])})
            return (datetime.now(UTC) - ago).timestamp()
        named = datetime.fromisoformat(text)
        return (named if named.tzinfo else named.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise click.BadParameter(
            f"{text} is neither an age such as 7d or 12h nor a date such as 2026-01-31"
        ) from error


def routing_patterns(
    _context: click.Context, _option: click.Parameter, texts: tuple[str, ...]
) -> tuple[str, ...]:
    """Read callback commands and routing patterns, with commas between them."""
    try:
        return patterns(texts)
    except UnknownPattern as error:
        raise click.BadParameter(str(error)) from error


@click.command("replay")
@click.option("--to", "queue", required=True, help="The one queue that gets the copies.")
@click.option(
    "--since", callback=moment, help="Received then or later, such as 7d or 2026-01-31."
)
@click.option("--until", callback=moment, help="Received before.")
@click.option(
    "--command",
    "keys",
    callback=routing_patterns,
    multiple=True,
    help="A callback, or a pattern of keys.",
)
@click.option("--user", default="", help="A user id that the callback names.")
@click.option("--id", "ids", multiple=True, help="A message id; may be given again.")
@click.option(
    "--rate",
    default=RATE,
    show_default=True,
    type=click.FloatRange(0, 100_000, min_open=True),
    help="Messages a second, at most.",
)
@click.option("--dry-run", is_flag=True, help="Only count them and show five.")
@click.option("--yes", is_flag=True, help="Do not ask, however many they are.")
def replay_(  # noqa: PLR0913  # the options of a command
    *,
    queue: str,
    since: float | None,
    until: float | None,
    keys: tuple[str, ...],
    user: str,
    ids: tuple[str, ...],
    rate: float,
    dry_run: bool,
    yes: bool,
) -> None:
    """Bring callbacks of the past to one queue again, from the archive.

    Copies keep message id, properties and body, and have the header x-replayed. Nobody else
    gets any. It ends where the archive ended when it began.
    """
    settings = own_settings()
    logs.set_up("text", "warning")
    wanted = Wanted(
        since=since,
        until=until,
        patterns=keys,
        user=user,
        ids=frozenset(ids),
    )
    found = looked_for(settings, wanted, queue)
    if dry_run:
        for delivery in found.examples:
            echo(tail.as_text(delivery, with_body=False))
        return
    replayed(settings, found, lambda _: queue, rate, yes=yes)


def looked_for(settings: Settings, wanted: Wanted, queue: str = "") -> Found:
    """Look for callbacks in the archive, and say how many there are."""
    with problems_explained():
        try:
            found = run(replay.find(settings, wanted, queue))
        except (replay.NoQueue, NoArchive) as error:
            fail(str(error))
    echo(f"{found.count:,} callbacks in the archive")
    return found


def replayed(settings: Settings, found: Found, to: To, rate: float, *, yes: bool) -> None:
    """Replay what was found, having asked if it is much."""
    if not found.count:
        return
    if found.count > CAREFUL and not yes:
        click.confirm(f"Replay them in about {_duration(found.count / rate)}?", abort=True)
    with problems_explained():
        count = run(replay.publish(settings, found, to, rate, _progress(found.count)))
    echo(f"replayed {count:,}")


def _progress(whole: int) -> Callable[[int], None]:
    return lambda count: echo(f"replayed {count:,} of {whole:,}")


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(round(seconds), 1)))


COMMANDS: tuple[click.Command, ...] = (replay_,)
