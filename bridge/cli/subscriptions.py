"""The commands `openim-bridge unsubscribe` and `subscriptions`."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import click

from bridge import logs, subscriptions
from bridge.broker import Broker, connect
from bridge.cli.grammar import (
    DRY_RUN,
    JSON,
    confirm,
    yes,
)
from bridge.commands import echo, fail, own_settings, run, show
from bridge.management import Management, management
from bridge.settings import Receiver as Settings
from bridge.subscriptions import Listed


def known_name(_context: click.Context, _argument: click.Parameter, text: str) -> str:
    """Read the name of a subscription."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,49}", text):
        raise click.BadParameter(
            f"{text!r} is no name: small letters, digits, - and _, at most 50"
        )
    return text


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[tuple[Broker, Management]]:
    """Give RabbitMQ, and its management API."""
    timeout = settings.connect_timeout
    url = settings.broker_url
    async with (
        connect(url, name="openim-bridge subscriptions", timeout=timeout) as broker,
        management(settings.management_url, url, timeout) as api,
    ):
        yield broker, api


@click.command()
@click.argument("name", callback=known_name)
@DRY_RUN
@yes("where messages wait")
@JSON
def unsubscribe(name: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove a subscription: its user, its queues, and what waits in them.

    Example: openim-bridge unsubscribe shop --dry-run
    """
    settings = own_settings()
    logs.set_up("text", "warning")

    async def look() -> dict[str, int]:
        async with connected(settings) as (broker, _):
            return await subscriptions.waiting(broker, name)

    async def remove() -> str:
        async with connected(settings) as (broker, api):
            return await subscriptions.unsubscribe(broker, api, name, found)

    found = run(look())
    waiting = f"{sum(found.values()):,} messages wait"
    about = {"subscription": name, "queues": found, "removed": bool(found) and not dry_run}
    if dry_run:
        show(about, f"{', '.join(found) or 'no queue'}: {waiting}", as_json=as_json)
        return
    if sum(found.values()):
        confirm(f"{waiting}; delete them?", yes=yes)
    problem = run(remove())
    if problem:
        click.echo(f"warning: {problem}", err=True)
    if not found:
        fail(f"there is no queue of a subscription {name}")
    show(about, f"removed {name}", as_json=as_json)


@click.command("subscriptions")
@JSON
def subscriptions_(*, as_json: bool) -> None:
    """List the subscriptions of other teams.

    Example: openim-bridge subscriptions
    """
    settings = own_settings()
    logs.set_up("text", "warning")

    async def ask() -> list[Listed]:
        async with management(
            settings.management_url, settings.broker_url, settings.connect_timeout
        ) as api:
            return await subscriptions.listed(api)

    found = run(ask())
    if not as_json:
        echo(_row("NAME", "MESSAGES", "CONSUMERS", "OLDEST", "ORDERED", "PATTERNS"))
    for each in found:
        oldest = "-" if each.oldest is None else f"{each.oldest:,.0f} s"
        ordered = "yes" if each.ordered else "no"
        counts = f"{each.messages:,}", f"{each.consumers:,}"
        line = _row(each.name, *counts, oldest, ordered, ", ".join(each.patterns))
        show(asdict(each), line, as_json=as_json)


def _row(*cells: str) -> str:
    name, messages, consumers, oldest, ordered, patterns = cells
    return f"{name:20} {messages:>12} {consumers:>9} {oldest:>10}  {ordered:7}  {patterns}"
