"""What stands in the fields of a callback's body, however deep they lie."""

from collections import deque
from collections.abc import Iterator

import orjson

IDS = ("id", "ids", "idlist")
"""How names of fields end that hold ids: `userID`, `memberIDs`, `userIDList`."""


def texts(body: bytes) -> Iterator[tuple[str, str]]:
    """Give each text of a body, the outer ones first; none if it cannot be read.

    With it comes the name of its field, in small letters: for one in a list, the list's.
    """
    try:
        waiting = deque([("", orjson.loads(body))])
    except orjson.JSONDecodeError:
        return
    while waiting:
        name, value = waiting.popleft()
        if isinstance(value, str):
            yield name, value
        elif isinstance(value, dict):
            waiting.extend((key.lower(), each) for key, each in value.items())
        elif isinstance(value, list):
            waiting.extend((name, each) for each in value)


def ids(body: bytes, endings: tuple[str, ...] = IDS) -> Iterator[str]:
    """Give what stands in fields whose names end so."""
    return (text for name, text in texts(body) if name.endswith(endings))
