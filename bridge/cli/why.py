"""The command `openim-bridge why`."""

import click
import msgspec

from bridge import logs, why, why_text
from bridge.cli.grammar import JSON, progress, since
from bridge.commands import FAILED, echo, fail, own_settings, run


@click.command("why")
@click.argument("wanted", metavar="ID")
@since("Received")
@JSON
def why_(wanted: str, since: float | None, *, as_json: bool) -> None:
    """Tell the life of a callback: its receipt, every attempt, and where it is now.

    ID is a message id, OpenIM's operation id, or the server's or client's id of a message in
    its body. A message id is found at once, as it says when it was minted; for others the
    whole archive is read, unless --since is given. Exits with 1 if there is nothing to tell.

    Example: openim-bridge why 0190163d-8694-739b-aea5-966c26f8ad91
    """
    settings = own_settings()
    logs.set_up("text", "warning")
    with progress("looking through the archive") as tell:
        found = run(why.find(settings, wanted, since, tell))
    for problem in found.problems:
        click.echo(f"note: {problem}", err=True)
    if not found.lives:
        fail(why_text.nothing(found, wanted), FAILED)
    for life in found.lives.values():
        if as_json:
            echo(msgspec.json.encode(why_text.as_json(life)).decode())
        else:
            echo(why_text.as_text(life))
    if found.more:
        click.echo(f"note: more than {why.MOST} callbacks have this id", err=True)
