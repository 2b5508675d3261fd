"""The command `openim-bridge replay`, and what others need of it."""

from collections.abc import Sequence
from datetime import timedelta

import click

from bridge import logs, replay, tail
from bridge.archive import NoArchive
from bridge.cli.grammar import (
    DRY_RUN,
    JSON,
    callback_names,
    confirm,
    progress,
    rate,
    routing_patterns,
    since,
    until,
    yes,
)
from bridge.commands import echo, fail, own_settings, run, show
from bridge.replay import CAREFUL, Found, Wanted
from bridge.settings import Receiver as Settings

RATE = 200.0
"""Messages a second, if nobody says otherwise: consumers that keep up with the present have
the past to do besides."""


@click.command("replay")
@click.option("--to", "queue", required=True, help="The queue that gets the copies.")
@since("Received")
@until("Received")
@click.option(
    "--command",
    "keys",
    callback=routing_patterns,
    multiple=True,
    shell_complete=callback_names,
    help="A callback, or a pattern of keys; may be given again.",
)
@click.option("--user", default="", help="A user id that the callback names.")
@click.option("--message-id", "ids", multiple=True, help="A message id; may be given again.")
@rate(RATE)
@DRY_RUN
@yes(f"above {CAREFUL:,} callbacks")
@JSON
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
    as_json: bool,
) -> None:
    """Bring callbacks of the past to one queue again, from the archive.

    Copies keep message id, properties and body, and have the header x-replayed. Nobody else
    gets any. It ends where the archive ended when it began. A dry run counts them and shows
    five.

    Of an ordered subscription name the queue without its partition, such as openim.work.shop:
    each copy goes to the partition of its key. Queues that begin with openim. and are not a
    subscription's, such as the archive, get none.

    Example: openim-bridge replay --to openim.work.shop --command 'friend.*' --since 2h
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
    found = looked_for(settings, wanted, queue, as_json=as_json)
    if dry_run:
        line = tail.as_json if as_json else tail.as_text
        for delivery in found.examples:
            echo(line(delivery, with_body=False))
    else:
        replayed(settings, found, found.queues, rate, yes=yes, as_json=as_json)


def looked_for(settings: Settings, wanted: Wanted, queue: str = "", *, as_json: bool) -> Found:
    """Look for callbacks in the archive, and say how many there are."""
    try:
        with progress("looking through the archive") as tell:
            found = run(replay.find(settings, wanted, tell, queue))
    except (replay.NoQueue, NoArchive) as error:
        fail(str(error))
    words = f"{found.count:,} callbacks in the archive"
    show({"found": found.count}, words, as_json=as_json)
    return found


def replayed(  # noqa: PLR0913  # what, where to, and how
    settings: Settings,
    found: Found,
    queues: Sequence[str],
    rate: float,
    *,
    yes: bool,
    as_json: bool,
) -> None:
    """Replay what was found, having asked if it is much."""
    if found.count > CAREFUL:
        confirm(f"Replay them in about {_duration(found.count / rate)}?", yes=yes)
    if not found.count:
        return
    with progress("replaying", found.count) as tell:
        count = run(replay.publish(settings, found, queues, rate, tell))
    show({"replayed": count}, f"replayed {count:,}", as_json=as_json)


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=max(round(seconds), 1)))
