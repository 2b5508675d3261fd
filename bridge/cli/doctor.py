"""The command `openim-bridge doctor`, and how findings are shown."""

import os
import sys
import textwrap
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from yarl import URL

from bridge import inspection, logs
from bridge.cli.grammar import JSON
from bridge.cli.webhooks_yml import wanted_by
from bridge.commands import FAILED, echo, own_url, run, show_json
from bridge.doctor import Check, Finding, examined, machine, openim
from bridge.doctor.rabbitmq import RabbitMQ
from bridge.loading import BadSettings, SettingsT, load
from bridge.settings import Receiver as Settings
from bridge.topology import RECEIVED, REFUSED

PUBLISHES = ((RECEIVED, "user.after.user_online.p00"), (REFUSED, ""))
"""Where a receiver publishes, and a routing key to try it with."""

KEPT = "callbacks are answered and kept on disk, and reach nobody until this is mended"

_COLOURS = {"ok": "green", "warning": "yellow", "failed": "red", "not tried": "bright_black"}
_NAME, _STATE, _TEXT = 14, 10, 76
"""Columns of the table."""

_INDENT = " " * (_NAME + _STATE)


@click.command()
@click.option(
    "--webhooks-yml",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="OpenIM's config/webhooks.yml, to be checked too.",
)
@JSON
def doctor(*, file: Path | None, as_json: bool) -> None:
    """Look at all that callbacks depend on, and say in plain words what is wrong.

    Nothing is changed, also while a receiver runs. Exits with 1 if something failed; a
    warning is no failure.

    Example: openim-bridge doctor --webhooks-yml config/webhooks.yml
    """
    logs.set_up("text", "error")
    settings = settings_or_finding(Settings, as_json=as_json)
    rabbitmq = RabbitMQ(
        settings,
        inspection.wanted(settings),
        PUBLISHES,
        KEPT,
        management_url=settings.management_url,
    )
    checks = [*_here(settings), *rabbitmq.checks, *_openim(settings, file)]
    run(shown(checks, rabbitmq, as_json=as_json))


def _here(settings: Settings) -> list[Check]:
    return [
        Check(name="software", look=machine.software),
        Check(name="clock", look=partial(machine.clock, Path(settings.journal_path))),
        Check(name="disk space", look=partial(machine.disk, settings)),
        Check(name="disk speed", look=partial(machine.sync, settings), needs=("disk space",)),
        Check(name="journal", look=partial(machine.journal, settings)),
    ]


def _openim(settings: Settings, file: Path | None) -> list[Check]:
    url = URL(own_url()) if settings.port else None
    return [
        Check(name="receiver", look=partial(openim.receiver, url)),
        Check(name="webhooks.yml", look=partial(openim.file, file, wanted_by(settings))),
    ]


def settings_or_finding(kind: type[SettingsT], *, as_json: bool) -> SettingsT:
    """Read settings; if there is something wrong with them, show that as a finding and exit."""
    name = "configuration"
    try:
        settings = load(kind, os.environ)
    except BadSettings as error:
        show(
            Finding(
                check=name,
                state="failed",
                found="; ".join(error.problems),
                means="the process does not start",
                remedy="correct each; docs/reference.md lists what is allowed",
            ),
            as_json=as_json,
        )
        sys.exit(FAILED)
    show(Finding(check=name, state="ok", found="all settings are allowed"), as_json=as_json)
    return settings


async def shown(checks: Iterable[Check], rabbitmq: RabbitMQ, *, as_json: bool) -> None:
    """Go through checks and show what comes of each; exit with 1 if one failed."""
    failed = 0
    try:
        async for finding in examined(checks):
            show(finding, as_json=as_json)
            failed += finding.state == "failed"
    finally:
        rabbitmq.close()
    if failed:
        sys.exit(FAILED)


def show(finding: Finding, *, as_json: bool) -> None:
    """Show a finding: a line of a table, and below what it means and what to do."""
    if as_json:
        show_json(asdict(finding))
        return
    state = click.style(f"{finding.state:{_STATE}}", fg=_COLOURS[finding.state])
    echo(f"{finding.check:{_NAME}}{state}{_wrapped(finding.found)}")
    if finding.means:
        echo(f"{_INDENT}{_wrapped(f'It means: {finding.means}.')}")
    if finding.remedy:
        echo(f"{_INDENT}{_wrapped(f'Do: {finding.remedy}.')}")


def _wrapped(text: str) -> str:
    lines = textwrap.wrap(
        logs.printable(text), _TEXT, break_long_words=False, break_on_hyphens=False
    )
    return f"\n{_INDENT}".join(lines)
