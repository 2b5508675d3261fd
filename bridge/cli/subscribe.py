"""The command `openim-bridge subscribe`."""

from contextlib import suppress
from pathlib import Path
from string import Template
from typing import TextIO

import click

from bridge import downstream, logs, replay, subscriptions
from bridge.cli.grammar import (
    DRY_RUN,
    JSON,
    PASSWORD_FILE,
    callback_names,
    confirm,
    routing_patterns,
    secret_of,
    since,
    yes,
)
from bridge.cli.replay import RATE, looked_for, replayed
from bridge.cli.subscriptions import connected, known_name
from bridge.commands import fail, own_settings, run, show
from bridge.management import NoManagement
from bridge.settings import Receiver as Settings
from bridge.subscriptions import Different, Subscribed, Wanted

SNIPPETS = Path(__file__).parent / "snippets"

LANGUAGES = {
    "python": "consumer.py",
    "node": "consumer.js",
    "go": "consumer.go",
    "java": "OpenIMConsumer.java",
}
"""The languages that consumers are printed in, and the file that each is for."""

PREFETCH = 20
"""Deliveries that a consumer has at a time; one of each queue, if their order counts."""

MOST_MESSAGES, MOST_BYTES = 1_000_000, 2**30
"""What waits at most for a team that is away, if nobody says otherwise."""


@click.command()
@click.argument("name", callback=known_name)
@click.option(
    "--commands",
    "patterns",
    required=True,
    multiple=True,
    callback=routing_patterns,
    shell_complete=callback_names,
    help="Callbacks, or patterns such as friend.*, with commas between them.",
)
@click.option("--ordered", is_flag=True, help="Keep the order of what is about the same.")
@click.option(
    "--max-length",
    "length",
    default=MOST_MESSAGES,
    show_default=True,
    type=click.IntRange(1),
    help="Messages that may wait; above, the oldest are dropped.",
)
@click.option(
    "--max-bytes",
    "size",
    default=MOST_BYTES,
    show_default=True,
    type=click.IntRange(1),
    help="Bytes of them.",
)
@since("Replay the past too, received")
@PASSWORD_FILE
@click.option("--new-password", is_flag=True, help="Give the user another password.")
@click.option(
    "--language", type=click.Choice(list(LANGUAGES)), help="Print this one consumer only."
)
@DRY_RUN
@yes(f"where patterns go away, and before {replay.CAREFUL:,} callbacks are replayed")
@JSON
def subscribe(  # noqa: PLR0913  # the options of a command
    *,
    name: str,
    patterns: tuple[str, ...],
    ordered: bool,
    length: int,
    size: int,
    since: float | None,
    password_file: TextIO | None,
    new_password: bool,
    language: str | None,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Give another team callbacks in queues of its own, a user, and consumers to copy.

    Called again it changes what differs: other patterns take the place of the old ones.

    Example: openim-bridge subscribe shop --commands 'friend.*,AfterUserOnline' --since 7d
    """
    settings = own_settings()
    logs.set_up("text", "warning")
    wanted = Wanted(
        name=name,
        patterns=patterns,
        partitions=settings.partitions if ordered else 0,
        length=length,
        size=size,
        password=secret_of(password_file) if password_file else "",
        new_password=new_password,
    )
    going = run(_going(settings, wanted))
    if not dry_run:
        if going:
            confirm(f"{name} has {', '.join(going)} no more then. Go on?", yes=yes)
        try:
            result = run(_subscribe(settings, wanted))
        except Different as error:
            fail(str(error))
        languages = [language] if language else list(LANGUAGES)
        _show(settings, wanted, result, languages, as_json=as_json)
    else:
        _show_plan(wanted, going, as_json=as_json)
    if since is not None:
        past = replay.Wanted(since=since, patterns=patterns)
        found = looked_for(settings, past, as_json=as_json)
        if not dry_run:
            replayed(settings, found, wanted.queues, RATE, yes=yes, as_json=as_json)


async def _going(settings: Settings, wanted: Wanted) -> list[str]:
    """Give the patterns that the subscription has, and shall not have any more."""
    async with connected(settings) as (_, api):
        with suppress(NoManagement):  # nothing is taken away then
            found = await subscriptions.others(api, wanted)
            return sorted({downstream.pattern_of(each.routing_key) for each in found})
    return []


async def _subscribe(settings: Settings, wanted: Wanted) -> Subscribed:
    async with connected(settings) as (broker, api):
        return await subscriptions.subscribe(broker, api, wanted)


def _show(
    settings: Settings, wanted: Wanted, done: Subscribed, languages: list[str], *, as_json: bool
) -> None:
    url = ""
    lines = _about(wanted)
    if done.user:
        url = subscriptions.user_url(settings.amqp_url, done.user, done.password or "PASSWORD")
        lines.append(f"user          {done.user}, who may read there and do nothing else")
        lines.append(f"AMQP_URL      {url}")
        lines.append(f"password      {_about_password(wanted, done)}")
    for problem in done.problems:
        click.echo(f"warning: {problem}", err=True)
    consumers = {LANGUAGES[each]: snippet(each, wanted) for each in languages}
    lines += [f"\n----- {file}\n{text}" for file, text in consumers.items()]
    about = {
        **_plan(wanted),
        "user": done.user,
        "amqp_url": url,
        "password": done.password,
        "consumers": consumers,
    }
    show(about, "\n".join(lines), as_json=as_json)


def _show_plan(wanted: Wanted, going: list[str], *, as_json: bool) -> None:
    lines = _about(wanted)
    if going:
        lines.append(f"takes away    {', '.join(going)}")
    show({**_plan(wanted), "takes_away": going}, "\n".join(lines), as_json=as_json)


def _plan(wanted: Wanted) -> dict[str, object]:
    return {
        "subscription": wanted.name,
        "patterns": wanted.patterns,
        "queues": wanted.queues,
        "max_length": wanted.length,
        "max_bytes": wanted.size,
    }


def _about(wanted: Wanted) -> list[str]:
    queues = wanted.queues
    return [
        f"subscription  {wanted.name}, {', '.join(wanted.patterns)}",
        f"queue         {queues[0]}{f' to {queues[-1]}' if len(queues) > 1 else ''}",
        f"keeps         {wanted.length:,} messages, {wanted.size:,} bytes; drops the oldest",
    ]


def _about_password(wanted: Wanted, done: Subscribed) -> str:
    if wanted.password:
        return "as in the file"
    return "shown this once" if done.password else "as before; --new-password gives another"


def snippet(language: str, wanted: Wanted) -> str:
    """Give a consumer to copy, which reads AMQP_URL from its environment."""
    text = (SNIPPETS / f"{LANGUAGES[language]}.template").read_text(encoding="utf-8")
    names = ", ".join(f'"{queue}"' for queue in wanted.queues)
    prefetch = 1 if wanted.partitions else PREFETCH
    return Template(text).substitute(queues=names, prefetch=prefetch).rstrip()
