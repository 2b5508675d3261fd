"""The file of named secrets, and how one of them is changed for another."""

import fcntl
import os
import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from bridge import whole_file
from bridge.lists import differ, named_secrets

MOST = 2
"""Secrets that are active at a time: the one that goes, and the one that comes."""


class CannotChange(Exception):
    """The file does not allow what was asked for; the message says why."""


def read(path: Path) -> Mapping[str, str]:
    """Read secrets by name; a file that is not there yet has none.

    Raises:
        CannotChange: it holds something else.
        OSError: it cannot be read.

    """
    try:
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        found = named_secrets(text)
    except ValueError as error:
        raise CannotChange(f"{path} holds something else than name:secret") from error
    if not differ(text):
        raise CannotChange(f"{path} has a name or a secret twice")
    return found


def with_another(known: Mapping[str, str], name: str) -> dict[str, str]:
    """Give the secrets with a new one, named after the day unless it has a name.

    Raises:
        CannotChange: there is no room, or the name is taken.

    """
    if len(known) >= MOST:
        raise CannotChange(f"{' and '.join(known)} are active already; drop one of them first")
    name = name or f"{datetime.now(UTC):%Y-%m-%d}"
    if name in known:
        raise CannotChange(f"a secret is called {name} already; choose a --name")
    return {**known, name: secrets.token_urlsafe(32)}


def without(known: Mapping[str, str], name: str) -> dict[str, str]:
    """Give the secrets without one.

    Raises:
        CannotChange: there is no such secret, or no other.

    """
    if name not in known:
        raise CannotChange(f"no secret is called {name}; there are: {', '.join(known)}")
    if len(known) == 1:
        raise CannotChange(f"{name} is the only secret; rotate first")
    return {each: value for each, value in known.items() if each != name}


def change(
    path: Path, how: Callable[[Mapping[str, str]], Mapping[str, str]]
) -> Mapping[str, str]:
    """Change the secrets of a file, one process after the other; give what it has now.

    Args:
        path: The file.
        how: Makes the new secrets of the old ones.

    Raises:
        CannotChange: it holds something else, or `how` says so.
        OSError: it cannot be read or written.

    """
    folder = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Of the folder: the file is another one afterwards.
        fcntl.flock(folder, fcntl.LOCK_EX)
        new = how(read(path))
        write(path, new)
    finally:
        os.close(folder)
    return new


def write(path: Path, known: Mapping[str, str]) -> None:
    """Replace the file as a whole; only who could read the old one can read the new one.

    Raises:
        OSError: it cannot be done, and the file is as it was.

    """
    text = "".join(f"{name}:{value}\n" for name, value in known.items())
    whole_file.replace(path, text, 0o600)
