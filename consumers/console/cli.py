"""The commands `openim-bridge console` and `console-user`."""

import importlib
import os
import secrets
from pathlib import Path
from typing import TextIO

import click

from bridge import logs, safeguards
from bridge.cli.grammar import PASSWORD_FILE, secret_of
from bridge.commands import BAD_SETTINGS, echo, fail, run, settings_or_exit
from consumers.settings import Console

LEAST = 12
"""Characters of a password."""


@click.command()
@click.option(
    "--password-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where CONSOLE_PASSWORD is not set: take the password of admin from this file, which"
    " is made, with a random one, if it is missing.",
)
def console(password_file: Path | None) -> None:
    """Serve the web console until SIGTERM or Ctrl-C.

    Settings come from CONSOLE_… variables and from the file that CONSOLE_CONFIG names.

    Example: openim-bridge console --password-file console.password
    """
    settings = settings_or_exit(Console, os.environ)
    if not settings.password and password_file is not None:
        _make(password_file)
        found = {"CONSOLE_PASSWORD_FILE": str(password_file)}
        settings = settings_or_exit(Console, {**os.environ, **found})
    if not settings.password and not settings.users:
        fail(
            "nobody could log in: set CONSOLE_PASSWORD or CONSOLE_USERS, or name a file for a"
            " password with --password-file",
            BAD_SETTINGS,
        )
    logs.set_up(settings.log_format, settings.log_level)
    # The receiver's program has this command as well, and shall not load SQL and templates.
    server = importlib.import_module("consumers.console.server")
    safeguards.check()
    run(server.serve(settings))


def _make(password_file: Path) -> None:
    """Write a random password into a file that only its owner may read, unless it is there."""
    try:
        descriptor = os.open(password_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    with os.fdopen(descriptor, "w") as file:
        file.write(secrets.token_urlsafe(16) + "\n")


@click.command("console-user")
@click.argument("name")
@click.option(
    "--role",
    type=click.Choice(["viewer", "operator", "admin"]),
    default="viewer",
    show_default=True,
    help="What the user may do.",
)
@PASSWORD_FILE
def console_user(name: str, role: str, password_file: TextIO | None) -> None:
    """Make a line for CONSOLE_USERS: a user of the console, and a hash of the password.

    Without a file, the password is asked for.

    Example: openim-bridge console-user ann --role operator
    """
    password = secret_of(password_file)
    if len(password) < LEAST:
        raise click.UsageError(f"a password has {LEAST} characters or more")
    access = importlib.import_module("consumers.console.access")
    line = f"{name}:{role}:{access.hashed(password)}"
    settings_or_exit(Console, {"CONSOLE_USERS": line})
    echo(line)
