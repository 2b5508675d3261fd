"""The commands `openim-consumers topology`."""

import os

import click

from bridge.cli.topology import Target, commands
from bridge.commands import settings_or_exit
from consumers import needs
from consumers.cli.dead_letters import loaded_handlers
from consumers.settings import Worker as Settings


def _target() -> Target:
    settings = settings_or_exit(Settings, os.environ)
    return Target(settings=settings, wanted=needs.all_of(loaded_handlers(settings), settings))


COMMANDS: tuple[click.Command, ...] = (commands("openim-consumers", _target),)
