"""The console's index: found quickly, and counted once."""

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from consumers.console.index import Event, Index, Wanted
from consumers.console.parties import GROUP, USER, Party, parties

NOW = int(time.time() * 1000)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    """An index of a thousand events."""
    with closing(Index(str(tmp_path / "index.db"), 1000)) as made:
        yield made


def event(seq: int) -> Event:
    """Give an event about ann, and about a group of its own."""
    return Event(
        seq=seq,
        message_id=f"m{seq}",
        received_ms=NOW + seq,
        command="callbackAfterAddFriendCommand",
        routing_key="friend.after.add_friend",
        operation_id=f"o{seq}",
        ordering_key="ann",
        verdict="",
        source="",
        decision_ms="",
        bytes=100,
        seen_ms=None,
        parties=frozenset({Party(USER, "ann"), Party(GROUP, f"g{seq}")}),
    )


def attempt(seq: int, outcome: str, seconds: float) -> tuple[Any, ...]:
    """Give an attempt of the shop's only worker."""
    of_shop = ("shop", "shop.sell", None, 1, outcome, NOW + seq, seconds)
    return (f"m{seq}", *of_shop, "worker", "host", "", None)


async def test_what_a_worker_did_is_counted_once_however_often_it_is_read(index: Index) -> None:
    attempts = [attempt(1, "handled", 0.1), attempt(2, "dead_letter", 0.3)]
    await index.add_attempts(attempts)
    await index.add_attempts(attempts)
    (row,) = await index.workers(900)
    assert (row["count"], row["failed"], row["last_ms"]) == (2, 1, NOW + 2)
    assert row["seconds"] == pytest.approx(0.2)


async def test_events_of_a_user_in_a_group_come_newest_first(index: Index) -> None:
    await index.add([event(seq) for seq in range(5)])
    of_ann = await index.events(Wanted(user="ann"), 3)
    in_group = await index.events(Wanted(user="ann", group="g2"), 3)
    assert [row["seq"] for row in of_ann] == [4, 3, 2]
    assert [row["seq"] for row in in_group] == [2]
    assert (await index.span())[0] == 5
    assert (await index.commands()) == {"callbackAfterAddFriendCommand": (5, NOW + 4)}


async def test_of_too_many_events_the_oldest_go(index: Index) -> None:
    await index.add([event(seq) for seq in range(1500)])
    assert await index.span() == (1000, NOW + 500)


def test_a_body_as_deep_as_it_can_be_names_its_users_as_well() -> None:
    body = b'{"fromUserID":"ann","groupID":"g","ex":%b"x"%b}' % (b"[" * 1000, b"]" * 1000)
    assert parties(body) == {Party(USER, "ann"), Party(GROUP, "g")}
    assert parties(b"[" * 100_000) == frozenset()


def test_a_user_in_a_list_or_inside_of_an_object_is_named() -> None:
    body = b'{"memberUserIDs":["ann","bob"],"users":[{"userID":"cid","nickname":"x"}],"n":1}'
    assert parties(body) == {Party(USER, name) for name in ("ann", "bob", "cid")}
