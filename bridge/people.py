"""Callbacks of many users and groups, made of the recorded ones."""

import itertools
import json
import random
from collections.abc import Mapping
from typing import Any

import orjson

from bridge import openim

USERS = frozenset(
    {
        "blackUserID",
        "fromUserID",
        "friendUserID",
        "ownerUserID",
        "ownerUserId",
        "recvID",
        "sendID",
        "toUserID",
        "userID",
        "userId",
    }
)
"""Fields of a body that name a user."""

GROUPS = frozenset({"groupID", "groupId"})
"""Fields that name a group."""

IDS = frozenset({"clientMsgID", "serverMsgID"})
"""Fields that are different in each callback."""

REALISTIC: Mapping[str, float] = {
    "BeforeSendSingleMsg": 20,
    "AfterSendSingleMsg": 20,
    "BeforeSendGroupMsg": 10,
    "AfterSendGroupMsg": 10,
    "AfterSingleMsgRead": 12,
    "AfterGroupMsgRead": 6,
    "AfterUserOnline": 8,
    "AfterUserOffline": 8,
    "AfterAddFriend": 1,
    "AfterAddFriendAgree": 1,
    "AfterJoinGroup": 1,
    "AfterQuitGroup": 1,
    "AfterSetGroupMemberInfo": 1,
    "AfterUpdateUserInfoEx": 1,
}
"""How often callbacks come, beside each other, where people chat: messages are asked about and
reported, read and followed by presence; everything else is rare."""


class Bodies:
    """Makes callbacks at random.

    Args:
        mix: How often each command comes, beside the others.
        users: How many there are, named `simulated-user-0` and so on.
        groups: How many there are, named alike.

    """

    def __init__(self, mix: Mapping[str, float], users: int, groups: int) -> None:
        self._recorded = [_recorded(name) for name in mix]
        self._weights = list(itertools.accumulate(mix.values()))
        self._users, self._groups = users, groups
        self._numbers = itertools.count()

    def next(self) -> openim.Callback:
        """Give a command and a body."""
        ((command, fields, made),) = random.choices(  # noqa: S311
            self._recorded, cum_weights=self._weights
        )
        body = fields | {name: self._value(name) for name in made}
        # OpenIM ends a body with a new line.
        return command, orjson.dumps(body) + b"\n"

    def _value(self, name: str) -> str:
        if name in IDS:
            return f"simulated-{next(self._numbers)}"
        kind, count = ("group", self._groups) if name in GROUPS else ("user", self._users)
        return f"simulated-{kind}-{random.randrange(count)}"  # noqa: S311


def _recorded(name: str) -> tuple[str, dict[str, Any], list[str]]:
    """Give a command, its recorded fields, and which of them are made anew each time."""
    command, body = openim.sample(name)
    fields: dict[str, Any] = json.loads(body)
    # An empty one stays so: a message to a user names no group.
    made = [key for key, value in fields.items() if value and key in USERS | GROUPS | IDS]
    return command, fields, made
