"""The index of events: what passed, and what came of it, in an SQLite file of the console's.

It holds no body. RabbitMQ's streams hold all that is in it, so it is made anew at each
start, needs no sync, and forgets the oldest when it is full.

    event    one row for each callback, by the order in the archive
    party    which users and groups an event names
    attempt  what came of each attempt of each handler
    work     what each worker did, by minutes: attempts added up as they come
"""

import asyncio
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

from consumers.console.parties import GROUP, USER, Party

Row: TypeAlias = sqlite3.Row

ATTEMPTS_EACH = 5
"""Attempts that are kept, for each event that is."""

MINUTES = 60
"""For which it is kept what workers did."""

_SCHEMA = """
CREATE TABLE event (
    seq INTEGER PRIMARY KEY, message_id TEXT NOT NULL UNIQUE, received_ms INTEGER NOT NULL,
    command TEXT NOT NULL, routing_key TEXT NOT NULL, operation_id TEXT NOT NULL,
    ordering_key TEXT NOT NULL, verdict TEXT NOT NULL, source TEXT NOT NULL,
    decision_ms TEXT NOT NULL, bytes INTEGER NOT NULL, seen_ms INTEGER,
    outcome TEXT NOT NULL DEFAULT '');
CREATE INDEX event_by_command ON event (command, seq);
CREATE INDEX event_by_outcome ON event (outcome, seq);
CREATE INDEX event_by_operation ON event (operation_id);
CREATE INDEX event_by_time ON event (received_ms);
CREATE TABLE party (
    kind INTEGER NOT NULL, id TEXT NOT NULL, seq INTEGER NOT NULL,
    PRIMARY KEY (kind, id, seq)) WITHOUT ROWID;
CREATE INDEX party_by_event ON party (seq);
CREATE TABLE attempt (
    number INTEGER PRIMARY KEY, message_id TEXT NOT NULL, subscription TEXT NOT NULL,
    handler TEXT NOT NULL, partition INTEGER, attempt INTEGER NOT NULL, outcome TEXT NOT NULL,
    began_ms INTEGER NOT NULL, seconds REAL NOT NULL, worker TEXT NOT NULL,
    host TEXT NOT NULL, error TEXT NOT NULL, again_ms INTEGER,
    UNIQUE (message_id, subscription, handler, attempt, began_ms));
CREATE TABLE work (
    minute INTEGER NOT NULL, subscription TEXT NOT NULL, host TEXT NOT NULL,
    worker TEXT NOT NULL, count INTEGER NOT NULL, failed INTEGER NOT NULL,
    seconds REAL NOT NULL, last_ms INTEGER NOT NULL,
    PRIMARY KEY (minute, subscription, host, worker)) WITHOUT ROWID;
CREATE TRIGGER work_grows AFTER INSERT ON attempt BEGIN
    INSERT INTO work VALUES (
        new.began_ms / 60000, new.subscription, new.host, new.worker, 1,
        new.outcome IN ('waits', 'dead_letter'), new.seconds, new.began_ms)
    ON CONFLICT DO UPDATE SET
        count = count + 1, failed = failed + excluded.failed,
        seconds = seconds + excluded.seconds, last_ms = MAX(last_ms, excluded.last_ms);
END;
"""

_OUTCOME = """
UPDATE event SET outcome = COALESCE((
    SELECT outcome FROM (
        SELECT outcome, MAX(began_ms) FROM attempt
        WHERE message_id = event.message_id GROUP BY subscription)
    ORDER BY CASE outcome WHEN 'dead_letter' THEN 0 WHEN 'paused' THEN 1 WHEN 'waits' THEN 2
        WHEN 'handled' THEN 3 ELSE 4 END LIMIT 1), '')
WHERE message_id = ?
"""
"""What an event came to: the worst of it, if several subscriptions came to different ends."""


class Event(NamedTuple):
    """A callback, as the archive has it."""

    seq: int
    """Its place in the archive."""
    message_id: str
    received_ms: int
    command: str
    routing_key: str
    operation_id: str
    ordering_key: str
    verdict: str
    source: str
    """Of the verdict."""
    decision_ms: str
    bytes: int
    """Of its body."""
    seen_ms: int | None
    """When it came by; None if that was before the console started."""
    parties: frozenset[Party]


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which events are wanted: those of which all of this holds."""

    text: str = ""
    """A message id or an operation id."""
    command: str = ""
    user: str = ""
    group: str = ""
    outcome: str = ""
    """What it came to; `none` if no handler has tried yet."""
    since: float | None = None
    """Seconds since 1970."""
    until: float | None = None
    before: int | None = None
    """Only what stands before this place."""

    def __bool__(self) -> bool:
        """Say whether anything is asked for but the place."""
        return self != Wanted(before=self.before)


class Index:
    """The index.

    Args:
        path: Its file; what is there is removed.
        most: Events in it.

    """

    def __init__(self, path: str, most: int) -> None:
        self._most = most
        for ending in ("", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(path + ending).unlink()
        self._writing = _opened(path)
        self._writing.executescript(_SCHEMA)
        self._reading = _opened(path)
        self._reading.execute("PRAGMA query_only=ON")
        self._write_turn, self._read_turn = asyncio.Lock(), asyncio.Lock()
        self.version = 0
        """Another one whenever something was added."""
        self.trouble = "the archive was not read yet"
        """Why the archive cannot be followed; empty if it can."""
        self.no_outcomes = "the stream of outcomes was not read yet"
        """Why attempts are not known; empty if they are."""

    def close(self) -> None:
        """Let go of the file."""
        self._reading.close()
        self._writing.close()

    async def add(self, events: Sequence[Event]) -> None:
        """Take in events; those that are there already stay as they are."""
        async with self._write_turn:
            await asyncio.to_thread(self._add, events)
        self.version += 1

    def _add(self, events: Sequence[Event]) -> None:
        with self._writing as sql:
            sql.executemany(
                "INSERT OR IGNORE INTO event (seq, message_id, received_ms, command,"
                " routing_key, operation_id, ordering_key, verdict, source, decision_ms, bytes,"
                " seen_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [event[:-1] for event in events],
            )
            sql.executemany(
                "INSERT OR IGNORE INTO party (kind, id, seq) VALUES (?, ?, ?)",
                [(*party, event.seq) for event in events for party in event.parties],
            )
            sql.executemany(_OUTCOME, [(event.message_id,) for event in events])
            oldest = events[-1].seq - self._most
            sql.execute("DELETE FROM party WHERE seq <= ?", (oldest,))
            sql.execute("DELETE FROM event WHERE seq <= ?", (oldest,))

    async def clear(self) -> None:
        """Forget all events: others come, at the same places."""
        async with self._write_turn:
            everything = "DELETE FROM party; DELETE FROM event"
            await asyncio.to_thread(self._writing.executescript, everything)
        self.version += 1

    async def add_attempts(self, attempts: Sequence[tuple[Any, ...]]) -> None:
        """Take in attempts, each with the columns of the table in their order."""
        async with self._write_turn:
            await asyncio.to_thread(self._add_attempts, attempts)
        self.version += 1

    def _add_attempts(self, attempts: Sequence[tuple[Any, ...]]) -> None:
        with self._writing as sql:
            sql.executemany(
                "INSERT OR IGNORE INTO attempt (message_id, subscription, handler, partition,"
                " attempt, outcome, began_ms, seconds, worker, host, error, again_ms)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                attempts,
            )
            sql.executemany(_OUTCOME, [(id_,) for id_ in {each[0] for each in attempts}])
            old = "DELETE FROM attempt WHERE number <= (SELECT MAX(number) FROM attempt) - ?"
            sql.execute(old, (self._most * ATTEMPTS_EACH,))
            sql.execute("DELETE FROM work WHERE minute < ?", (time.time() // 60 - MINUTES,))

    async def _ask(self, query: str, values: Iterable[Any] = ()) -> list[Row]:
        async with self._read_turn:
            return await asyncio.to_thread(
                lambda: self._reading.execute(query, tuple(values)).fetchall()
            )

    async def events(self, wanted: Wanted, most: int) -> list[Row]:
        """Give events, the newest first."""
        conditions, values = ["TRUE"], list[Any]()
        parties = [each for each in ((USER, wanted.user), (GROUP, wanted.group)) if each[1]]
        names = [f"p{kind}" for kind, _ in parties]
        for name, (kind, id_) in zip(names, parties, strict=True):
            conditions.append(f"{name}.seq = e.seq AND {name}.kind = {kind} AND {name}.id = ?")
            values.append(id_)
        # In this order SQLite goes down the index of the first, and need not sort.
        sources = " CROSS JOIN ".join([*(f"party AS {name}" for name in names), "event AS e"])
        for condition, value in _conditions(wanted):
            conditions.append(condition)
            values += value
        return await self._ask(
            f"SELECT e.* FROM {sources} WHERE {' AND '.join(conditions)}"  # noqa: S608
            f" ORDER BY {[*names, 'e'][0]}.seq DESC LIMIT ?",
            [*values, most],
        )

    async def event(self, message_id: str) -> Row | None:
        """Give one event."""
        found = await self._ask("SELECT * FROM event WHERE message_id = ?", [message_id])
        return found[0] if found else None

    async def attempts(self, message_id: str) -> list[Row]:
        """Give the attempts at an event, the oldest first."""
        query = "SELECT * FROM attempt WHERE message_id = ? ORDER BY began_ms, number"
        return await self._ask(query, [message_id])

    async def parties(self, seq: int) -> list[Row]:
        """Give the users and groups that an event names."""
        return await self._ask("SELECT kind, id FROM party WHERE seq = ?", [seq])

    async def commands(self) -> dict[str, tuple[int, int]]:
        """Give how many of each callback are here, and when the last was received."""
        found = await self._ask(
            "SELECT command, COUNT(*) AS count, MAX(seq) AS seq FROM event GROUP BY command"
        )
        places = ",".join(str(row["seq"]) for row in found)
        times = {
            row["seq"]: row["received_ms"]
            for row in await self._ask(
                f"SELECT seq, received_ms FROM event WHERE seq IN ({places})"  # noqa: S608
            )
        }
        return {row["command"]: (row["count"], times.get(row["seq"], 0)) for row in found}

    async def span(self) -> tuple[int, int | None]:
        """Give how many events are here, and when the oldest was received."""
        (row,) = await self._ask(
            # Each by itself is a look at one end of the table, together they are a scan.
            "SELECT COALESCE((SELECT MAX(seq) FROM event) + 1 - (SELECT MIN(seq) FROM event),"
            " 0) AS count, (SELECT received_ms FROM event ORDER BY seq LIMIT 1) AS oldest"
        )
        return row["count"], row["oldest"]

    async def workers(self, seconds: float) -> list[Row]:
        """Give which worker tried what lately, by whole minutes, and how it went."""
        since = (time.time() - seconds) // 60
        return await self._ask(
            "SELECT subscription, host, worker, SUM(count) AS count, SUM(failed) AS failed,"
            " SUM(seconds) / SUM(count) AS seconds, MAX(last_ms) AS last_ms"
            " FROM work WHERE minute >= ? GROUP BY subscription, host, worker"
            " ORDER BY subscription, host, worker LIMIT 200",
            [since],
        )


def _conditions(wanted: Wanted) -> Iterable[tuple[str, list[Any]]]:
    if wanted.text:
        yield "(e.message_id = ? OR e.operation_id = ?)", [wanted.text, wanted.text]
    if wanted.command:
        yield "e.command = ?", [wanted.command]
    if wanted.outcome:
        yield "e.outcome = ?", ["" if wanted.outcome == "none" else wanted.outcome]
    if wanted.since is not None:
        yield "e.received_ms >= ?", [wanted.since * 1000]
    if wanted.until is not None:
        yield "e.received_ms < ?", [wanted.until * 1000]
    if wanted.before is not None:
        yield "e.seq < ?", [wanted.before]


def _opened(path: str) -> sqlite3.Connection:
    # One thread at a time, but not always the same.
    connection = sqlite3.connect(path, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    # What a crash would damage is made anew at the next start anyway.
    for pragma in ("journal_mode=WAL", "synchronous=OFF", "cache_size=-8000"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
