"""The files of the journal.

A journal is a folder:

    lock                     held while a process uses the folder
    confirmed                the mark: every record up to this number is in RabbitMQ
    00000000000000000001     a segment, named after the first record it may hold
    00000000000000004711     the segment that is written to
    set-aside/…0000000042    the payload of a record that nobody can publish

A segment is an eight-byte head and records, each in one piece:

    "CBCK"  length  checksum  number  payload
    4       4       4         8       length bytes

Everything is little-endian; the checksum covers number and payload. Space is reserved
ahead and full of zeros, so zeros where a record would start are the end.
"""

import errno
import os
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HEAD = b"OIMJRNL1"
"""Names the format and its version; another version is refused, never guessed at."""

MAGIC = b"CBCK"
_RECORD = struct.Struct("<4sIIQ")
_NUMBER = struct.Struct("<Q")


class JournalBroken(Exception):
    """A journal's folder cannot be used; the message says why and what to do."""


class JournalFull(Exception):
    """No room: the quota is used up or the disk is full. Nothing was stored."""


class Record(NamedTuple):
    """One payload, under its number."""

    number: int
    payload: bytes


class Damage(NamedTuple):
    """Bytes of a segment that are neither record nor end."""

    segment: Path
    offset: int
    length: int


def record_size(payload: bytes) -> int:
    """Give the bytes that `payload` takes in a segment."""
    return _RECORD.size + len(payload)


def _encode(record: Record) -> bytes:
    checksum = zlib.crc32(record.payload, zlib.crc32(_NUMBER.pack(record.number)))
    head = _RECORD.pack(MAGIC, len(record.payload), checksum, record.number)
    return head + record.payload


class Segment:
    """The segment that is written to.

    Args:
        folder: The journal's folder.
        first: Number of the first record it may hold.
        size: Bytes to reserve.

    Raises:
        JournalFull: the disk has no room for it.
        OSError: the disk fails.

    """

    def __init__(self, folder: Path, first: int, size: int) -> None:
        self.path = folder / f"{first:020}"
        self.size = size
        self.end = len(HEAD)
        self._file = os.open(
            self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600
        )
        try:
            with _full_disk_named():
                os.posix_fallocate(self._file, 0, size)
                os.pwrite(self._file, HEAD, 0)
            os.fsync(self._file)
            sync_folder(folder)
        except BaseException:
            self.close()
            self.path.unlink()
            raise

    def has_room(self, size: int) -> bool:
        """Say whether `size` more bytes fit."""
        return self.end + size <= self.size

    def write(self, records: Iterable[Record]) -> None:
        """Write `records` and return when they are on disk.

        Raises:
            JournalFull: the disk took only a part; the next write goes over it.
            OSError: the disk fails.

        """
        chunk = memoryview(b"".join(map(_encode, records)))
        end = self.end
        with _full_disk_named():
            # A disk that fills up takes a part of a write without an error.
            while chunk:
                written = os.pwrite(self._file, chunk, end)
                chunk, end = chunk[written:], end + written
        os.fdatasync(self._file)
        self.end = end

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


NO_ROOM = {errno.ENOSPC, errno.EDQUOT}


@contextmanager
def _full_disk_named() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in NO_ROOM:
            raise JournalFull(f"the disk is full: {error.strerror}") from error
        raise


def sync_folder(folder: Path) -> None:
    """Make names in `folder` durable; a file's own sync does not cover its name."""
    file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(file)
    finally:
        os.close(file)


def segments(folder: Path) -> list[Path]:
    """List the segments of a journal, oldest first; a name is a first record's number."""
    return sorted(path for path in folder.iterdir() if path.name.isdigit())


class Reading(NamedTuple):
    """What one reading of a segment gave."""

    records: list[Record]
    offset: int
    """Where the next reading goes on."""
    damage: list[Damage]


def read(segment: Path, offset: int, after: int, most: int, end: int | None = None) -> Reading:
    """Read records of `segment` with numbers above `after`, about `most` bytes of them.

    Damaged bytes are passed over to the next whole record and reported, so one bad sector
    costs the records in it and no others.

    Args:
        segment: The file.
        offset: Where to begin: 0, or what an earlier reading gave.
        after: Pass over records up to this number.
        most: Stop after so many bytes; one record is always read, however large.
        end: Where the file ends as far as the reader is concerned.

    Raises:
        JournalBroken: the file is not a segment of this version.

    """
    with segment.open("rb", buffering=0) as file:
        # A crash leaves a new segment without its head, or any record.
        if not HEAD.startswith(file.read(len(HEAD)).rstrip(b"\0")):
            raise JournalBroken(
                f"{segment} is not a journal segment of this version;"
                " start the version that wrote it, or move the file away"
            )
        end = os.fstat(file.fileno()).st_size if end is None else end
        offset, wanted = max(offset, len(HEAD)), most
        damage: list[Damage] = []
        while True:
            last = offset + wanted >= end
            data = os.pread(file.fileno(), max(min(wanted, end - offset), 0), offset)
            reading = _parse(segment, data, offset, after, last=last)
            damage += reading.damage
            if reading.records or last:
                return reading._replace(damage=damage)
            if reading.offset == offset:
                wanted *= 2
            offset = reading.offset


def _parse(segment: Path, data: bytes, offset: int, after: int, *, last: bool) -> Reading:
    """Parse the whole records of `data`; unless `last`, its end may be cut off."""
    records: list[Record] = []
    damage: list[Damage] = []
    at = 0
    while (record := _record_at(data, at)) or last or not _goes_on(data, at):
        if record is not None:
            at += record_size(record.payload)
            if record.number > after:
                records.append(record)
            continue
        start, at = at, _next_record(data, at)
        bad = len(data[start:at].rstrip(b"\0"))
        if bad:
            damage.append(Damage(segment, offset + start, bad))
        if at == len(data):
            break
    return Reading(records, offset + at, damage)


def _record_at(data: bytes, at: int) -> Record | None:
    """Give the record that starts `at`, if a whole and sound one does."""
    if len(data) - at < _RECORD.size:
        return None
    magic, length, checksum, number = _RECORD.unpack_from(data, at)
    payload = data[at + _RECORD.size : at + _RECORD.size + length]
    if magic != MAGIC or len(payload) < length:
        return None
    if zlib.crc32(payload, zlib.crc32(_NUMBER.pack(number))) != checksum:
        return None
    return Record(number, payload)


def _goes_on(data: bytes, at: int) -> bool:
    """Say whether a record that starts `at` may have its end beyond `data`."""
    if len(data) - at < _RECORD.size:
        return True
    magic, length, _, _ = _RECORD.unpack_from(data, at)
    return bool(magic == MAGIC and at + _RECORD.size + length > len(data))


def _next_record(data: bytes, at: int) -> int:
    """Find where the next sound record starts after `at`, or the end of `data`."""
    while (at := data.find(MAGIC, at + 1)) != -1:
        if _record_at(data, at) is not None:
            return at
    return len(data)
