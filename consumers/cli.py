"""The command `openim-consumers`."""

import asyncio
import sys

import click
import orjson
from sqlalchemy import RowMapping

from bridge import logs
from bridge.cli import BAD_SETTINGS, FAILED, run, settings_or_exit
from bridge.stopping import stop_signal
from consumers import database, friend_verifications, registry
from consumers.settings import Worker as Settings
from consumers.worker import Worker


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(package_name="openim-bridge")
def main() -> None:
    """Apply business logic to OpenIM's callbacks, taken from RabbitMQ.

    Settings come from CONSUMERS_… variables and from the file that CONSUMERS_CONFIG names;
    docs/reference.md lists them.
    """


@main.command()
@click.option("--handlers", help="Modules with handlers, separated by commas.")
def work(handlers: str | None) -> None:
    """Run a worker until SIGTERM or Ctrl-C. Run as many as you like."""
    settings = settings_or_exit(Settings)
    logs.set_up(settings.log_format, settings.log_level)
    sys.path.insert(0, "")
    try:
        subscriptions = registry.load((handlers or settings.handlers).split(","))
    except registry.BadHandlers as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(BAD_SETTINGS)
    run(_work(settings, subscriptions))


async def _work(settings: Settings, subscriptions: list[registry.Handlers]) -> None:
    stop = stop_signal()
    async with database.opened(settings.database_url) as opened:
        await opened.wait_until_ready(stop)
        await Worker(settings, subscriptions, opened).run(stop)


@main.command()
@click.option("--user", help="Only what this user sent or got.")
@click.option("-n", "--count", default=20, show_default=True, type=click.IntRange(1, 1000))
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def friends(user: str | None, count: int, *, as_json: bool) -> None:
    """List friend verification messages, newest first."""
    settings = settings_or_exit(Settings)
    try:
        rows = asyncio.run(_newest(settings.database_url, user, count))
    except database.FAILURES as error:
        click.echo(f"error: the database cannot be read: {database.reason(error)}", err=True)
        sys.exit(FAILED)
    if not rows and not as_json:
        click.echo("no friend verification messages yet")
    for row in rows:
        click.echo(_json(row) if as_json else _line(row))


async def _newest(url: str, user: str | None, count: int) -> list[RowMapping]:
    async with database.opened(url) as opened:
        await opened.create_tables()
        async with opened.transaction() as transaction:
            return await friend_verifications.newest(transaction, user_id=user, most=count)


def _line(row: RowMapping) -> str:
    time = friend_verifications.moment(row["received_ms"])
    verb = "asks" if row["kind"] == friend_verifications.APPLICATION else "is accepted by"
    said = str(row["message"])
    return (
        f"{time:%Y-%m-%d %H:%M:%S}Z  {row['from_user_id']} {verb} {row['to_user_id']}:"
        f" {said if said.isprintable() else ascii(said)}"
    )


def _json(row: RowMapping) -> str:
    return orjson.dumps({str(name): value for name, value in row.items()}).decode()
