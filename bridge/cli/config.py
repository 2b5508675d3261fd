"""The commands `config check` and `config show`, for either program."""

import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import TypeAlias

import click

from bridge import policy
from bridge.cli.grammar import JSON
from bridge.commands import BAD_SETTINGS, echo, show_json
from bridge.commands import show as shown
from bridge.loading import BadSettings, is_secret, load, load_with_sources, types_of
from bridge.settings import Receiver, Settings

_DEFAULT = "default"
_PASSWORD = re.compile(r"^(\w+://[^/@:]*:).*@", re.DOTALL)
"""Up to the last @: a password may have such letters itself, though a URL should not."""

Kinds: TypeAlias = Sequence[type[Settings]]
More: TypeAlias = Callable[[Settings], None]
"""Looks at what settings name, such as a file; raises `BadSettings`."""


def look_at_policy(settings: Settings) -> None:
    """Look whether the policy can be read.

    Raises:
        BadSettings: with every problem that was found.

    """
    if isinstance(settings, Receiver):
        policy.read(settings.policy)


@click.command()
@JSON
@click.pass_obj
def check(given: tuple[Kinds, More], *, as_json: bool) -> None:
    """Name all that is wrong with the settings; exit with 3 if something is."""
    kinds, more = given
    problems = [problem for kind in kinds for problem in _problems(kind, more)]
    for problem in problems:
        if as_json:
            show_json({"problem": problem})
        else:
            click.echo(f"bad setting: {problem}", err=True)
    if problems:
        sys.exit(BAD_SETTINGS)
    if not as_json:
        echo("all settings are allowed")


def _problems(kind: type[Settings], more: More) -> Iterable[str]:
    try:
        more(load(kind, os.environ))
    except BadSettings as error:
        return error.problems
    return ()


@click.command()
@JSON
@click.pass_obj
def show(given: tuple[Kinds, More], *, as_json: bool) -> None:
    """Show each setting, what it is, and where that comes from; secrets are masked."""
    kinds, _ = given
    for kind in kinds:
        settings, sources = load_with_sources(kind, os.environ)
        for name, annotated in types_of(kind).items():
            value = getattr(settings, name)
            line = {
                "setting": f"{kind.table.upper()}_{name.upper()}",
                "value": _masked(str(value)) if is_secret(annotated) else value,
                "source": sources.get(name, _DEFAULT),
            }
            text = f"{line['setting']:32} {line['value']!s:40} {line['source']}"
            shown(line, text, as_json=as_json)


def _masked(value: str) -> str:
    """Leave of a secret what is none: that it is not set, or all of a URL but the password.

    What a URL says after `?` may name a key, and other secrets have no part that is none.
    """
    if not value:
        return ""
    if "://" not in value:
        return "***"
    return _PASSWORD.sub(r"\1***@", value).partition("?")[0]


def commands(program: str, kinds: Kinds, more: More) -> click.Group:
    """Give the commands about the settings of a program's processes."""

    @click.group("config")
    @click.pass_context
    def group(context: click.Context) -> None:
        """Check settings, and show them with where each comes from."""
        context.obj = kinds, more

    for command in (check, show):
        of_program = copy(command)
        of_program.epilog = f"Example: {program} config {command.name}"
        group.add_command(of_program)
    return group


group = commands("openim-bridge", (Receiver,), look_at_policy)
