"""The command `openim-bridge schema`."""

from pathlib import Path

import click

from bridge.commands import echo
from bridge.documents import DOCUMENTS


@click.command()
@click.argument("document", required=False, type=click.Choice(list(DOCUMENTS)))
@click.option(
    "-o",
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write into this folder, which is made if it is missing.",
)
def schema(document: str | None, output: Path | None) -> None:
    """Say what callbacks are and how they travel, for programs or for people.

    Prints one document, or writes it, or all of them, into a folder. Made from what this
    release knows; needs neither settings nor RabbitMQ.

    Example: openim-bridge schema asyncapi --output documents
    """
    if document is None and output is None:
        raise click.UsageError("name a document, or a folder for all with --output")
    names = [document] if document else list(DOCUMENTS)
    for name in names:
        if output is None:
            echo(DOCUMENTS[name].make().rstrip("\n"))
        else:
            output.mkdir(parents=True, exist_ok=True)
            path = output / DOCUMENTS[name].file
            path.write_text(DOCUMENTS[name].make(), encoding="utf-8")
            echo(f"{path}: written")
