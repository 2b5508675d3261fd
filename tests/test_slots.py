"""Processes that share a folder have a journal each."""

import errno
import os
from pathlib import Path

import pytest

from bridge import segments, slots
from bridge.journal import JournalBroken
from bridge.slots import JournalInUse

QUOTA = 2**26


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def test_each_process_takes_a_slot_of_its_own(tmp_path: Path) -> None:
    with slots.taken(tmp_path, QUOTA), slots.taken(tmp_path, QUOTA):
        assert names(tmp_path) == ["0", "1"]


async def test_a_slot_is_free_again_when_its_process_is_gone(tmp_path: Path) -> None:
    with slots.taken(tmp_path, QUOTA):
        pass
    with slots.taken(tmp_path, QUOTA):
        assert names(tmp_path) == ["0"]


async def test_a_journal_in_use_cannot_be_opened_again(tmp_path: Path) -> None:
    with (
        slots.opened(tmp_path, QUOTA),
        pytest.raises(JournalInUse, match="in use by another process"),
        slots.opened(tmp_path, QUOTA),
    ):
        pass


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.EACCES, "Permission denied; name a folder that this user may write to"),
        (errno.ENOSPC, "No space left on device; make room"),
        (errno.ENOTDIR, "Not a directory"),
    ],
)
async def test_a_folder_that_cannot_be_made_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, says: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(JournalBroken, match=f"/0: {says}$"),
        slots.opened(tmp_path / "0", QUOTA),
    ):
        pass


async def test_slots_end_somewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "MOST", 1)
    with (
        slots.taken(tmp_path, QUOTA),
        pytest.raises(JournalBroken, match="all 1 journals in"),
        slots.taken(tmp_path, QUOTA),
    ):
        pass


async def test_only_a_slot_that_holds_something_is_left_behind(tmp_path: Path) -> None:
    with slots.taken(tmp_path, QUOTA), slots.taken(tmp_path, QUOTA) as second:
        second.store(b"left")
    with slots.taken(tmp_path, QUOTA):
        assert slots.left_behind(tmp_path) == [tmp_path / "1"]
    assert len(segments.segments(tmp_path / "1")) == 1


async def test_what_is_no_slot_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "7").write_text("in the way")
    with slots.taken(tmp_path, QUOTA):
        assert slots.left_behind(tmp_path) == []
