"""What is answered must be on disk, and stay readable whatever happens to the files."""

import asyncio
import errno
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge import journal as journals
from bridge import segments, slots
from bridge.journal import Journal, JournalBroken, JournalFull
from tests.running import until

QUOTA = 2**30
SMALL_SEGMENT = 4096


@pytest.fixture(autouse=True)
def _small_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "SEGMENT_SIZE", SMALL_SEGMENT)


@asynccontextmanager
async def running(folder: Path, quota: int = QUOTA) -> AsyncIterator[Journal]:
    """Open a journal and run it during the block."""
    with slots.opened(folder, quota) as journal:
        task = asyncio.create_task(journal.run())
        yield journal
        task.cancel()
        await asyncio.wait([task])


async def store(journal: Journal, *payloads: bytes) -> None:
    await asyncio.gather(*(journal.store(payload) for payload in payloads))


async def payloads(journal: Journal, after: int = 0) -> list[bytes]:
    """Read everything after a number, in small batches, as the forwarder would."""
    found: list[bytes] = []
    while after < journal.newest:
        batch = await asyncio.wait_for(journal.read(after, 3), 5)
        found += [record.payload for record in batch]
        after = batch[-1].number
    return found


def numbered(count: int, size: int = 20) -> list[bytes]:
    return [f"{number:0{size}}".encode() for number in range(count)]


async def test_what_is_stored_can_be_read_in_order(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *numbered(10))
        assert await payloads(journal) == numbered(10)


async def test_what_is_stored_outlives_the_process(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *numbered(5))
    async with running(tmp_path) as journal:
        await store(journal, b"later")
        assert await payloads(journal) == [*numbered(5), b"later"]


async def test_what_is_confirmed_is_not_read_again(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *numbered(5))
        journal.confirm(3)
    async with running(tmp_path) as journal:
        assert journal.confirmed == 3
        assert journal.depth == 2
        assert await payloads(journal, journal.confirmed) == numbered(5)[3:]


async def test_one_sync_covers_all_that_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    sync = os.fdatasync

    def count(file: int) -> None:
        synced.append(file)
        sync(file)

    monkeypatch.setattr(os, "fdatasync", count)
    async with running(tmp_path) as journal:
        await store(journal, *numbered(500))
    assert len(synced) <= 2


async def test_nothing_counts_as_stored_before_its_sync(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = False
    sync = os.fdatasync

    def note(file: int) -> None:
        nonlocal synced
        sync(file)
        synced = True

    monkeypatch.setattr(os, "fdatasync", note)
    async with running(tmp_path) as journal:
        stored = journal.store(b"x")
        stored.add_done_callback(lambda _: order.append(synced))
        order: list[bool] = []
        await stored
        await asyncio.wait_for(journal.read(0, 1), 5)
    assert order == [True]


async def test_segments_whose_records_are_confirmed_are_removed(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        for payload in numbered(40, size=1000):
            await store(journal, payload)
        before = len(segments.segments(tmp_path))
        journal.confirm(journal.newest)
        await store(journal, b"one more")
        after = len(segments.segments(tmp_path))
    assert before > 5
    assert after == 1


async def test_a_backlog_larger_than_memory_is_read_from_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "AHEAD_SIZE", 3000)
    monkeypatch.setattr(journals, "CHUNK_SIZE", 1500)
    async with running(tmp_path) as journal:
        for payload in numbered(60, size=1000):
            await store(journal, payload)
        assert await payloads(journal) == numbered(60, size=1000)


async def test_a_reader_may_go_back_to_what_is_not_confirmed(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *numbered(9))
        await payloads(journal)
        await store(journal, b"new")
        assert await payloads(journal, after=4) == [*numbered(9)[4:], b"new"]


async def test_a_reader_waits_for_what_comes(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        reading = asyncio.ensure_future(journal.read(0, 10))
        await store(journal, b"x")
        assert [record.payload for record in await asyncio.wait_for(reading, 5)] == [b"x"]


async def test_a_record_larger_than_a_segment_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "CHUNK_SIZE", 100)
    large = os.urandom(50_000)
    async with running(tmp_path) as journal:
        await store(journal, b"a", large, b"b")
        await store(journal, b"c")
        assert await payloads(journal) == [b"a", large, b"b", b"c"]


async def test_a_full_journal_refuses_and_recovers(tmp_path: Path) -> None:
    async with running(tmp_path, quota=2 * SMALL_SEGMENT) as journal:
        for payload in numbered(8, size=1000):
            await store(journal, payload)
        with pytest.raises(JournalFull, match="quota of 8192 bytes"):
            await store(journal, b"x" * 1000)
        journal.confirm(journal.newest)
        await store(journal, b"there is room again" * 50)
        assert await payloads(journal, after=8) == [b"there is room again" * 50]


async def test_a_disk_that_is_full_refuses_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = os.pwrite
    full = False

    def fill(file: int, data: bytes, offset: int) -> int:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, data, offset)

    monkeypatch.setattr(os, "pwrite", fill)
    async with running(tmp_path) as journal:
        await store(journal, b"before")
        full = True
        with pytest.raises(JournalFull, match="No space left"):
            await store(journal, b"refused")
        full = False
        await store(journal, b"after")
        assert await payloads(journal) == [b"before", b"after"]


async def test_on_a_disk_that_is_full_what_is_confirmed_makes_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_file: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    stored = numbered(6, size=1000)
    async with running(tmp_path) as journal:
        for payload in stored:
            await store(journal, payload)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fill)
            with pytest.raises(JournalFull, match="No space left"):
                await store(journal, b"refused")
            full, size = journal.full, journal.size
            journal.confirm(4)
            await until(lambda: journal.size < size)
        assert (full, journal.full) == (True, False)
        await store(journal, b"after")
        assert await payloads(journal, after=4) == [*stored[4:], b"after"]


async def test_a_new_journal_opens_on_a_disk_that_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_file: int, _data: bytes, _offset: int) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", fill)
        async with running(tmp_path) as journal:
            with pytest.raises(JournalFull, match="No space left"):
                await store(journal, b"refused")


async def test_a_failing_disk_ends_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with slots.opened(tmp_path, QUOTA) as journal:
        task = asyncio.ensure_future(journal.run())
        await journal.store(b"before")
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fail)
            stored = journal.store(b"never answered")
            with pytest.raises(OSError, match="Input/output error"):
                await task
    assert not stored.done()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(JournalBroken, match="no journal can be kept in"),
        slots.opened(tmp_path / "file" / "journal", QUOTA),
    ):
        pass


async def test_a_segment_of_another_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{1:020}").write_bytes(b"OIMJRNL9" + bytes(100))
    with (
        pytest.raises(JournalBroken, match="not a journal segment of this version"),
        slots.opened(tmp_path, QUOTA),
    ):
        pass


async def test_what_waits_at_a_stop_is_stored(tmp_path: Path) -> None:
    with slots.opened(tmp_path, QUOTA) as journal:
        journal.store(b"answered before it was stored")
    async with running(tmp_path) as journal:
        assert await payloads(journal) == [b"answered before it was stored"]


async def test_a_crash_before_the_first_record_leaves_a_usable_journal(tmp_path: Path) -> None:
    segments.Segment(tmp_path, 1, SMALL_SEGMENT).close()
    async with running(tmp_path) as journal:
        await store(journal, b"x")
        assert await payloads(journal) == [b"x"]


@pytest.mark.parametrize("left", [b"", b"\0" * SMALL_SEGMENT, segments.HEAD[:3]])
@pytest.mark.parametrize("before", [[], numbered(3)])
async def test_a_crash_while_a_segment_is_made_leaves_a_usable_journal(
    tmp_path: Path, left: bytes, before: list[bytes]
) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *before)
    made = tmp_path / f"{len(before) + 1:020}"
    made.write_bytes(left)
    assert segments.read(made, 0, 0, 2**20).damage == []
    async with running(tmp_path) as journal:
        await store(journal, b"x")
        assert await payloads(journal) == [*before, b"x"]


async def test_a_lost_mark_means_copies_and_no_losses(tmp_path: Path) -> None:
    async with running(tmp_path) as journal:
        await store(journal, *numbered(5))
        journal.confirm(3)
    (tmp_path / "confirmed").write_bytes(b"\xff" * 12)
    async with running(tmp_path) as journal:
        assert await payloads(journal, journal.confirmed) == numbered(5)


LENGTH_OF_THREE = len(segments.HEAD) + 3 * segments.record_size(b"0123456789")


@pytest.mark.parametrize("length", range(len(segments.HEAD), LENGTH_OF_THREE))
async def test_a_tail_torn_at_any_byte_costs_only_the_torn_record(
    tmp_path: Path, length: int
) -> None:
    async with running(tmp_path) as journal:
        for _ in range(3):
            await store(journal, b"0123456789")
        (segment,) = segments.segments(tmp_path)
    os.truncate(segment, length)
    whole = (length - len(segments.HEAD)) // segments.record_size(b"0123456789")
    async with running(tmp_path) as journal:
        await store(journal, b"after the crash")
        expected = [b"0123456789"] * whole + [b"after the crash"]
        assert await payloads(journal) == expected


@pytest.mark.parametrize("offset", range(len(segments.HEAD), LENGTH_OF_THREE))
async def test_a_flipped_byte_costs_one_record_and_is_reported(
    tmp_path: Path, offset: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as journal:
        for _ in range(3):
            await store(journal, b"0123456789")
        (segment,) = segments.segments(tmp_path)
    data = bytearray(segment.read_bytes())
    data[offset] ^= 0xFF
    segment.write_bytes(data)
    async with running(tmp_path) as journal:
        await store(journal, b"after")
        found = await payloads(journal)
        journal.confirm(journal.newest)
        await store(journal, b"later")
    assert found == [b"0123456789", b"0123456789", b"after"]
    reports = [record for record in caplog.records if record.message == "journal damaged"]
    assert [record.levelno for record in reports] == [logging.ERROR]
    assert bytes(data) == segment.with_suffix(".damaged").read_bytes()


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.binary(max_size=3000), max_size=5), max_size=8))
def test_any_payloads_in_any_batches_come_back(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[bytes]]
) -> None:
    async def through() -> list[bytes]:
        async with running(tmp_path_factory.mktemp("journal")) as journal:
            for batch in batches:
                await store(journal, *batch)
            return await payloads(journal)

    assert asyncio.run(through()) == [payload for batch in batches for payload in batch]
