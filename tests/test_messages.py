"""The message archive: the same rows, whatever comes again, late or in another order."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import permutations
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import func, select

from bridge.contract import (
    AfterMsgSaveDB,
    AfterRevokeMsg,
    AfterSendGroupMsg,
    AfterSendMsg,
    AfterSendSingleMsg,
    Event,
)
from consumers import database
from consumers.database import Database
from consumers.handlers.message_archive import handlers
from consumers.messages import archive, searching
from consumers.messages.archive import ERASURES, MESSAGES, Archived
from consumers.messages.searching import Found, Wanted
from consumers.outcome import Handled
from consumers.testing import Trial, recorded
from tests.commands import CONSUMERS, ran

MORNING = datetime(2024, 7, 1, 8, tzinfo=UTC)
SALES = "sg_sales"


def said(
    number: int, text: str = "hello", *, user: str = "ann", received: datetime = MORNING
) -> Archived:
    """Give a message to the group `sales`, as it is kept."""
    return archive.kept(sent(number, text, user), f"message-{number}", received)


def sent(number: int, text: str = "hello", user: str = "ann") -> AfterSendGroupMsg:
    """Give a callback about a message to the group `sales`."""
    return recorded(
        AfterSendGroupMsg,
        server_msg_id=f"{number:05}",
        group_id="sales",
        send_id=user,
        send_time=1000 + number,
        content=msgspec.json.encode({"text": text}).decode(),
    )


def stored(number: int) -> AfterMsgSaveDB:
    """Give a callback that says under which number a message to `sales` is stored."""
    return recorded(
        AfterMsgSaveDB,
        server_msg_id=f"{number:05}",
        group_id="sales",
        recv_id="",
        send_id="ann",
        send_time=1000 + number,
        seq=number,
    )


def revoked(number: int) -> AfterRevokeMsg:
    """Give a callback about a message to `sales` that was withdrawn."""
    return recorded(AfterRevokeMsg, conversation_id=SALES, seq=number, user_id="ann")


async def add(opened: Database, *messages: Archived) -> None:
    """Add messages in a transaction of their own."""
    async with opened.transaction() as transaction:
        await archive.add(transaction, messages)


async def count(opened: Database) -> int:
    """Count what is archived."""
    async with opened.transaction() as transaction:
        return (
            await transaction.execute(select(func.count()).select_from(MESSAGES))
        ).scalar_one()


async def found(opened: Database, *words: str, most: int = 100) -> list[Found]:
    """Find messages to `sales`, over as many pages as it takes."""
    messages: list[Found] = []
    cursor = "first"
    async with opened.transaction() as transaction:
        while cursor:
            behind = None if cursor == "first" else searching.place(cursor)
            wanted = Wanted(conversation_id=SALES, words=words)
            page = await searching.search(transaction, wanted, behind=behind, most=most)
            messages += page.messages
            cursor = page.cursor
    return messages


async def ids(opened: Database, *words: str, most: int = 100) -> list[int]:
    """Give the numbers of the messages that are found."""
    return [int(message.id) for message in await found(opened, *words, most=most)]


async def erase(opened: Database, user: str) -> int:
    """Erase a user."""
    async with opened.transaction() as transaction:
        await archive.begin_erasing(transaction, user, who="root@here", reason="asked")
        return await archive.erase(transaction, user)


async def test_messages_to_users_and_groups_are_kept(opened: Database) -> None:
    events: Sequence[Event] = [
        recorded(AfterSendSingleMsg, send_id="ben", recv_id="ann", server_msg_id="1"),
        recorded(AfterSendGroupMsg, group_id="sales", server_msg_id="2"),
    ]
    assert await Trial(handlers, opened).handle_all(events) == [Handled(), Handled()]
    async with opened.transaction() as transaction:
        kept = (await transaction.execute(select(MESSAGES).order_by(MESSAGES.c.id))).mappings()
        assert [row["conversation_id"] for row in kept] == ["si_ann_ben", SALES]


async def test_batches_that_come_again_under_other_ids_change_nothing(opened: Database) -> None:
    trial = Trial(handlers, opened)
    events = [sent(number) for number in range(1200)]
    for batch in (events, events[::-1], events[300:900]):
        assert set(await trial.handle_all(batch)) == {Handled()}
    assert await count(opened) == 1200


@pytest.mark.parametrize("order", list(permutations((sent(7), stored(7), revoked(7)))))
async def test_a_withdrawn_message_is_not_found_whatever_came_first(
    order: Sequence[Event], opened: Database
) -> None:
    trial = Trial(handlers, opened)
    for event in order:
        assert await trial.handle(event) == Handled()
    assert await count(opened) == 1
    assert await ids(opened) == []


async def test_without_its_number_a_message_cannot_be_told_to_be_withdrawn(
    opened: Database,
) -> None:
    trial = Trial(handlers, opened)
    assert set(await trial.handle_all([sent(7), revoked(7), revoked(0)])) == {Handled()}
    assert await ids(opened) == [7]


async def test_words_are_found_in_any_order_case_and_script(opened: Database) -> None:
    texts = "Lunch on FRIDAY?", "100% sure", "1000 sure", "我们星期五吃饭", "Ünlü"
    await add(opened, *(said(number, text) for number, text in enumerate(texts)))
    assert await ids(opened, "friday", "lunch") == [0]
    assert await ids(opened, "0%") == [1]
    assert await ids(opened, "星期五") == [3]
    assert await ids(opened, "ünlü") == [4]
    assert await ids(opened, "friday", "dinner") == []


async def test_pages_show_each_message_once_newest_first(opened: Database) -> None:
    await add(opened, *(said(number) for number in range(25)))
    same_time = [
        msgspec.structs.replace(said(number), sent_ms=1024) for number in range(25, 30)
    ]
    await add(opened, *same_time)
    assert await ids(opened, most=4) == [29, 28, 27, 26, 25, *range(24, -1, -1)]


async def test_a_page_looks_through_so_many_and_the_next_goes_on(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "LOOKED_THROUGH", 10)
    await add(opened, said(1, "rare"), *(said(number) for number in range(2, 60)))
    assert await ids(opened, "rare") == [1]


async def test_an_erased_user_stays_erased_when_callbacks_are_replayed(
    opened: Database,
) -> None:
    before = [said(1), said(2, user="ben"), said(3)]
    await add(opened, *before)
    assert await erase(opened, "ann") == 2
    await add(opened, *before, said(4))
    assert await ids(opened) == [2]
    async with opened.transaction() as transaction:
        (erasure,) = (await transaction.execute(select(ERASURES))).mappings()
    assert (erasure["user_id"], erasure["who"]) == ("ann", "root@here")


async def test_what_an_erased_user_sends_afterwards_is_kept(opened: Database) -> None:
    await erase(opened, "ann")
    await add(opened, said(1, received=datetime.now(UTC) + timedelta(seconds=1)))
    assert await erase(opened, "nobody") == 0
    assert await ids(opened) == [1]


async def test_old_messages_are_forgotten(opened: Database) -> None:
    await add(opened, said(1), said(2, received=datetime.now(UTC)))
    async with opened.transaction() as transaction:
        assert await archive.forget(transaction, timedelta(days=1)) == 1
    assert await ids(opened) == [2]


@given(st.text())
def test_any_content_has_a_text(content: str) -> None:
    assert isinstance(archive.text_of(content), str)


@pytest.mark.parametrize("cursor", ["", "1", "-1", "x-1", "1-", "9" * 30 + "-1"])
def test_a_cursor_that_no_page_gave_is_refused(cursor: str) -> None:
    with pytest.raises(searching.BadCursor):
        searching.place(cursor)


def test_every_kind_of_accepted_message_is_taken() -> None:
    kinds = [kind for kind in (AfterSendSingleMsg, AfterSendGroupMsg) if handlers.of(kind)]
    assert all(issubclass(kind, AfterSendMsg) for kind in kinds)
    assert len(kinds) == 2


async def test_the_commands_search_and_erase(database_url: str, tmp_path: Path) -> None:
    async with database.opened(database_url) as opened:
        await opened.create_tables()
        await add(opened, said(1, "see you\x1b[2J"), said(2, user="ben"))

    async def messages(*words: str) -> tuple[str, str]:
        variables = {"CONSUMERS_DATABASE_URL": database_url}
        command = await ran(CONSUMERS, "messages", *words, folder=tmp_path, **variables)
        return command.out, command.err

    search = "search", "--conversation", SALES
    first, hint = await messages(*search, "-n", "1")
    assert first == "1970-01-01 00:00:01Z  ben: hello\n"
    second, _ = await messages(*search, *hint.split()[-2:])
    assert "ann: see you" in second
    assert "\x1b" not in second
    listed, _ = await messages(*search, "--text", "HELLO", "--json", "--until", "2026-01-31")
    assert msgspec.json.decode(listed)["sendId"] == "ben"
    erase_ann = "erase", "--user", "ann", "--reason", "asked by mail"
    assert await messages(*erase_ann, "--dry-run") == ("1 messages of ann\n", "")
    assert "1 erased" in (await messages(*erase_ann, "--yes"))[0]
    assert (await messages(*search))[0] == first


async def test_a_search_where_no_database_is_says_so(tmp_path: Path) -> None:
    words = "messages", "search", "--conversation", SALES
    command = await ran(CONSUMERS, *words, folder=tmp_path)
    assert await command.ended() == 4
    assert "there is no file" in command.err
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # a path would be read in a thread
