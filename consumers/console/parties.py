"""Which users and groups a callback names, by the names of its fields."""

from typing import NamedTuple

from bridge import fields

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
    found = set[Party]()
    for name, text in fields.texts(body):
        if name.endswith(_GROUPS):
            kind = GROUP
        elif name.endswith(_USERS):
            kind = USER
        else:
            continue
        if 0 < len(text) <= LONGEST:
            found.add(Party(kind, text))
        if len(found) == MOST:
            break
    return frozenset(found)
