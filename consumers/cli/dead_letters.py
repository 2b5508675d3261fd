"""The commands `openim-consumers dead-letters`."""

import os
import sys
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import click

from bridge import logs
from bridge.broker import Broker, connect
from bridge.commands import (
    BAD_SETTINGS,
    UNREACHABLE,
    echo,
    fail,
    problems_explained,
    run,
    settings_or_exit,
    who,
)
from bridge.logs import printable
from bridge.topology import dead_letter_queue
from bridge.waiting import first_of
from consumers import database, desk, modules
from consumers.cli.dead_letters_options import Choice, choosing, filters
from consumers.dead_letter_audit import DISCARD, REPLAY, Act
from consumers.dead_letters import Groups, Letter, Wanted
from consumers.dead_letters_shown import (
    Facts,
    as_json,
    as_lines,
    as_text,
    group,
    in_full,
    in_short,
)
from consumers.registry import BadHandlers, Handlers
from consumers.settings import Worker as Settings

EXAMPLES = 5
"""Letters shown by a dry run."""

CAREFUL = 1000
"""Letters that are settled without a question, at most."""

PATIENCE = 2.0
"""Seconds before, and between, words about progress."""

See: TypeAlias = Callable[[Letter], None]


@click.group("dead-letters")
def dead_letters() -> None:
    """Look at dead letters, replay them or discard them.

    SUBSCRIPTION names one or several; without, it is those of the handlers that
    CONSUMERS_HANDLERS names. What another such command holds just now is not seen.
    """


@dead_letters.command("list")
@filters
@click.option("--each", is_flag=True, help="Single letters, not groups.")
@click.option(
    "-n",
    "--count",
    default=50,
    show_default=True,
    type=click.IntRange(1, 100_000),
    help="With --each: show so many at most.",
)
@click.option("--json", is_flag=True, help="One JSON object a line.")
def list_(
    subscriptions: tuple[str, ...], wanted: Wanted, count: int, *, each: bool, json: bool
) -> None:
    """Show dead letters, alike ones together: how many, since when, which callbacks.

    Example: openim-consumers dead-letters list --since 2h --error timeout
    """
    groups, lines, found = Groups(), list[Facts](), 0

    def see(letter: Letter) -> None:
        nonlocal found
        if not wanted.has(letter):
            return
        found += 1
        if not each:
            groups.add(letter)
        elif found <= count:
            lines.append(in_short(letter))

    _look(_settings(), subscriptions, see)
    for line in [*lines, *map(group, groups.largest_first())]:
        echo(as_json(line) if json else as_text(line))
    if not found and not json:
        echo("no dead letters")
    if each and found > count:
        click.echo(f"and {found - count:,} more: -n shows more", err=True)


@dead_letters.command()
@click.argument("message_id")
@click.argument("subscriptions", nargs=-1, metavar="[SUBSCRIPTION]...")
@click.option("--body", is_flag=True, help="Show the body: it is people's conversation.")
@click.option("--json", is_flag=True, help="One JSON object a line.")
def show(message_id: str, subscriptions: tuple[str, ...], *, body: bool, json: bool) -> None:
    """Show all that is known about a dead letter, and each of its copies.

    Example: openim-consumers dead-letters show 0190163d-8694-739b-aea5-966c26f8ad91 --body
    """
    found: list[Facts] = []

    def see(letter: Letter) -> None:
        if letter.delivery.message_id == message_id:
            found.append(in_full(letter, with_body=body))

    _look(_settings(), subscriptions, see)
    if not found:
        fail(f"no dead letter has the message id {message_id}: `dead-letters list --each`")
    for letter in found:
        echo(as_json(letter) if json else as_lines(letter))


@dead_letters.command()
@choosing
@click.option(
    "--rate",
    type=click.FloatRange(0, 100_000, min_open=True),
    help="Letters a second, at most.",
)
def replay(choice: Choice, rate: float | None) -> None:
    """Bring dead letters back to the work queues they came from, for a first attempt again.

    Each keeps its message id. If this ends half-way, nothing is lost: some may be there
    twice then, under the same message ids, and the same command goes on with the others.

    Example: openim-consumers dead-letters replay shop --error "shop is closed" --rate 50
    """
    _settle(Act(action=REPLAY, who=who()), choice, rate)


@dead_letters.command()
@choosing
@click.option("--reason", required=True, help="Why: the table dead_letter_audit keeps it.")
@click.option("--keep-body", is_flag=True, help="Keep bodies there, too.")
def discard(choice: Choice, reason: str, *, keep_body: bool) -> None:
    """Remove dead letters for good, once the audit log says by whom and why.

    Example: openim-consumers dead-letters discard --error Malformed --reason "sent by a test"
    """
    _settle(Act(action=DISCARD, who=who(), reason=reason, keep_body=keep_body), choice)


@dataclass
class _Progress:
    """Tells a terminal how far it has come, if that takes long."""

    verb: str
    of: int
    count: int = 0
    _said: float = field(default_factory=time.monotonic)

    def step(self) -> None:
        """Note that one more is done."""
        self.count += 1
        if time.monotonic() - self._said > PATIENCE and sys.stderr.isatty():
            self._said = time.monotonic()
            click.echo(f"{self.verb} {self.count:,} of {self.of:,}", err=True)


def _settle(act: Act, choice: Choice, rate: float | None = None) -> None:
    settings = _settings()
    names, found, examples = _found(settings, choice)
    if not found:
        fail("no dead letter matches")
    echo(f"{found:,} dead letters match")
    if choice.dry_run:
        for letter in examples:
            echo(as_text(in_short(letter)))
        return
    if found > CAREFUL and not choice.yes:
        click.confirm(f"{act.action.capitalize()} them?", abort=True)
    progress = _Progress(f"{act.action}ed", found)

    async def settle_all(opened: database.Database, broker: Broker) -> None:
        working = desk.Desk(
            broker=broker,
            database=opened,
            act=act,
            confirm_timeout=settings.confirm_timeout,
            rate=rate,
            done=progress.step,
        )
        for name in names:
            await working.settle(name, choice.wanted)

    async def settled() -> None:
        async with database.opened(settings.database_url, connections=1) as opened:
            await opened.create_tables()
            await _connected(settings, partial(settle_all, opened))

    try:
        _run(settled())
    finally:
        echo(f"{progress.verb} {progress.count:,} of {found:,}")


def _found(settings: Settings, choice: Choice) -> tuple[list[str], int, list[Letter]]:
    """Look for letters; give the subscriptions that have any, how many match, and some."""
    found, examples = 0, list[Letter]()

    def see(letter: Letter) -> None:
        nonlocal found
        if choice.wanted.has(letter):
            found += 1
            if len(examples) < EXAMPLES:
                examples.append(letter)

    names = _look(settings, choice.subscriptions, see)
    return names, found, examples


def _settings() -> Settings:
    settings = settings_or_exit(Settings, os.environ)
    logs.set_up("text", "warning")
    return settings


def _look(settings: Settings, subscriptions: Sequence[str], see: See) -> list[str]:
    """Look at the letters of subscriptions; give the names of those that have any."""
    names = subscriptions or [each.subscription for each in loaded_handlers(settings)]
    having: list[str] = []

    async def look_at_all(broker: Broker) -> None:
        for name in names:
            count = await desk.count(broker, name)
            if count is None and name in subscriptions:
                raise desk.CannotDo(f"there is no queue {dead_letter_queue(name)}")
            if count:
                having.append(name)
                await desk.look(broker, name, see)

    _run(_connected(settings, look_at_all))
    return having


def loaded_handlers(settings: Settings) -> list[Handlers]:
    """Give the handlers that the settings name, or say why not and exit."""
    # An App's own modules lie where the command is called.
    sys.path.insert(0, "")
    try:
        loaded = modules.load(settings.handlers.split(","))
    except BadHandlers as error:
        fail(str(error), BAD_SETTINGS)
    return loaded.handlers


async def _connected(
    settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, None]]
) -> None:
    name, timeout = "openim-consumers dead-letters", settings.connect_timeout
    async with connect(settings.broker_url, name=name, timeout=timeout) as broker:
        await first_of(broker.until_lost(), work(broker))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Do some work, or say in a sentence what went wrong with it and exit."""
    with problems_explained():
        try:
            run(work)
        except desk.CannotDo as error:
            fail(str(error))
        except database.FAILURES as error:
            fail(f"the audit log: {printable(database.reason(error))}", UNREACHABLE)
