"""The live stream of friend verification messages misses nothing, whoever breaks off when."""

import asyncio
import socket
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import pytest
from sqlalchemy import text

from consumers.database import Database
from consumers.friends import feed, stream, verifications
from consumers.friends.verifications import Verification
from consumers.handlers import friend_verification
from tests.commands import BRIDGE, ran
from tests.friends_api import (
    AUTHORIZED,
    STREAM,
    TOKEN,
    Listener,
    address,
    get,
    listening,
    serving,
)
from tests.line import line_to
from tests.running import DEADLINE, bridge, eventually
from tests.test_friends import add, said
from tests.test_worker import declared, working

ON_POSTGRESQL = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


async def test_a_stream_shows_what_is_added(opened: Database, database_url: str) -> None:
    await add(opened, said(1))
    async with serving(database_url) as backend, listening(backend) as listener:
        await add(opened, said(3), said(2, message="two\nlines"))
        events = [await listener.event(), await listener.event()]
    assert events == [said(3), said(2, message="two\nlines")]


async def test_a_stream_goes_on_behind_the_last_event_that_was_seen(
    opened: Database, database_url: str
) -> None:
    async with serving(database_url) as backend:
        async with listening(backend) as listener:
            first = listener.last_event_id
        await add(opened, said(1), said(2))
        async with listening(backend, first) as listener:
            assert await listener.event() == said(1)
        async with listening(backend, listener.last_event_id) as listener:
            assert await listener.event() == said(2)
        async with listening(backend, "0") as listener:
            assert await listener.event() == said(1)


async def test_a_stream_goes_on_behind_a_list(opened: Database, database_url: str) -> None:
    await add(opened, said(1), said(2))
    async with serving(database_url) as backend:
        _, page = await get(backend, "/friends/verifications")
        await add(opened, said(3))
        async with listening(backend, page["last_event_id"]) as listener:
            assert await listener.event() == said(3)


async def test_a_stream_shows_only_what_is_wanted_and_moves_on_all_the_same(
    opened: Database, database_url: str
) -> None:
    async with (
        serving(database_url, heartbeat=0.5) as backend,
        listening(backend, user="c") as listener,
    ):
        await add(opened, *(said(number) for number in range(5)))
        await add(opened, said(5, to_user_id="c"), said(6))
        assert await listener.event() == said(5, to_user_id="c")
        seen = listener.last_event_id
        async with asyncio.timeout(DEADLINE):
            while listener.last_event_id == seen:
                assert await listener.block() is None
        assert int(listener.last_event_id) > int(seen)


async def test_what_is_older_than_memory_is_read_from_sql(
    opened: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed, "KEPT", 1000)
    monkeypatch.setattr(feed, "AT_ONCE", 7)
    numbers = range(30)
    async with serving(database_url) as backend:
        async with listening(backend) as listener:
            await add(opened, *(said(number) for number in numbers))
            late = [await listener.event() for _ in numbers]
        async with listening(backend, "0") as listener:
            early = [await listener.event() for _ in numbers]
    assert late == early == [said(number) for number in numbers]


SLOW_COMMIT = text("SELECT pg_sleep(random() * 0.03)")


async def slowly(opened: Database, message: Verification) -> None:
    """Add a message, and commit after a while: not in the order in which others began."""
    async with opened.transaction() as transaction:
        await verifications.add(transaction, message)
        await transaction.execute(SLOW_COMMIT)


async def listen_and_break_off(
    backend: aiohttp.ClientSession, count: int
) -> list[tuple[str, Verification]]:
    """Read so many events, leaving the stream after a few of them and coming back."""
    seen: list[tuple[str, Verification]] = []
    last_event_id = "0"
    while len(seen) < count:
        async with listening(backend, last_event_id) as listener:
            for _ in range(1 + len(seen) % 4):
                if len(seen) < count:
                    event = await listener.event()
                    seen.append((listener.last_event_id, event))
        last_event_id = listener.last_event_id
    return seen


@ON_POSTGRESQL
async def test_nothing_is_missed_while_many_write_and_readers_break_off(
    opened: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It looks between any two commits.
    monkeypatch.setattr(feed, "INTERVAL", 0.0)
    messages = [said(number) for number in range(60)]
    async with serving(database_url) as backend, asyncio.TaskGroup() as tasks:
        readers = [
            tasks.create_task(listen_and_break_off(backend, len(messages))) for _ in range(3)
        ]
        for message in messages:
            tasks.create_task(slowly(opened, message))
        async with asyncio.timeout(DEADLINE):
            seen = await asyncio.gather(*readers)
    assert seen[0] == seen[1] == seen[2]
    positions = [int(position) for position, _ in seen[0]]
    assert positions == sorted(set(positions))
    assert {event.message_id for _, event in seen[0]} == {each.message_id for each in messages}


async def test_an_event_that_never_was_is_refused(opened: Database, database_url: str) -> None:
    await add(opened, said(1))
    async with serving(database_url) as backend:
        unknown = await get(backend, STREAM, headers={"Last-Event-ID": "99"})
        nonsense = await get(backend, STREAM, headers={"Last-Event-ID": "-1"})
    assert (unknown[0], unknown[1]["error"]) == (409, "event_unknown")
    assert (nonsense[0], nonsense[1]["error"]) == (400, "bad_event_id")


# Clients and their number


@pytest.mark.usefixtures("opened")
async def test_there_are_so_many_streams_and_who_leaves_makes_room(database_url: str) -> None:
    async with serving(database_url, streams=2) as backend:
        async with listening(backend), listening(backend), backend.get(STREAM) as response:
            refused = response.status, response.headers["Retry-After"]
            assert (await response.json())["error"] == "too_many_streams"
        await eventually(lambda: _status(backend), lambda status: status == 200)
    assert refused == (503, "5")


async def _status(backend: aiohttp.ClientSession) -> int:
    async with backend.get(STREAM) as response:
        return response.status


async def test_a_client_that_does_not_read_is_left(
    opened: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "PATIENCE", 0.5)
    words = "x" * 100_000
    loop = asyncio.get_running_loop()
    async with serving(database_url, streams=1) as backend:
        url = address(backend)
        asks = f"GET {STREAM} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
        with socket.socket() as deaf:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.settimeout(0)
            await loop.sock_connect(deaf, (url.host, url.port))
            await loop.sock_sendall(deaf, asks.encode())
            assert await loop.sock_recv(deaf, 12) == b"HTTP/1.1 200"
            assert await _status(backend) == 503
            await add(opened, *(said(number, message=words) for number in range(100)))
            await eventually(lambda: _status(backend), lambda status: status == 200)


@pytest.mark.usefixtures("opened")
async def test_a_stop_ends_the_streams_at_once(database_url: str) -> None:
    async with AsyncExitStack() as client:
        async with serving(database_url, heartbeat=300) as backend:
            url = address(backend) / STREAM[1:]
            session = await client.enter_async_context(aiohttp.ClientSession())
            response = await session.get(url, headers=AUTHORIZED)
            listener = Listener(response.content)
            await listener.says("from here on")
        # It was woken, not cut off.
        await listener.says("the API stops")
        with pytest.raises(EOFError):
            await listener.block()


# A database that is away


@ON_POSTGRESQL
async def test_a_stream_outlives_a_database_that_is_away(
    opened: Database, database_url: str
) -> None:
    async with (
        line_to(database_url) as line,
        serving(line.url, heartbeat=0.3) as backend,
    ):
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 200)
        async with listening(backend) as listener, listening(backend, "0") as behind:
            line.cut()
            await listener.says("the database is unavailable")
            await add(opened, said(1), said(2))
            await line.mend()
            events = [await listener.event(), await listener.event()]
            assert [await behind.event(), await behind.event()] == events
    assert events == [said(1), said(2)]


# All the way


async def test_an_agreement_is_on_the_stream_within_a_second_of_its_receipt(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    delays: list[float] = []
    async with (
        bridge(tmp_path, amqp_url) as running,
        working(amqp_url, database_url, friend_verification.handlers),
        serving(database_url) as backend,
    ):
        await declared(amqp_url, "friend_verification")
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 200)
        async with listening(backend) as listener:
            for _ in range(3):
                sent = await ran(
                    *(BRIDGE, "send", "AfterAddFriendAgree", "--url", running.url),
                    folder=tmp_path,
                )
                event = await listener.event()
                delays.append((datetime.now(UTC) - event.received).total_seconds())
                assert sent.process.returncode == 0
    assert (event.kind, event.from_user_id, event.to_user_id) == (
        "agreement",
        "user_a",
        "user_b",
    )
    # The quickest: on a machine with much to do, any one may be held up.
    assert min(delays) < 1
