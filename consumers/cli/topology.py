"""The commands `openim-consumers topology`."""

import os

from bridge.cli.topology import Target, commands
from bridge.commands import settings_or_exit
from consumers import needs
from consumers.cli.handlers import loaded
from consumers.settings import Worker as Settings


def _target() -> Target:
    settings = settings_or_exit(Settings, os.environ)
    handlers = loaded(settings).handlers
    return Target(settings=settings, wanted=needs.all_of(handlers, settings))


group = commands("openim-consumers", _target)
