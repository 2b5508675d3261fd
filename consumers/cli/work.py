"""The command `openim-consumers work`."""

import gc
import os
import signal

import click

from bridge import logs
from bridge.commands import FAILED, run, settings_or_exit
from bridge.tracing import opened as tracing
from bridge.waiting import stop_signal
from consumers import (
    database,
    modules,
    tables,  # noqa: F401  # to be made, as others have no right to
)
from consumers.cli.handlers import loaded
from consumers.listener import listening
from consumers.settings import Worker as Settings
from consumers.worker import Worker

COLLECTED_AFTER = 5_000
"""New objects after which Python looks for cycles; its own 700 are a few events in SQL."""


@click.command()
@click.option("--handlers", help="Modules with handlers, separated by commas.")
def work(handlers: str | None) -> None:
    """Run a worker until SIGTERM or Ctrl-C. Run as many as you like.

    Example: openim-consumers work --handlers shop
    """
    given = {} if handlers is None else {"CONSUMERS_HANDLERS": handlers}
    settings = settings_or_exit(Settings, {**os.environ, **given})
    logs.set_up(settings.log_format, settings.log_level)
    gc.set_threshold(COLLECTED_AFTER)
    run(_work(settings, loaded(settings)))


async def _work(settings: Settings, found: modules.Loaded) -> None:
    stop = stop_signal(signal.SIGHUP)
    async with (
        tracing(settings.tracing, "openim-consumers") as spans,
        database.opened(settings.database_url, settings.database_connections) as opened,
    ):
        if spans is not None:
            spans.use_for_all()
        worker = Worker(settings, found.handlers, opened, found.decisions, _give_up)
        worker.spans = spans
        async with listening(worker, settings.host, settings.port):
            await opened.wait_until_ready(stop)
            await worker.run(stop)


def _give_up() -> None:
    """End at once: what has not ended by itself has no place among what is tidied up."""
    os._exit(FAILED)
