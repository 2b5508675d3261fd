"""Options that several commands about dead letters share."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

import click

from bridge.cli.replay import moment
from consumers.dead_letters import Wanted

Command: TypeAlias = Callable[..., None]


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which letters somebody wants settled."""

    subscriptions: tuple[str, ...]
    wanted: Wanted
    dry_run: bool
    yes: bool


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
        click.option("--command", default="", help="A callback, such as AfterAddFriend."),
        click.option("--error", default="", help="Words of the error."),
        click.option("--user", default="", help="An id that stands in the body."),
        click.option(
            "--since", callback=moment, help="Dead then or later, such as 2h or 2026-01-31."
        ),
        click.option("--until", callback=moment, help="Dead before."),
    )


def choosing(command: Command) -> Command:
    """Give a command the options of those that settle letters, as `choice`."""

    @functools.wraps(command)
    def wrapped(*, everything: bool, wanted: Wanted, **given: Any) -> None:  # noqa: ANN401
        if everything == (wanted != Wanted()):
            raise click.UsageError(
                "say which letters by an option such as --error, or use --all"
            )
        names = "subscriptions", "dry_run", "yes"
        choice = Choice(wanted=wanted, **{name: given.pop(name) for name in names})
        command(choice=choice, **given)

    return _with(
        filters(wrapped),
        click.option("--all", "everything", is_flag=True, help="All of them, not some."),
        click.option("--dry-run", is_flag=True, help="Only count them and show five."),
        click.option("--yes", is_flag=True, help="Do not ask, however many they are."),
    )


def _with(command: Command, *decorators: Callable[[Command], Command]) -> Command:
    for decorate in reversed(decorators):
        command = decorate(command)
    return command
