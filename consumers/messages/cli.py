"""The commands `openim-consumers messages`."""

import os
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import click
import msgspec

from bridge.cli.grammar import DRY_RUN, JSON, Tell, confirm, count, progress, since, until, yes
from bridge.commands import UNREACHABLE, echo, fail, run, settings_or_exit, show, who
from bridge.logs import printable
from consumers import database
from consumers.friends.reading import reading
from consumers.messages import archive, searching
from consumers.messages.searching import Page, Place, Wanted
from consumers.settings import Worker

Result = TypeVar("Result")


@click.group()
def messages() -> None:
    """Search the message archive, or erase a user from it.

    A worker fills it that runs the handlers in consumers.handlers.message_archive.
    """


@messages.command()
@click.option("--conversation", required=True, help="Its id, such as si_ann_ben or sg_4711.")
@click.option("--text", default="", help="Words or parts of words that all must be in it.")
@since("Sent")
@until("Sent")
@count(1000, 50)
@click.option("--cursor", help="Go on behind a page that ended with this.")
@JSON
def search(  # noqa: PLR0913  # an option each
    conversation: str,
    text: str,
    since: float | None,
    until: float | None,
    count: int,
    *,
    cursor: str | None,
    as_json: bool,
) -> None:
    """Show messages of a conversation, newest first, without those that were withdrawn.

    Example: openim-consumers messages search --conversation sg_4711 --text "lunch friday"
    """
    wanted = Wanted(
        conversation_id=conversation, words=tuple(text.split()), since=since, until=until
    )
    try:
        behind = None if cursor is None else searching.place(cursor)
    except searching.BadCursor as error:
        raise click.BadParameter(str(error), param_hint="--cursor") from error
    page = _answer(_page(_url(), wanted, behind, count))
    for message in page.messages:
        sent = f"{_time(message.sent_ms)}  {message.send_id}: {message.text}"
        echo(msgspec.json.encode(message).decode() if as_json else printable(sent))
    if page.cursor:
        click.echo(f"there may be more: --cursor {page.cursor}", err=True)


def _time(sent_ms: int) -> str:
    try:
        return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=sent_ms):%F %TZ}"
    except OverflowError:
        return f"{sent_ms} ms"  # a client's clock, which knows years that no calendar has


@messages.command()
@click.option("--user", required=True, help="Who sent what is to be erased.")
@click.option("--reason", required=True, help="Kept in the audit log.")
@DRY_RUN
@yes("always")
@JSON
def erase(user: str, reason: str, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove all messages that a user has sent, for good.

    Those received until now do not come back, even when callbacks are replayed.

    Example: openim-consumers messages erase --user user_a --reason "asked by mail"
    """
    url = _url()
    found = _answer(_count(url, user))
    show({"found": found}, printable(f"{found:,} messages of {user}"), as_json=as_json)
    if dry_run:
        return
    confirm("Erase them?", yes=yes)
    with progress("erasing", found) as tell:
        erased = _answer(_erase(url, user, reason, tell))
    show({"erased": erased}, f"{erased:,} erased", as_json=as_json)


def _url() -> str:
    return settings_or_exit(Worker, os.environ).database_url


def _answer(work: Coroutine[Any, Any, Result]) -> Result:
    try:
        return run(work)
    except database.FAILURES as error:
        fail(printable(f"the database: {database.reason(error)}"), UNREACHABLE)


async def _page(url: str, wanted: Wanted, behind: Place | None, most: int) -> Page:
    async with database.opened(url, read_only=True) as opened, reading(opened) as transaction:
        return await searching.search(transaction, wanted, behind=behind, most=most)


async def _count(url: str, user: str) -> int:
    async with database.opened(url, read_only=True) as opened, reading(opened) as transaction:
        return await archive.count_of(transaction, user)


async def _erase(url: str, user: str, reason: str, tell: Tell) -> int:
    total, erased = 0, archive.REMOVED_AT_ONCE
    async with database.opened(url) as opened:
        async with opened.transaction() as transaction:
            await archive.begin_erasing(transaction, user, who=who(), reason=reason)
        while erased == archive.REMOVED_AT_ONCE:
            async with opened.transaction() as transaction:
                erased = await archive.erase(transaction, user)
            total += erased
            tell(total)
    return total
