"""The command `openim-consumers`."""

import os
import sys
from pathlib import Path

import click
import msgspec
from sqlalchemy.engine import make_url

from bridge import logs
from bridge.cli import BAD_SETTINGS, UNREACHABLE, echo, fail, run, settings_or_exit
from bridge.logs import printable
from bridge.waiting import stop_signal
from consumers import database, registry
from consumers.dead_letters_cli import dead_letters
from consumers.friends import verifications
from consumers.friends.verifications import Verification, Wanted
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
    given = {} if handlers is None else {"CONSUMERS_HANDLERS": handlers}
    settings = settings_or_exit(Settings, {**os.environ, **given})
    logs.set_up(settings.log_format, settings.log_level)
    # An App's own modules lie where the command is called.
    sys.path.insert(0, "")
    try:
        subscriptions = registry.load(settings.handlers.split(","))
    except registry.BadHandlers as error:
        fail(str(error), BAD_SETTINGS)
    run(_work(settings, subscriptions))


async def _work(settings: Settings, subscriptions: list[registry.Handlers]) -> None:
    stop = stop_signal()
    async with database.opened(settings.database_url, settings.database_connections) as opened:
        await opened.wait_until_ready(stop)
        await Worker(settings, subscriptions, opened).run(stop)


@main.command()
@click.option("--user", help="Only what this user sent or got.")
@click.option(
    "-n",
    "--count",
    default=20,
    show_default=True,
    type=click.IntRange(1, 1000),
    help="Show so many at most.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def friends(user: str | None, count: int, *, as_json: bool) -> None:
    """List friend verification messages, newest first."""
    settings = settings_or_exit(Settings, os.environ)
    _check_there(settings.database_url)
    try:
        messages = run(_newest(settings.database_url, user, count))
    except database.FAILURES as error:
        reason = printable(database.reason(error))
        fail(f"the database cannot be read: {reason}{_HINT}", UNREACHABLE)
    if not messages and not as_json:
        echo("no friend verification messages yet")
    for message in messages:
        echo(_json(message) if as_json else _line(message))


main.add_command(dead_letters)

_HINT = " (a worker creates its tables when it starts)"


def _check_there(url: str) -> None:
    """End the process if the file of an SQLite database is missing: reading would create it."""
    parsed = make_url(url)
    file = Path(parsed.database or "")
    if parsed.drivername == "sqlite" and not file.exists():
        fail(f"there is no database {file}{_HINT}", UNREACHABLE)


async def _newest(url: str, user: str | None, count: int) -> list[Verification]:
    async with database.opened(url) as opened, opened.transaction() as transaction:
        return await verifications.newest(transaction, Wanted(user=user), most=count)


def _line(message: Verification) -> str:
    verb = "asks" if message.kind == "application" else "is accepted by"
    return printable(
        f"{message.received:%Y-%m-%d %H:%M:%S}Z  {message.from_user_id} {verb}"
        f" {message.to_user_id}: {message.message}"
    )


def _json(message: Verification) -> str:
    return msgspec.json.encode(message).decode()
