"""The command `openim-bridge`."""

import sys
from contextlib import suppress
from importlib.metadata import entry_points

import click

from bridge import logs, policy, safeguards, server, tail, workers
from bridge.cli import (
    config,
    decide,
    doctor,
    documents,
    journal,
    replay,
    secrets,
    send,
    simulate,
    subscribe,
    subscriptions,
    topology,
    webhooks_yml,
    why,
)
from bridge.cli.grammar import BODY, JSON, count, program
from bridge.commands import echo, own_settings, problems_explained, run, settings_again
from bridge.loading import BadSettings
from bridge.reloading import merged
from bridge.settings import Receiver


@program
def main() -> None:
    """Take OpenIM's callbacks, keep them on disk and publish them to RabbitMQ.

    Settings come from BRIDGE_… variables and from the file that BRIDGE_CONFIG names;
    docs/reference.md lists them.
    """


@main.command()
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


@main.command("tail")
@click.argument("pattern", default="#")
@count(None, says="Stop after so many.")
@BODY
@JSON
def tail_(pattern: str, count: int | None, *, body: bool, as_json: bool) -> None:
    """Watch callbacks as they pass through RabbitMQ; nobody else misses any.

    PATTERN is a binding pattern such as 'friend.#' or '*.after.#'; all by default.

    Example: openim-bridge tail 'friend.#' --body
    """
    settings = own_settings()
    logs.set_up("text", "info")
    shown = tail.as_json if as_json else tail.as_text
    run(
        tail.watch(
            settings.broker_url,
            pattern,
            lambda delivery: echo(shown(delivery, with_body=body)),
            count,
            settings.connect_timeout,
        )
    )


for command in (
    *send.COMMANDS,
    *subscribe.COMMANDS,
    *subscriptions.COMMANDS,
    *replay.COMMANDS,
    *webhooks_yml.COMMANDS,
    *decide.COMMANDS,
    *secrets.COMMANDS,
    *why.COMMANDS,
    *simulate.COMMANDS,
    *documents.COMMANDS,
    *config.COMMANDS,
    *doctor.COMMANDS,
    *journal.COMMANDS,
    *topology.COMMANDS,
):
    main.add_command(command)

# Commands about more than the bridge, whose code it must not know.
for entry in sorted(entry_points(group="openim_bridge.commands")):
    main.add_command(entry.load())
