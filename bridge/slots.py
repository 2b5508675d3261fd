"""Whose journal is whose.

Processes may share a folder for their journals. Each takes the first slot in it that is free:

    journal/0/    locked by a process that runs
    journal/1/    locked by another
    journal/2/    left behind by one that is no more: whoever sees it publishes what is in it

The lock ends with the process, however that ends.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bridge.journal import Journal, JournalBroken
from bridge.segments import segments

MOST = 64
"""Slots of a folder, and so processes that may share it."""


_OTHER_FOLDER, _ROOM = "; name a folder that this user may write to", "; make room"

_REMEDIES = {
    errno.EACCES: _OTHER_FOLDER,
    errno.EPERM: _OTHER_FOLDER,
    errno.EROFS: _OTHER_FOLDER,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
}


class JournalInUse(JournalBroken):
    """Another process has this journal."""


@contextmanager
def taken(path: Path, quota: int) -> Iterator[Journal]:
    """Open the journal in the first free slot of `path`, and give the slot back afterwards.

    Raises:
        JournalBroken: no journal can be kept there, or all slots are in use.

    """
    with ExitStack() as stack:
        for number in range(MOST):
            try:
                journal = stack.enter_context(opened(path / str(number), quota))
            except JournalInUse:
                continue
            yield journal
            return
    raise JournalBroken(f"all {MOST} journals in {path} are in use; name another folder")


def left_behind(path: Path) -> list[Path]:
    """List the slots of `path` that hold something; some may be in use."""
    folders = [slot for slot in sorted(path.iterdir()) if slot.name.isdigit() and slot.is_dir()]
    return [folder for folder in folders if segments(folder)]


@contextmanager
def opened(folder: Path, quota: int) -> Iterator[Journal]:
    """Open the journal in `folder`, creating it if need be, and close it afterwards.

    Raises:
        JournalInUse: another process has it.
        JournalBroken: the folder cannot be used.

    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "")
        raise JournalBroken(
            f"no journal can be kept in {folder}: {error.strerror}{remedy}"
        ) from error
    try:
        _lock(lock, folder)
        journal = Journal(folder, quota)
        try:
            yield journal
        finally:
            journal.close()
    finally:
        os.close(lock)


def _lock(lock: int, folder: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise JournalInUse(f"the journal in {folder} is in use by another process") from error
