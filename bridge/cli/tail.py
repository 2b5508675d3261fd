"""The command `openim-bridge tail`."""

import click

from bridge import logs, tail
from bridge.cli.grammar import BODY, JSON, count
from bridge.commands import echo, own_settings, run


@click.command("tail")
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
