"""Options that several commands about dead letters share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import click

from bridge.cli.grammar import DRY_RUN, JSON, callback_names, since, until, yes
from consumers.dead_letters import Wanted

CAREFUL = 1000
"""Letters that are settled without a question, at most."""

Command: TypeAlias = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which letters somebody wants settled."""

    subscriptions: tuple[str, ...]
    wanted: Wanted
    dry_run: bool
    yes: bool
    as_json: bool


def filters(command: Command) -> Command:
    """Give a command the options that say which letters are meant, as `wanted`."""

    @functools.wraps(command)
    def wrapped(**given: Any) -> None:  # noqa: ANN401  # whatever click gives
        wanted = Wanted(**{each.name: given.pop(each.name) for each in fields(Wanted)})
        command(wanted=wanted, **given)

    return _with(
        wrapped,
        click.argument("subscriptions", nargs=-1, metavar="[SUBSCRIPTION]..."),
        click.option("--message-id", default="", help="A message id."),
        click.option(
            "--command",
            default="",
            shell_complete=callback_names,
            help="A callback, such as AfterAddFriend.",
        ),
        click.option("--error", default="", help="Words of the error."),
        click.option("--user", default="", help="An id that stands in the body."),
        since("Dead"),
        until("Dead"),
    )


def choosing(command: Command) -> Command:
    """Give a command the options of those that settle letters, as `choice`."""

    @functools.wraps(command)
    def wrapped(*, everything: bool, wanted: Wanted, **given: Any) -> None:  # noqa: ANN401
        if everything == (wanted != Wanted()):
            raise click.UsageError(
                "say which letters by an option such as --error, or use --all"
            )
        names = "subscriptions", "dry_run", "yes", "as_json"
        choice = Choice(wanted=wanted, **{name: given.pop(name) for name in names})
        command(choice=choice, **given)

    return _with(
        filters(wrapped),
        click.option("--all", "everything", is_flag=True, help="All of them, not some."),
        DRY_RUN,
        yes(f"above {CAREFUL:,} letters"),
        JSON,
    )


def _with(command: Command, *decorators: Callable[[Command], Command]) -> Command:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
