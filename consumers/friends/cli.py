"""The commands `openim-consumers friends` and `api`."""

import os
import secrets
from pathlib import Path

import click
import msgspec
from sqlalchemy.engine import make_url

from bridge import logs, safeguards
from bridge.cli.grammar import JSON, count
from bridge.commands import BAD_SETTINGS, UNREACHABLE, echo, fail, run, settings_or_exit
from bridge.logs import printable
from consumers import database
from consumers.friends import server, verifications
from consumers.friends.verifications import Verification, Wanted
from consumers.settings import FriendsApi, Worker

_HINT = " (a worker creates its tables when it starts)"


@click.command()
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where FRIENDS_API_TOKEN is not set: take the token from this file, which is made,"
    " with a random one, if it is missing.",
)
def api(token_file: Path | None) -> None:
    """Serve friends over HTTP until SIGTERM or Ctrl-C, to the App's backend.

    Settings come from FRIENDS_API_… variables and from the file that FRIENDS_API_CONFIG names;
    GET /openapi.json describes what can be asked for.

    Example: openim-consumers api --token-file friends.token
    """
    settings = settings_or_exit(FriendsApi, os.environ)
    if not settings.token and token_file is not None:
        _make(token_file)
        found = {"FRIENDS_API_TOKEN_FILE": str(token_file)}
        settings = settings_or_exit(FriendsApi, {**os.environ, **found})
    if not settings.token:
        fail(
            "FRIENDS_API_TOKEN is not set: give a random text of 16 characters or more, or name"
            " a file for it with --token-file",
            BAD_SETTINGS,
        )
    logs.set_up(settings.log_format, settings.log_level)
    safeguards.check()
    run(server.serve(settings))


def _make(token_file: Path) -> None:
    """Write a random token into a file that only its owner may read, unless it is there."""
    try:
        descriptor = os.open(token_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(32) + "\n")


@click.command()
@click.option("--user", default="", help="Only what this user sent or got.")
@count(1000, 20)
@JSON
def friends(user: str, count: int, *, as_json: bool) -> None:
    """List friend verification messages, newest first.

    Example: openim-consumers friends --user user_a
    """
    settings = settings_or_exit(Worker, os.environ)
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


def _check_there(url: str) -> None:
    """End the process if the file of an SQLite database is missing: reading would create it."""
    parsed = make_url(url)
    file = Path(parsed.database or "")
    if parsed.drivername == "sqlite" and not file.exists():
        fail(f"there is no database {file}{_HINT}", UNREACHABLE)


async def _newest(url: str, user: str, count: int) -> list[Verification]:
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
