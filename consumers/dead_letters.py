"""Dead letters: what each says about its end, which are wanted, and how they are grouped.

A letter was moved by a worker, which says why in headers of its own, or by RabbitMQ itself
when a delivery came back unsettled too often, which says so in `x-death`.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from bridge import fields
from bridge.broker import Delivery
from bridge.topology import work_queue

MOST_GROUPS = 200
"""Groups that are told apart; letters of further ones are counted together."""

MOST_COMMANDS = 10
"""Commands that are named in a group."""

OTHERS = "others"
"""The error of letters that have no group of their own."""

LONGEST_ERROR = 12
"""Words of an error that name its group, after its class."""

REPLAYS = "x-replays"
"""Header of what was replayed: how many times."""


@dataclass(frozen=True, kw_only=True)
class Letter:
    """A dead letter that RabbitMQ has lent to the desk."""

    subscription: str
    delivery: Delivery

    @cached_property
    def _death(self) -> Mapping[str, Any]:
        """What RabbitMQ says of its end, if it was RabbitMQ that moved it here."""
        deaths = self.delivery.headers.get("x-death")
        newest = deaths[0] if isinstance(deaths, list) and deaths else None
        if not isinstance(newest, dict):
            return {}
        queue = str(newest.get("queue", ""))
        # What waited between two attempts has died in a wait queue, which means nothing.
        return newest if queue.startswith(work_queue(self.subscription)) else {}

    @property
    def error(self) -> str:
        """Why it is here: the class of an error, and its words."""
        if self._death:
            return f"{self._death.get('reason')}: RabbitMQ moved it here"
        return str(self.delivery.headers.get("x-last-error", "unknown: no reason is given"))

    @cached_property
    def failed(self) -> datetime:
        """When it became a dead letter, UTC; when it was received, if nothing says."""
        moment = self._death.get("time") or self.delivery.headers.get("x-last-failure")
        try:
            found = (
                moment if isinstance(moment, datetime) else datetime.fromisoformat(str(moment))
            )
        except ValueError:
            found = datetime.fromtimestamp(self.delivery.timestamp, UTC)
        return found if found.tzinfo else found.replace(tzinfo=UTC)

    @property
    def attempt(self) -> int:
        """The last attempt that was made."""
        return _number(self.delivery.headers.get("x-attempt"), otherwise=1)

    @property
    def replays(self) -> int:
        """How many times it was replayed before."""
        return _number(self.delivery.headers.get(REPLAYS), otherwise=0)

    @property
    def routing_key(self) -> str:
        """The routing key that it first came with."""
        keys = self._death.get("routing-keys")
        first = keys[0] if isinstance(keys, list) and keys else self.delivery.routing_key
        return str(self.delivery.headers.get("x-routing-key", first))

    @property
    def queues(self) -> tuple[str, ...]:
        """The work queues that it may have come from, the likeliest first."""
        if self._death:
            return (str(self._death["queue"]),)
        partition = re.fullmatch(r".*\.p(\d+)", self.routing_key)
        plain = work_queue(self.subscription)
        if partition is None:
            return (plain,)
        return (work_queue(self.subscription, int(partition[1])), plain)

    @cached_property
    def ids(self) -> frozenset[str]:
        """The ids in its body: what stands in fields such as `userID` and `memberUserIDs`."""
        return frozenset(fields.ids(self.delivery.body))


def _number(value: object, *, otherwise: int) -> int:
    return value if isinstance(value, int) else otherwise


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which letters are meant: those of which all of this holds."""

    message_id: str = ""
    command: str = ""
    """As in `type`, or short: `AfterAddFriend`."""

    error: str = ""
    """Words of the error, in whatever case."""

    user: str = ""
    """An id in the body."""

    since: float | None = None
    """Dead then or later: seconds since 1970."""

    until: float | None = None
    """Dead before."""

    def has(self, letter: Letter) -> bool:
        """Say whether a letter is wanted."""
        command = letter.delivery.command
        return (
            self.message_id in ("", letter.delivery.message_id)
            and (not self.command or short(self.command).lower() == short(command).lower())
            and self.error.lower() in letter.error.lower()
            and (self.since is None or letter.failed.timestamp() >= self.since)
            and (self.until is None or letter.failed.timestamp() < self.until)
            and (not self.user or self.user in letter.ids)
        )


def short(command: str) -> str:
    """Give a callback command without what all of them have."""
    return command.removeprefix("callback").removesuffix("Command")


@dataclass(kw_only=True)
class Group:
    """Letters of one subscription that failed alike."""

    subscription: str
    error: str
    oldest: datetime
    newest: datetime
    count: int = 0
    commands: set[str] = field(default_factory=set)

    def add(self, letter: Letter) -> None:
        """Count a letter."""
        self.count += 1
        self.oldest = min(self.oldest, letter.failed)
        self.newest = max(self.newest, letter.failed)
        if len(self.commands) < MOST_COMMANDS:
            self.commands.add(letter.delivery.command)


class Groups:
    """Letters by what went wrong, however many: only the groups are kept."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], Group] = {}

    def add(self, letter: Letter) -> None:
        """Count a letter in its group."""
        key = letter.subscription, likeness(letter)
        if key not in self._groups and len(self._groups) >= MOST_GROUPS:
            key = letter.subscription, OTHERS
        group = self._groups.setdefault(
            key,
            Group(
                subscription=key[0], error=key[1], oldest=letter.failed, newest=letter.failed
            ),
        )
        group.add(letter)

    def largest_first(self) -> list[Group]:
        """Give the groups, by subscription and size."""
        return sorted(
            self._groups.values(), key=lambda group: (group.subscription, -group.count)
        )


def likeness(letter: Letter) -> str:
    """Give the error of a letter without what differs from one letter to the next.

    Ids, numbers and what stands in quotes become `#`; only the first words are kept.
    """
    words = re.sub(r"""'[^']*'|"[^"]*"|`[^`]*`""", "#", letter.error).split()
    folded = ["#" if _differs(word, letter.ids) else word for word in words]
    return " ".join(folded[: LONGEST_ERROR + 1])


def _differs(word: str, ids: frozenset[str]) -> bool:
    return any(letter.isdigit() for letter in word) or word.strip(".,:;()[]") in ids
