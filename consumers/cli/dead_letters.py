"""The commands `openim-consumers dead-letters`."""

import os
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import click

from bridge import logs
from bridge.broker import Broker, connect
from bridge.cli.grammar import BODY, JSON, Tell, confirm, count, progress, rate
from bridge.commands import (
    PARTLY,
    UNREACHABLE,
    echo,
    fail,
    run,
    settings_or_exit,
    show,
    who,
)
from bridge.logs import printable
from bridge.topology import dead_letter_queue
from bridge.waiting import first_of
from consumers import database, desk
from consumers.cli.dead_letters_options import CAREFUL, Choice, choosing, filters
from consumers.cli.handlers import loaded
from consumers.dead_letter_audit import DISCARD, REPLAY, Act
from consumers.dead_letters import Groups, Letter, Wanted
from consumers.dead_letters_shown import (
    Facts,
    as_lines,
    as_text,
    group,
    in_full,
    in_short,
)
from consumers.settings import Worker as Settings

EXAMPLES = 5
"""Letters shown by a dry run."""

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
@count(100_000, 50, "With --each: show so many at most.")
@JSON
def list_(
    subscriptions: tuple[str, ...], wanted: Wanted, count: int, *, each: bool, as_json: bool
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

    settings = _settings()
    _look(settings, subscriptions, see)
    for line in [*lines, *map(group, groups.largest_first())]:
        show(line, as_text(line), as_json=as_json)
    if not found and not as_json:
        names = ", ".join(_names(settings, subscriptions))
        where = "" if subscriptions else "; CONSUMERS_HANDLERS, or a name, has others looked at"
        echo(f"no dead letters of {names}{where}")
    if each and found > count:
        click.echo(f"and {found - count:,} more: -n shows more", err=True)


@dead_letters.command("show")
@click.argument("message_id")
@click.argument("subscriptions", nargs=-1, metavar="[SUBSCRIPTION]...")
@BODY
@JSON
def show_(
    message_id: str, subscriptions: tuple[str, ...], *, body: bool, as_json: bool
) -> None:
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
        show(letter, as_lines(letter), as_json=as_json)


@dead_letters.command()
@choosing
@rate(None)
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


def _settle(act: Act, choice: Choice, rate: float | None = None) -> None:
    settings, as_json = _settings(), choice.as_json
    names, found, examples = _found(settings, choice)
    if not found:
        fail("no dead letter matches")
    show({"found": found}, f"{found:,} dead letters match", as_json=as_json)
    if choice.dry_run:
        for letter in examples:
            show(in_short(letter), as_text(in_short(letter)), as_json=as_json)
        return
    if found > CAREFUL:
        confirm(f"{act.action.capitalize()} them?", yes=choice.yes)
    verb, done = f"{act.action}ed", _Done()
    try:
        with progress(f"{verb} letters", found) as done.tell:
            _run(_settled(settings, act, names, choice.wanted, rate, done))
    finally:
        show({verb: done.count}, f"{verb} {done.count:,} of {found:,}", as_json=as_json)
    if done.count < found:
        fail(
            f"{found - done.count:,} letters are left, as somebody else has taken them or looks"
            " at them just now: call this again",
            PARTLY,
        )


@dataclass
class _Done:
    """How many letters are settled."""

    count: int = 0
    tell: Tell = field(default=lambda _: None)

    def step(self) -> None:
        """Note one more."""
        self.count += 1
        self.tell(self.count)


async def _settled(  # noqa: PLR0913, PLR0917  # what to do, to what, how
    settings: Settings,
    act: Act,
    names: list[str],
    wanted: Wanted,
    rate: float | None,
    done: _Done,
) -> None:
    async def settle_all(broker: Broker) -> None:
        working = desk.Desk(
            broker=broker,
            database=opened,
            act=act,
            confirm_timeout=settings.confirm_timeout,
            rate=rate,
            done=done.step,
        )
        for name in names:
            await working.settle(name, wanted)

    async with database.opened(settings.database_url, connections=1) as opened:
        await opened.create_tables()
        await _connected(settings, settle_all)


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


def _names(settings: Settings, subscriptions: Sequence[str]) -> Sequence[str]:
    return subscriptions or [each.subscription for each in loaded(settings).handlers]


def _look(settings: Settings, subscriptions: Sequence[str], see: See) -> list[str]:
    """Look at the letters of subscriptions; give the names of those that have any."""
    names = _names(settings, subscriptions)
    having: list[str] = []

    looked_at = 0

    def counted(letter: Letter) -> None:
        nonlocal looked_at
        looked_at += 1
        tell(looked_at)
        see(letter)

    async def look_at_all(broker: Broker) -> None:
        for name in names:
            count = await desk.count(broker, name)
            if count is None and name in subscriptions:
                raise desk.CannotDo(f"there is no queue {dead_letter_queue(name)}")
            if count:
                having.append(name)
                await desk.look(broker, name, counted)

    with progress("looking at letters") as tell:
        _run(_connected(settings, look_at_all))
    return having


async def _connected(
    settings: Settings, work: Callable[[Broker], Coroutine[Any, Any, None]]
) -> None:
    name, timeout = "openim-consumers dead-letters", settings.connect_timeout
    async with connect(settings.broker_url, name=name, timeout=timeout) as broker:
        await first_of(broker.until_lost(), work(broker))


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Do some work, or say in a sentence what went wrong with it and exit."""
    try:
        run(work)
    except desk.CannotDo as error:
        fail(str(error))
    except database.FAILURES as error:
        fail(f"the audit log: {printable(database.reason(error))}", UNREACHABLE)
