"""A journal looked at from outside: nothing changes, and its owner may go on writing."""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from bridge import mark, segments, set_aside
from bridge.segments import Damage, Record

CHUNK = 2**20
"""Bytes read at once."""


@dataclass(kw_only=True)
class Slot:
    """The journal of one process, as it was found."""

    folder: Path
    in_use: bool
    confirmed: int
    """Every record up to this number is in RabbitMQ."""
    records: int = 0
    waiting: int = 0
    """Records that are not confirmed."""
    first: int = 0
    last: int = 0
    """Numbers of the first and the last record."""
    size: int = 0
    """Bytes on disk."""
    damage: list[Damage] = field(default_factory=list)
    torn: list[Damage] = field(default_factory=list)
    """What a write left that never ended, or that goes on just now: nothing in it was
    answered."""
    set_aside: list[Path] = field(default_factory=list)
    damaged_files: list[Path] = field(default_factory=list)


def folders(path: Path) -> list[Path]:
    """List the slots in a journal's folder; or itself, if it is a slot."""
    if not path.is_dir():
        return []
    if (path / "lock").exists():
        return [path]
    found = [each for each in path.iterdir() if each.name.isdigit() and each.is_dir()]
    return sorted(found, key=lambda each: int(each.name))


def segments_in(path: Path) -> list[Path]:
    """List the segments of all slots."""
    return [segment for folder in folders(path) for segment in segments.segments(folder)]


def size(path: Path) -> int:
    """Give the bytes that all slots take on disk."""
    return sum(_size(file) for folder in folders(path) for file in _files(folder))


def slots(path: Path, progress: Callable[[int], None] = lambda _: None) -> list[Slot]:
    """Read all slots.

    Args:
        path: A journal's folder.
        progress: Told how many bytes were read.

    Raises:
        JournalBroken: a file is no segment of this version.

    """
    read = 0

    def tell(count: int) -> None:
        nonlocal read
        read += count
        progress(read)

    return [_slot(folder, tell) for folder in folders(path)]


def _slot(folder: Path, progress: Callable[[int], None]) -> Slot:
    # The mark is read first: what is confirmed meanwhile still counts as waiting.
    found = Slot(folder=folder, in_use=_in_use(folder), confirmed=mark.read(folder))
    suspects: list[Damage] = []
    for path in segments.segments(folder):
        for record in records(path, suspects):
            found.records += 1
            found.first = found.first or record.number
            found.last = record.number
            found.waiting += record.number > found.confirmed
            progress(len(record.payload))
    for suspect in suspects:
        _judge(suspect, found)
    found.size = sum(_size(file) for file in _files(folder))
    found.set_aside = set_aside.kept(folder)
    found.damaged_files = sorted(folder.glob("*.damaged"))
    return found


def records(path: Path, damage: list[Damage]) -> Iterator[Record]:
    """Give the sound records of a segment, and add to `damage` what is not.

    One that is confirmed and removed meanwhile has none.
    """
    offset = 0
    with suppress(FileNotFoundError):
        while (reading := segments.read(path, offset, 0, CHUNK)).records:
            damage += reading.damage
            yield from reading.records
            offset = reading.offset
        damage += reading.damage


def _judge(suspect: Damage, slot: Slot) -> None:
    """Tell damage from the end of a write that goes on, or that a power failure cut off."""
    path = suspect.segment
    with suppress(FileNotFoundError):
        if suspect not in segments.read(path, suspect.offset, 0, CHUNK).damage:
            return
        behind = suspect.offset + suspect.length
        newest = segments.segments(slot.folder)[-1:] == [path]
        if newest and not segments.read(path, behind, 0, CHUNK).records:
            slot.torn.append(suspect)
        else:
            slot.damage.append(suspect)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _size(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.stat().st_size
    return 0


def _in_use(folder: Path) -> bool:
    """Say whether a process has it, by taking its lock for a moment.

    A receiver that starts in this moment takes the next slot; the lock is a shared one, so
    that two who look do not see each other.
    """
    try:
        lock = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False
