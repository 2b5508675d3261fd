"""Which users and groups a callback names, by the names of its fields."""

from collections.abc import Iterator
from typing import NamedTuple

import orjson

USER, GROUP = 0, 1

MOST = 50
"""Users and groups of one callback that are told apart."""

LONGEST = 100
"""Characters of an id."""

_USERS = ("userid", "userids", "useridlist", "sendid", "recvid", "memberids", "ownerid")
_GROUPS = ("groupid", "groupids", "groupidlist")


class Party(NamedTuple):
    """A user or a group."""

    kind: int
    id: str


def parties(body: bytes) -> frozenset[Party]:
    """Give the users and groups that a body names; none if it cannot be read."""
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return frozenset()
    found = set[Party]()
    for party in _in(value, ""):
        found.add(party)
        if len(found) == MOST:
            break
    return frozenset(found)


def _in(value: object, name: str) -> Iterator[Party]:
    match value:
        case dict():
            for key, each in value.items():
                yield from _in(each, key.lower())
        case list():
            for each in value:
                yield from _in(each, name)
        case str() if 0 < len(value) <= LONGEST:
            if name.endswith(_GROUPS):
                yield Party(GROUP, value)
            elif name.endswith(_USERS):
                yield Party(USER, value)
