"""The mark of a journal: up to which number RabbitMQ has its records."""

import os
import struct
import zlib
from pathlib import Path

from bridge.segments import NO_ROOM

_NUMBER = struct.Struct("<Q")
_MARK = struct.Struct("<QI")


def _marked(data: bytes) -> int:
    if len(data) < _MARK.size:
        return 0
    number, checksum = _MARK.unpack(data[: _MARK.size])
    return int(number) if zlib.crc32(_NUMBER.pack(number)) == checksum else 0


def read(folder: Path) -> int:
    """Give the mark of a journal that somebody else may have open; 0 if there is none."""
    try:
        return _marked((folder / "confirmed").read_bytes())
    except FileNotFoundError:
        return 0


class Mark:
    """The number up to which every record is in RabbitMQ.

    It is written without a sync: it outlives a crash of the process, and after a power
    failure an older mark means copies, never losses.
    """

    def __init__(self, folder: Path) -> None:
        self._file = os.open(folder / "confirmed", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        written = os.pread(self._file, _MARK.size, 0)
        self.number = _marked(written)
        if not written:
            # It has its place before the disk is full.
            self.set(0)

    def set(self, number: int) -> None:
        """Move the mark; on a full disk what is written may stay the older one."""
        self.number = number
        try:
            os.pwrite(self._file, _MARK.pack(number, zlib.crc32(_NUMBER.pack(number))), 0)
        except OSError as error:
            # What the mark lets go makes room for the next.
            if error.errno not in NO_ROOM:
                raise

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
