"""The commands `openim-consumers config`."""

import sys

import click

from bridge.cli.config import commands
from bridge.loading import BadSettings
from bridge.settings import Settings
from consumers import modules
from consumers.registry import BadHandlers
from consumers.settings import FriendsApi, Worker


def look_at_handlers(settings: Settings) -> None:
    """Look whether the handlers can be loaded.

    Raises:
        BadSettings: with why not.

    """
    if not isinstance(settings, Worker):
        return
    # An App's own modules lie where the command is called.
    sys.path.insert(0, "")
    try:
        modules.load(settings.handlers.split(","))
    except BadHandlers as error:
        raise BadSettings([f"CONSUMERS_HANDLERS: {error}"]) from error


COMMANDS: tuple[click.Command, ...] = (
    commands("openim-consumers", (Worker, FriendsApi), look_at_handlers),
)
