"""The command `openim-bridge`."""

import sys
from contextlib import suppress
from importlib.metadata import entry_points

import click

from bridge import logs, openim, policy, safeguards, sending, server, tail, workers
from bridge.cli import (
    config,
    decide,
    doctor,
    documents,
    journal,
    replay,
    secrets,
    simulate,
    subscriptions,
    topology,
    webhooks_yml,
    why,
)
from bridge.commands import (
    BAD_SETTINGS,
    FAILED,
    INTERRUPTED,
    PARTLY,
    UNREACHABLE,
    echo,
    fail,
    own_settings,
    own_url,
    problems_explained,
    run,
    settings_again,
    settings_or_exit,
)
from bridge.loading import BadSettings
from bridge.reloading import merged
from bridge.settings import Receiver

__all__ = [
    "BAD_SETTINGS",
    "FAILED",
    "INTERRUPTED",
    "PARTLY",
    "UNREACHABLE",
    "echo",
    "fail",
    "main",
    "run",
    "settings_or_exit",
]


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 96})
@click.version_option(package_name="openim-bridge")
def main() -> None:
    """Take OpenIM's callbacks, keep them on disk and publish them to RabbitMQ.

    Settings come from BRIDGE_… variables and from the file that BRIDGE_CONFIG names;
    docs/reference.md lists them.
    """


@main.command()
def receive() -> None:
    """Run the receiver until SIGTERM or Ctrl-C."""
    settings = own_settings()
    logs.set_up(settings.log_format, settings.log_level)
    with problems_explained():
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


@main.command()
@click.argument("what", nargs=-1, metavar="[COMMAND|FILE]...")
@click.option("--all", "everything", is_flag=True, help="Send every recorded callback.")
@click.option("--list", "listing", is_flag=True, help="List the commands, and send nothing.")
@click.option("--url", help="As in OpenIM's webhooks.yml; default: where the receiver listens.")
@click.option(
    "--times",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Send it all so many times.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show only what failed, and the summary.")
def send(  # noqa: PLR0913  # the options of a command
    what: tuple[str, ...],
    url: str | None,
    times: int,
    *,
    everything: bool,
    listing: bool,
    quiet: bool,
) -> None:
    """Send recorded callbacks as OpenIM does, and judge the replies as it does.

    COMMAND is a callback command such as callbackAfterAddFriendAgreeCommand, or short:
    AfterAddFriendAgree. FILE is a body to send, named after its command.

    Exits with 1 if OpenIM would have taken a reply for an error or a refusal, or if the
    receiver says that something is wrong (an HTTP status from 400), which OpenIM ignores.
    """
    if listing:
        echo("\n".join(openim.commands()))
        return
    names = [*what, *(openim.commands() if everything else ())]
    if not names:
        raise click.UsageError("name a callback command or a file, or use --all or --list")
    try:
        callbacks = [sending.callback(name) for name in names]
        where = own_url() if url is None else sending.checked(url)
    except sending.CannotSend as error:
        raise click.UsageError(str(error)) from error
    try:
        well = run(sending.send(where, callbacks, times, echo, quiet=quiet))
    except sending.NoReceiver as error:
        fail(f"{error}; is the receiver running?", UNREACHABLE)
    sys.exit(0 if well else FAILED)


@main.command("tail")
@click.argument("pattern", default="#")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--body", is_flag=True, help="Show bodies: they are people's conversations.")
@click.option("-n", "--count", type=click.IntRange(1), help="Stop after so many.")
def tail_(pattern: str, count: int | None, *, as_json: bool, body: bool) -> None:
    """Watch callbacks as they pass through RabbitMQ; nobody else misses any.

    PATTERN is a binding pattern such as 'friend.#' or '*.after.#'; all by default.
    """
    settings = own_settings()
    logs.set_up("text", "info")
    show = tail.as_json if as_json else tail.as_text
    with problems_explained():
        run(
            tail.watch(
                settings.broker_url,
                pattern,
                lambda delivery: echo(show(delivery, with_body=body)),
                count,
                settings.connect_timeout,
            )
        )


for command in (
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
