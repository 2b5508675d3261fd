"""The command `openim-bridge tail`."""

import click

from bridge import logs, tail
from bridge.cli.grammar import BODY, JSON, callback_names, count, routing_patterns
from bridge.commands import echo, own_settings, run


@click.command("tail")
@click.argument(
    "patterns",
    metavar="[PATTERN]...",
    nargs=-1,
    callback=routing_patterns,
    shell_complete=callback_names,
)
@count(None, says="Stop after so many.")
@BODY
@JSON
def tail_(patterns: tuple[str, ...], count: int | None, *, body: bool, as_json: bool) -> None:
    """Watch callbacks as they pass through RabbitMQ; nobody else misses any.

    PATTERN is a callback, or a pattern of keys such as 'friend.#' or '*.after.#'; all by
    default.

    Example: openim-bridge tail 'friend.#' --body
    """
    settings = own_settings()
    logs.set_up("text", "info")
    shown = tail.as_json if as_json else tail.as_text
    run(
        tail.watch(
            settings.broker_url,
            patterns or ("#",),
            lambda delivery: echo(shown(delivery, with_body=body)),
            count,
            settings.connect_timeout,
        )
    )
