"""The command `openim-bridge send`."""

import sys

import click

from bridge import openim, sending
from bridge.cli.grammar import JSON, URL, callback_names
from bridge.commands import FAILED, UNREACHABLE, fail, own_url, run, show
from bridge.openim import Answer, Callback
from bridge.sending import Sent


@click.command()
@click.argument("what", nargs=-1, metavar="[COMMAND|FILE]...", shell_complete=callback_names)
@click.option("--all", "everything", is_flag=True, help="Send every recorded callback.")
@click.option("--list", "listing", is_flag=True, help="List the commands, and send nothing.")
@URL
@click.option(
    "--times",
    default=1,
    show_default=True,
    type=click.IntRange(1, 1_000_000),
    help="Send it all so many times.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show only what failed, and the summary.")
@JSON
def send(  # noqa: PLR0913  # the options of a command
    what: tuple[str, ...],
    url: str | None,
    times: int,
    *,
    everything: bool,
    listing: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Send recorded callbacks as OpenIM does, and judge the replies as it does.

    COMMAND is a callback command such as callbackAfterAddFriendAgreeCommand, or short:
    AfterAddFriendAgree. FILE is a body to send, named after its command. Each has an operation
    id, which `openim-bridge why` takes. If there are several, a summary follows.

    Exits with 1 if OpenIM would have taken a reply for an error or a refusal, or if the
    receiver says that something is wrong (an HTTP status from 400), which OpenIM ignores.

    Example: openim-bridge send AfterAddFriendAgree
    """
    if listing:
        for command in openim.commands():
            show({"command": command}, command, as_json=as_json)
        return

    callbacks = _callbacks([*what, *(openim.commands() if everything else ())])

    def see(answer: Answer) -> None:
        if not (quiet and sending.is_well(answer)):
            show(sending.as_json(answer), sending.as_text(answer), as_json=as_json)

    sent = Sent()
    try:
        run(sending.send(where(url), callbacks, times, sent, see))
    except sending.NoReceiver as error:
        fail(str(error), UNREACHABLE)
    finally:
        if sent.times.count > 1:
            show(sending.summary_as_json(sent), sending.summary(sent), as_json=as_json)
    sys.exit(FAILED if sent.failed else 0)


def _callbacks(names: list[str]) -> list[Callback]:
    if not names:
        raise click.UsageError("name a callback command or a file, or use --all or --list")
    try:
        return [sending.callback(name) for name in names]
    except sending.CannotSend as error:
        raise click.UsageError(str(error)) from error


def where(url: str | None) -> str:
    """Give the URL to send to: the one that was given, if any."""
    try:
        return own_url() if url is None else sending.checked(url)
    except sending.CannotSend as error:
        raise click.UsageError(str(error)) from error
