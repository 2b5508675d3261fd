"""The commands `openim-consumers subscriptions`."""

import os
from collections.abc import Awaitable, Callable, Coroutine
from datetime import UTC, datetime
from typing import Any, TypeVar

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from bridge.cli.grammar import JSON
from bridge.commands import UNREACHABLE, fail, run, settings_or_exit, show, who
from bridge.logs import printable
from consumers import database, pauses
from consumers.cli.handlers import loaded
from consumers.console import audit
from consumers.pauses import PausedBy
from consumers.settings import Worker as Settings

Result = TypeVar("Result")

Change = Callable[[AsyncConnection], Awaitable[bool]]


@click.group()
def subscriptions() -> None:
    """Pause the subscriptions of workers, and resume them.

    They are those of the handlers that CONSUMERS_HANDLERS names. It goes by the database, which
    has to be that of the workers; RabbitMQ need not be there.
    """


@subscriptions.command("list")
@JSON
def list_(*, as_json: bool) -> None:
    """Show subscriptions: whether people have paused them, who, since when and why.

    Example: openim-consumers subscriptions list
    """
    settings = _settings()
    names = _names(settings)
    paused = _answer(_read(settings))
    for name in [*names, *sorted(paused.keys() - set(names))]:
        by = paused.get(name)
        show(_facts(name, by), printable(f"{name}  {_state(by)}"), as_json=as_json)


@subscriptions.command()
@click.argument("subscription")
@click.option("--reason", required=True, help="Why: people see it, and the audit log keeps it.")
@JSON
def pause(subscription: str, reason: str, *, as_json: bool) -> None:
    """Have all workers leave a subscription alone; its callbacks wait in RabbitMQ.

    What has begun comes to its end, within seconds nothing more is begun, and nothing is lost.
    It stays so, whatever is started again, until somebody resumes it.

    Example: openim-consumers subscriptions pause shop --reason "the shop moves to a new host"
    """
    settings = _settings()
    if subscription not in (names := _names(settings)):
        fail(
            f"no handler of CONSUMERS_HANDLERS has the subscription {printable(subscription)};"
            f" there are: {', '.join(names) or 'none'}"
        )

    async def change(transaction: AsyncConnection) -> bool:
        return await pauses.pause(transaction, subscription, who=who(), reason=reason)

    if not _answer(_do(settings, change, "pause", subscription, reason)):
        fail(f"{subscription} is paused already: `subscriptions list` says by whom")
    about = {"subscription": subscription, "paused": True}
    show(about, f"{subscription} is paused: its workers stop within seconds", as_json=as_json)


@subscriptions.command()
@click.argument("subscription")
@JSON
def resume(subscription: str, *, as_json: bool) -> None:
    """Have workers go on with a subscription that was paused.

    Example: openim-consumers subscriptions resume shop
    """
    settings = _settings()

    async def change(transaction: AsyncConnection) -> bool:
        return await pauses.resume(transaction, subscription)

    if not _answer(_do(settings, change, "resume", subscription)):
        fail(f"nobody has paused {printable(subscription)}: see `subscriptions list`")
    about = {"subscription": subscription, "paused": False}
    show(about, f"{subscription} goes on: its workers begin within seconds", as_json=as_json)


def _settings() -> Settings:
    return settings_or_exit(Settings, os.environ)


def _names(settings: Settings) -> list[str]:
    return sorted(each.subscription for each in loaded(settings).handlers)


def _facts(name: str, by: PausedBy | None) -> dict[str, object]:
    facts: dict[str, object] = {"subscription": name, "paused": by is not None}
    if by is not None:
        facts |= {"who": by.who, "since": _moment(by), "reason": by.reason}
    return facts


def _state(by: PausedBy | None) -> str:
    return f"paused by {by.who} since {_moment(by)}: {by.reason}" if by else "not paused"


def _moment(by: PausedBy) -> str:
    return datetime.fromtimestamp(by.at, UTC).isoformat(timespec="seconds")


async def _read(settings: Settings) -> dict[str, PausedBy]:
    async with database.opened(settings.database_url, connections=1) as opened:
        await opened.create_tables()
        async with opened.transaction() as transaction:
            return await pauses.read(transaction)


async def _do(
    settings: Settings, change: Change, action: str, subscription: str, reason: str = ""
) -> bool:
    """Change something, and note in the same transaction who has."""
    async with database.opened(settings.database_url, connections=1) as opened:
        await opened.create_tables()
        async with opened.transaction() as transaction:
            changed = await change(transaction)
            if changed:
                await audit.add(
                    transaction,
                    who=who(),
                    address="",
                    action=action,
                    target=subscription,
                    reason=reason,
                )
            return changed


def _answer(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return run(work)
    except database.FAILURES as error:
        fail(f"the database: {printable(database.reason(error))}", UNREACHABLE)
