"""The commands `openim-consumers config`."""

from bridge.cli.config import commands
from bridge.loading import BadSettings
from bridge.settings import Settings
from consumers.cli import handlers
from consumers.registry import BadHandlers
from consumers.settings import FriendsApi, Worker


def look_at_handlers(settings: Settings) -> None:
    """Look whether the handlers can be loaded.

    Raises:
        BadSettings: with why not.

    """
    if not isinstance(settings, Worker):
        return
    try:
        handlers.load(settings)
    except BadHandlers as error:
        raise BadSettings([f"CONSUMERS_HANDLERS: {error}"]) from error


group = commands("openim-consumers", (Worker, FriendsApi), look_at_handlers)
