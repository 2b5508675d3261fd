"""The commands `openim-bridge subscribe`, `unsubscribe` and `subscriptions`."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from string import Template
from typing import TextIO

import click
import orjson

from bridge import logs, replay, subscriptions
from bridge.broker import Broker, Delivery, connect
from bridge.cli.replay import RATE, looked_for, moment, replayed, routing_patterns
from bridge.commands import (
    UNREACHABLE,
    echo,
    fail,
    own_settings,
    problems_explained,
    run,
)
from bridge.management import Management, NoManagement, management
from bridge.settings import Receiver as Settings
from bridge.subscriptions import Different, Listed, Subscribed, Wanted

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


def _name(_context: click.Context, _argument: click.Parameter, text: str) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,49}", text):
        raise click.BadParameter(
            f"{text!r} is no name: small letters, digits, - and _, at most 50"
        )
    return text


@click.command()
@click.argument("name", callback=_name)
@click.option(
    "--commands",
    "patterns",
    required=True,
    multiple=True,
    callback=routing_patterns,
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
@click.option("--since", callback=moment, help="Replay the past too, such as 7d.")
@click.option("--password-file", type=click.File(), help="Where the user's password stands.")
@click.option("--new-password", is_flag=True, help="Give the user another password.")
@click.option(
    "--language", type=click.Choice(list(LANGUAGES)), help="Print this one consumer only."
)
@click.option("--yes", is_flag=True, help="Do not ask, however much is replayed.")
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
    yes: bool,
) -> None:
    """Give another team callbacks in queues of its own, a user, and consumers to copy.

    Called again it changes what differs: other patterns take the place of the old ones.
    """
    settings = own_settings()
    logs.set_up("text", "warning")
    wanted = Wanted(
        name=name,
        patterns=patterns,
        partitions=settings.partitions if ordered else 0,
        length=length,
        size=size,
        password=_read(password_file) if password_file else "",
        new_password=new_password,
    )
    with problems_explained():
        try:
            result = run(_subscribe(settings, wanted))
        except Different as error:
            fail(str(error))
    _show(settings, wanted, result, [language] if language else list(LANGUAGES))
    if since is not None:
        past = replay.Wanted(since=since, patterns=patterns)
        replayed(settings, looked_for(settings, past), _to(wanted), RATE, yes=yes)


def _read(file: TextIO) -> str:
    password = file.read().strip()
    if not password:
        raise click.BadParameter(f"{file.name} holds no password")
    return password


async def _subscribe(settings: Settings, wanted: Wanted) -> Subscribed:
    async with _connected(settings) as (broker, api):
        return await subscriptions.subscribe(broker, api, wanted)


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[tuple[Broker, Management]]:
    timeout = settings.connect_timeout
    url = settings.broker_url
    async with (
        connect(url, name="openim-bridge subscriptions", timeout=timeout) as broker,
        management(settings.management_url, url, timeout) as api,
    ):
        yield broker, api


def _to(wanted: Wanted) -> replay.To:
    """Give for each callback the queue that it would have come to."""

    def queue(delivery: Delivery) -> str:
        key = delivery.headers.get(replay.ROUTING_KEY, delivery.routing_key)
        last = key.rpartition(".p")[2]
        partition = int(last) if wanted.partitions and last.isdecimal() else 0
        return wanted.queues[partition % len(wanted.queues)]

    return queue


def _show(settings: Settings, wanted: Wanted, done: Subscribed, languages: list[str]) -> None:
    queues = wanted.queues
    echo(f"subscription  {wanted.name}, {', '.join(wanted.patterns)}")
    echo(f"queue         {queues[0]}{f' to {queues[-1]}' if len(queues) > 1 else ''}")
    echo(f"keeps         {wanted.length:,} messages, {wanted.size:,} bytes; drops the oldest")
    if done.user:
        url = subscriptions.user_url(settings.amqp_url, done.user, done.password or "PASSWORD")
        echo(f"user          {done.user}, who may read there and do nothing else")
        echo(f"AMQP_URL      {url}")
        echo(f"password      {_about_password(wanted, done)}")
    for problem in done.problems:
        click.echo(f"warning: {problem}", err=True)
    for language in languages:
        echo(f"\n----- {LANGUAGES[language]}\n{snippet(language, wanted)}")


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


@click.command()
@click.argument("name", callback=_name)
@click.option("--yes", is_flag=True, help="Do not ask, even if messages wait.")
def unsubscribe(name: str, *, yes: bool) -> None:
    """Remove a subscription: its user, its queues, and what waits in them."""
    settings = own_settings()
    logs.set_up("text", "warning")

    async def look() -> dict[str, int]:
        async with _connected(settings) as (broker, _):
            return await subscriptions.waiting(broker, name)

    async def remove() -> str:
        async with _connected(settings) as (broker, api):
            return await subscriptions.unsubscribe(broker, api, name, found)

    with problems_explained():
        found = run(look())
    if sum(found.values()) and not yes:
        click.confirm(f"{sum(found.values()):,} messages wait; delete them?", abort=True)
    with problems_explained():
        problem = run(remove())
    if problem:
        click.echo(f"warning: {problem}", err=True)
    if not found:
        fail(f"there is no queue of a subscription {name}")
    echo(f"removed {name}")


@click.command("subscriptions")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def subscriptions_(*, as_json: bool) -> None:
    """List the subscriptions of other teams."""
    settings = own_settings()
    logs.set_up("text", "warning")

    async def ask() -> list[Listed]:
        async with management(
            settings.management_url, settings.broker_url, settings.connect_timeout
        ) as api:
            return await subscriptions.listed(api)

    try:
        found = run(ask())
    except NoManagement as error:
        fail(str(error), UNREACHABLE)
    if as_json:
        for each in found:
            echo(orjson.dumps(asdict(each)).decode())
        return
    echo(_row("NAME", "MESSAGES", "CONSUMERS", "OLDEST", "ORDERED", "PATTERNS"))
    for each in found:
        oldest = "-" if each.oldest is None else f"{each.oldest:,.0f} s"
        ordered = "yes" if each.ordered else "no"
        counts = f"{each.messages:,}", f"{each.consumers:,}"
        echo(_row(each.name, *counts, oldest, ordered, ", ".join(each.patterns)))


def _row(*cells: str) -> str:
    name, messages, consumers, oldest, ordered, patterns = cells
    return f"{name:20} {messages:>12} {consumers:>9} {oldest:>10}  {ordered:7}  {patterns}"


COMMANDS: tuple[click.Command, ...] = (subscribe, unsubscribe, subscriptions_)
