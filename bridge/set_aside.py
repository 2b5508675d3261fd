"""Messages that nobody could publish: each in a file of its own, beside the journal's."""

import os
from itertools import chain, count
from pathlib import Path

from bridge.segments import Record, sync_folder

FOLDER = "set-aside"
"""Its name, in the slot."""


def keep(slot: Path, record: Record) -> Path:
    """Keep a record; give its file once that is on disk, as a whole.

    Raises:
        OSError: it cannot be kept.

    """
    folder = slot / FOLDER
    folder.mkdir(mode=0o700, exist_ok=True)
    beside = folder / f".{record.number:020}"
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(handle, "wb", buffering=0) as file:
        # A disk that fills up takes a part of a write without an error.
        rest = memoryview(record.payload)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(file.fileno())
    path = _free(folder, record)
    beside.replace(path)
    sync_folder(folder)
    sync_folder(slot)
    return path


def _free(folder: Path, record: Record) -> Path:
    """Give a path at which nothing is lost: numbers begin anew where a journal was lost."""
    name = f"{record.number:020}"
    paths = chain([folder / name], (folder / f"{name}-{copy}" for copy in count(1)))
    return next(
        path for path in paths if not path.exists() or path.read_bytes() == record.payload
    )


def kept(slot: Path) -> list[Path]:
    """List the files of a slot."""
    return sorted((slot / FOLDER).glob("[0-9]*"))


def is_one(path: Path) -> bool:
    """Say whether a path is of such a file, by its name and its folder's."""
    return path.parent.name == FOLDER and path.name[:20].isdigit()


def read(path: Path) -> Record:
    """Read such a file.

    Raises:
        OSError: there is none.

    """
    return Record(int(path.name[:20]), path.read_bytes())
