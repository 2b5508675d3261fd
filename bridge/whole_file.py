"""A file that is replaced as a whole: whoever reads it finds the old text or the new one."""

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path


def replace(path: Path, text: str, mode: int) -> None:
    """Replace what a file says, durably; a link to it stays a link.

    Owner, mode and line ends stay.

    Args:
        path: Where it is; its folder has to be writable, too.
        text: What it says from now on.
        mode: Of a file that is not there yet.

    Raises:
        OSError: it cannot be done, and the file is as it was.

    """
    path = path.resolve()
    before = path.stat() if path.exists() else None
    if before and not path.is_file():
        raise OSError(errno.EINVAL, "is no plain file", str(path))
    line_end = "\r\n" if before and b"\r\n" in path.read_bytes() else "\n"
    try:
        handle, beside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path.parent)) from error
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline=line_end) as file:
            if before:
                _give(file.fileno(), path, before)
            else:
                os.fchmod(file.fileno(), mode)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    finally:
        with suppress(FileNotFoundError):
            Path(beside).unlink()


def _give(file: int, path: Path, before: os.stat_result) -> None:
    """Give the new file the owner and the mode of the old one."""
    try:
        os.fchown(file, before.st_uid, before.st_gid)
    except PermissionError as error:
        raise PermissionError(
            error.errno, "can be replaced by its owner or by root", str(path)
        ) from error
    os.fchmod(file, before.st_mode)
