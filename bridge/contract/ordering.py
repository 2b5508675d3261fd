"""Which events belong together: the rules by which ordering keys are read from bodies.

A rule reads the JSON fields of a body nobody has checked yet. It never raises, and
gives "" when what it needs is absent, blank or of another type.
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

# NotificationChatType of OpenIM's protocol, constant/constant.go.
_NOTIFICATION_SESSION = 4


class Rule(Protocol):
    """How one kind of event finds its ordering key."""

    def key(self, fields: Mapping[str, object]) -> str:
        """Give the ordering key of a body with these JSON fields, or ""."""


@dataclass(frozen=True)
class Field:
    """The value of one field, after a prefix."""

    name: str
    prefix: str = ""

    def key(self, fields: Mapping[str, object]) -> str:
        """Give prefix and value."""
        value = _text(fields, self.name)
        return value and self.prefix + value


@dataclass(frozen=True)
class Pair:
    """Two users, whichever of them acts."""

    one: str
    other: str

    def key(self, fields: Mapping[str, object]) -> str:
        """Give both ids, sorted, as `a,b`."""
        return ",".join(_sorted_pair(fields, self.one, self.other))


@dataclass(frozen=True)
class Dialogue:
    """The one-to-one conversation of `sendID` and `recvID`."""

    def key(self, fields: Mapping[str, object]) -> str:
        """Give the id of the conversation, as pkg/msgprocessor/conversation.go builds it."""
        users = _sorted_pair(fields, "sendID", "recvID")
        prefix = "sn" if fields.get("sessionType") == _NOTIFICATION_SESSION else "si"
        return "_".join([prefix, *users]) if users else ""


@dataclass(frozen=True)
class Receivers:
    """The sender and everybody in `userIDList`."""

    def key(self, fields: Mapping[str, object]) -> str:
        """Give the sender's id, then the sorted ids of the receivers."""
        sender = _text(fields, "sendID")
        receivers = [user for user in _entries(fields, "userIDList") if isinstance(user, str)]
        return ",".join([sender, *sorted(receivers)]) if sender and receivers else ""


@dataclass(frozen=True)
class Entry:
    """A field of the first entry of a list, or of the first with that role level."""

    entries: str
    name: str
    role_level: int | None = None

    def key(self, fields: Mapping[str, object]) -> str:
        """Give the field's value in the first entry that has one."""
        values = (
            _text(entry, self.name)
            for entry in _entries(fields, self.entries)
            if isinstance(entry, Mapping) and self._applies(entry)
        )
        return next(filter(None, values), "")

    def _applies(self, entry: Mapping[str, object]) -> bool:
        return self.role_level is None or entry.get("roleLevel") == self.role_level


@dataclass(frozen=True)
class Either:
    """What the first rule finds, else what the second does."""

    first: Rule
    second: Rule

    def key(self, fields: Mapping[str, object]) -> str:
        """Give the first key that is not blank."""
        return self.first.key(fields) or self.second.key(fields)


def partition(key: str, count: int) -> int:
    """Give the partition of an ordering key, the same in every process and release.

    Args:
        key: An ordering key.
        count: How many partitions there are, at least 1.

    """
    return zlib.crc32(key.encode()) % count


def _text(fields: Mapping[str, object], name: str) -> str:
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def _sorted_pair(fields: Mapping[str, object], one: str, other: str) -> list[str]:
    pair = sorted((_text(fields, one), _text(fields, other)))
    return pair if all(pair) else []


def _entries(fields: Mapping[str, object], name: str) -> list[object]:
    value = fields.get(name)
    return value if isinstance(value, list) else []
