"""Friends in SQL: the same rows, in whatever order callbacks come, and however often."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import select, text

from bridge.contract import (
    AfterAddFriend,
    AfterAddFriendAgree,
    AfterDeleteFriend,
    AfterImportFriends,
    AfterRemoveBlack,
    AfterSetFriendRemark,
    BeforeAddBlack,
    Event,
)
from consumers import database
from consumers.context import Context, EventLog
from consumers.database import Database, DatabaseAway
from consumers.friends import relations, verifications
from consumers.friends.verifications import Verification, Wanted
from consumers.handlers.friend_verification import handlers
from tests.running import eventually

MORNING = datetime(2024, 7, 1, 8, tzinfo=UTC)
LOG = EventLog(logging.getLogger("tests"), {})


class Callback(NamedTuple):
    """An event as a worker gets it."""

    event: Event
    received: datetime
    message_id: str


async def handle(opened: Database, *callbacks: Callback) -> None:
    """Have callbacks handled, each in a transaction of its own, with no inbox to hold any."""
    for callback in callbacks:
        async with opened.transaction() as transaction:
            handler = handlers.of(type(callback.event))
            assert handler is not None
            context = Context(
                message_id=callback.message_id,
                attempt=1,
                received=callback.received,
                operation_id="",
                log=LOG,
                sql=transaction,
            )
            await handler.call(callback.event, context)


def said(number: int, **changed: object) -> Verification:
    """Give a friend verification message."""
    values: dict[str, object] = {
        "message_id": f"{number:036}",
        "kind": "application",
        "from_user_id": "a",
        "to_user_id": "b",
        "message": f"hello {number}",
        "result": None,
        "received": MORNING + timedelta(seconds=number),
    }
    return Verification(**(values | changed))  # type: ignore[arg-type]


async def add(opened: Database, *messages: Verification) -> None:
    """Add friend verification messages, each in a transaction of its own."""
    for message in messages:
        async with opened.transaction() as transaction:
            assert await verifications.add(transaction, message)


async def state(opened: Database) -> tuple[set[tuple[object, ...]], list[Verification]]:
    """Give all that is kept, but for the positions."""
    column = relations.TABLE.c
    columns = column.owner_user_id, column.aspect, column.other_user_id, column.holds
    async with opened.transaction() as transaction:
        found = await transaction.execute(select(*columns, column.words))
        messages = await verifications.newest(transaction, most=1000)
    return {tuple(row) for row in found}, messages


USERS = st.sampled_from("abc")
PAIR = {"owner_user_id": USERS, "friend_user_id": USERS}
BLACK = {"owner_user_id": USERS, "black_user_id": USERS}
ANSWER = {"from_user_id": USERS, "to_user_id": USERS}
EVENTS = st.one_of(
    st.builds(AfterAddFriend, **ANSWER, req_msg=st.sampled_from(["", "please"])),
    st.builds(
        AfterAddFriendAgree, **ANSWER, handle_msg=st.just("ok"), handle_result=st.just(1)
    ),
    st.builds(
        AfterImportFriends,
        owner_user_id=USERS,
        friend_user_ids=st.one_of(st.none(), st.lists(USERS, max_size=3)),
    ),
    st.builds(AfterDeleteFriend, **PAIR),
    st.builds(AfterSetFriendRemark, **PAIR, remark=st.sampled_from(["", "Bob", "B\0b"])),
    st.builds(BeforeAddBlack, **BLACK),
    st.builds(AfterRemoveBlack, **BLACK),
)


def received(events: Sequence[Event], times: Sequence[int]) -> list[Callback]:
    """Give callbacks with these times of receipt, some of them the same."""
    return [
        Callback(event, MORNING + timedelta(milliseconds=time), f"{number:036}")
        for number, (event, time) in enumerate(zip(events, times, strict=True))
    ]


@st.composite
def deliveries(draw: st.DrawFn) -> tuple[list[Callback], list[Callback]]:
    """Give callbacks in the order of their receipt, and in which they are handled."""
    events = draw(st.lists(EVENTS, min_size=1, max_size=8))
    times = [draw(st.integers(0, 3)) for _ in events]
    callbacks = received(events, times)
    again = draw(st.lists(st.sampled_from(callbacks), max_size=4))
    handled = draw(st.permutations([*callbacks, *again]))
    return sorted(callbacks, key=lambda each: each[1:]), handled


def become_friends(event: Event) -> list[tuple[str, str]]:
    """Give who becomes whose friend."""
    match event:
        case AfterAddFriendAgree(from_user_id=one, to_user_id=other):
            return [(one, other), (other, one)]
        case AfterImportFriends(owner_user_id=one, friend_user_ids=others):
            return [pair for other in others or [] for pair in ((one, other), (other, one))]
        case _:
            return []


def told(callbacks: Iterable[Callback]) -> set[tuple[object, ...]]:
    """Say what holds after callbacks in the order of their receipt, as a person would."""
    holds: dict[tuple[str, str, str], tuple[bool, str]] = {}
    for callback in callbacks:
        for one, other in become_friends(callback.event):
            holds[one, "friend", other] = True, ""
        match callback.event:
            case AfterDeleteFriend(owner_user_id=one, friend_user_id=other):
                holds[one, "friend", other] = holds[one, "remark", other] = False, ""
            case AfterSetFriendRemark(owner_user_id=one, friend_user_id=other, remark=words):
                words = words.replace("\0", "\N{REPLACEMENT CHARACTER}")
                holds[one, "remark", other] = bool(words), words
            case BeforeAddBlack(owner_user_id=one, black_user_id=other):
                holds[one, "black_list", other] = True, ""
            case AfterRemoveBlack(owner_user_id=one, black_user_id=other):
                holds[one, "black_list", other] = False, ""
            case _:
                pass
    return {(*key, *value) for key, value in holds.items()}


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(deliveries())
async def test_any_order_and_any_copies_end_in_the_same_rows(
    opened: Database, given_: tuple[list[Callback], list[Callback]]
) -> None:
    in_order, handled = given_
    async with opened.transaction() as transaction:
        await transaction.execute(relations.TABLE.delete())
        await transaction.execute(verifications.TABLE.delete())
    await handle(opened, *handled)
    related, messages = await state(opened)
    assert related == told(in_order)
    answers = AfterAddFriend, AfterAddFriendAgree
    ids = [each.message_id for each in in_order if isinstance(each.event, answers)]
    assert [message.message_id for message in messages] == ids[::-1]


async def test_lists_say_what_holds_now(opened: Database) -> None:
    events = [
        AfterAddFriendAgree(from_user_id="a", to_user_id="b"),
        AfterSetFriendRemark(owner_user_id="a", friend_user_id="b", remark="Bob"),
        AfterImportFriends(owner_user_id="a", friend_user_ids=["c", "d", "c"]),
        AfterDeleteFriend(owner_user_id="a", friend_user_id="c"),
        BeforeAddBlack(owner_user_id="a", black_user_id="x"),
        BeforeAddBlack(owner_user_id="a", black_user_id="y"),
        AfterRemoveBlack(owner_user_id="a", black_user_id="y"),
    ]
    await handle(opened, *received(events, range(len(events))))
    async with opened.transaction() as transaction:
        ours = await relations.friends(transaction, "a")
        rest = await relations.friends(transaction, "a", behind="b", most=1)
        theirs = await relations.friends(transaction, "c")
        blocked = await relations.black_list(transaction, "a")
    assert [(friend.user_id, friend.remark) for friend in ours] == [("b", "Bob"), ("d", "")]
    assert [friend.user_id for friend in rest] == ["d"]
    # Whoever deletes a friend stays on the friend's list, as in OpenIM.
    assert [friend.user_id for friend in theirs] == ["a"]
    assert [each.user_id for each in blocked] == ["x"]


async def test_a_user_who_is_deleted_and_befriended_again_has_no_remark(
    opened: Database,
) -> None:
    events = [
        AfterAddFriendAgree(from_user_id="a", to_user_id="b"),
        AfterSetFriendRemark(owner_user_id="a", friend_user_id="b", remark="Bob"),
        AfterDeleteFriend(owner_user_id="a", friend_user_id="b"),
        AfterAddFriendAgree(from_user_id="a", to_user_id="b"),
    ]
    await handle(opened, *received(events, range(len(events)))[::-1])
    async with opened.transaction() as transaction:
        ours = await relations.friends(transaction, "a")
    assert [(friend.user_id, friend.remark) for friend in ours] == [("b", "")]


async def test_workers_with_the_same_pairs_do_not_lock_each_other_out(opened: Database) -> None:
    pairs = [("a", "b"), ("b", "a")] * 10
    events = [AfterAddFriendAgree(from_user_id=one, to_user_id=other) for one, other in pairs]
    handling = [handle(opened, each) for each in received(events, range(len(events)))]
    await asyncio.wait_for(asyncio.gather(*handling), 20)
    assert len((await state(opened))[1]) == len(pairs)


WANTED = [
    (Wanted(), [5, 4, 3, 2, 1]),
    (Wanted(user="b"), [5, 4, 1]),
    (Wanted(from_user="b"), [5, 4]),
    (Wanted(to_user="b", kind="application"), [1]),
    (Wanted(kind="agreement"), [5]),
    (Wanted(since=MORNING + timedelta(seconds=4)), [5, 4]),
    (Wanted(user="nu\0l"), [3]),
    (Wanted(user="nobody"), []),
]


@pytest.mark.parametrize(("wanted", "numbers"), WANTED)
async def test_messages_are_found_by_what_is_wanted_of_them(
    opened: Database, wanted: Wanted, numbers: list[int]
) -> None:
    await add(
        opened,
        said(1),
        said(2, from_user_id="c", to_user_id="d"),
        said(3, from_user_id="nu\0l", to_user_id="d"),
        said(4, from_user_id="b", to_user_id="a"),
        said(5, from_user_id="b", to_user_id="a", kind="agreement", result=1),
    )
    async with opened.transaction() as transaction:
        found = await verifications.newest(transaction, wanted)
        everything = await verifications.after(transaction, 0, most=10)
    assert [int(message.message_id) for message in found] == numbers
    fitting = [message for _, message in everything if wanted.fits(message)]
    assert fitting[::-1] == found


async def test_a_message_that_came_late_stands_where_it_was_received(opened: Database) -> None:
    await add(opened, said(3), said(1), said(2))
    async with opened.transaction() as transaction:
        found = await verifications.newest(transaction)
        older = await verifications.newest(transaction, before=verifications.place(said(2)))
        behind = await verifications.after(transaction, 0, most=2)
    assert [int(message.message_id) for message in found] == [3, 2, 1]
    assert older == [said(1)]
    assert [message for _, message in behind] == [said(3), said(1)]


async def test_the_time_of_receipt_is_kept_to_the_millisecond(opened: Database) -> None:
    times = [verifications.moment(1_719_800_000_000 + ms) for ms in range(20)]
    await add(opened, *(said(n, received=time) for n, time in enumerate(times)))
    async with opened.transaction() as transaction:
        found = await verifications.newest(transaction)
    assert [message.received for message in found] == times[::-1]


# Positions

TURN = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"


async def waiting(opened: Database) -> int:
    """Give how many wait for their turn to add."""
    async with opened.transaction() as transaction:
        return int((await transaction.execute(text(TURN))).scalar_one())


async def positions(opened: Database) -> list[int]:
    """Give the positions of all messages."""
    async with opened.transaction() as transaction:
        return [each for each, _ in await verifications.after(transaction, 0, most=1000)]


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_no_message_becomes_visible_before_one_that_it_stands_behind(
    opened: Database, database_url: str
) -> None:
    async with (
        database.opened(database_url) as others,
        asyncio.TaskGroup() as tasks,
        opened.transaction() as transaction,
    ):
        await verifications.add(transaction, said(1))
        adding = tasks.create_task(add(others, said(2)))
        await eventually(lambda: waiting(others), lambda count: count == 1)
        assert await positions(others) == []
        assert not adding.done()
    async with opened.transaction() as transaction:
        found = await verifications.after(transaction, 0, most=10)
    assert [message for _, message in found] == [said(1), said(2)]


async def add_and_fall_silent(opened: Database) -> None:
    """Hold the turn until another has added as well."""
    async with opened.transaction() as transaction:
        await verifications.add(transaction, said(1))
        await asyncio.wait_for(add(opened, said(2)), 20)


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_worker_that_falls_silent_does_not_keep_others_from_adding(
    opened: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verifications, "LONGEST_TURN", "200ms")
    with pytest.raises(DatabaseAway):
        await add_and_fall_silent(opened)
    assert [message.message for message in (await state(opened))[1]] == ["hello 2"]
