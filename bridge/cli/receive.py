"""The command `openim-bridge receive`."""

import sys
from contextlib import suppress

import click

from bridge import logs, policy, safeguards, server, workers
from bridge.commands import own_settings, problems_explained, run, settings_again
from bridge.loading import BadSettings
from bridge.reloading import merged
from bridge.settings import Receiver


@click.command()
def receive() -> None:
    """Run the receiver until SIGTERM or Ctrl-C.

    Example: BRIDGE_PORT=10006 openim-bridge receive
    """
    settings = own_settings()
    logs.set_up(settings.log_format, settings.log_level)
    safeguards.check()
    if settings.workers == 1:
        run(server.serve(settings, read_again=settings_again))
    else:
        sys.exit(_receive_with_workers(settings))


def _receive_with_workers(settings: Receiver) -> int:
    # Each reads it for itself; what is wrong with it is said once, before they start.
    policy.read(settings.policy)
    listeners = workers.sockets(settings.host, settings.port, settings.workers)
    current = [settings]

    def work(worker: workers.Worker) -> int:
        logs.set_up(current[0].log_format, current[0].log_level)
        with problems_explained():
            run(server.serve(current[0], worker, settings_again))
        return 0

    def read_again() -> None:
        # For those that replace one that died; mistakes are for the workers to report.
        with suppress(BadSettings):
            current[0] = merged(current[0], settings_again()).settings

    return workers.Workers(listeners, work, read_again).run()
