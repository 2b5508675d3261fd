"""Who may do what in RabbitMQ: a user for each kind of process, with the least that it needs.

    receiver     makes the archive, and publishes callbacks
    consumers    makes and reads work queues; delays, buries and answers
    console      reads the streams, looks at dead letters and replays them
    operator     the commands for people: everything of the bridge, and users of other teams
    monitoring   looks on

RabbitMQ allows who may declare something to delete it as well, and who may bind to unbind. So
what all share is in the definitions, and nobody but the operator may declare it. What a process
declares besides is read from its topology, so what is added there is allowed here.
"""

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from bridge import inspection, outcomes, questions, topology
from bridge.topology import Arguments, Topology

ANY = "*"
"""Stands in a name for what is not known beforehand."""

DEFAULT = "amq.default"
"""What RabbitMQ calls the exchange without a name where rights are concerned."""

ANONYMOUS = f"amq.gen-{ANY}"
"""Queues that RabbitMQ names, of which each belongs to one connection."""

EVERYTHING = f"openim.{ANY}"

SHARED = inspection.together([topology.BRIDGE, topology.SUBSCRIPTIONS])
"""What is the same for all processes, and nobody's own."""


@dataclass(frozen=True, kw_only=True)
class Rights:
    """What a user may do, by names in which `*` stands for any end."""

    declare: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()
    """Exchanges to publish to, and whatever something is bound to or dead-letters into."""

    read: frozenset[str] = frozenset()
    """Queues to consume, and exchanges to bind to."""

    tags: tuple[str, ...] = ()
    """For the management API."""

    def __or__(self, other: "Rights") -> "Rights":
        """Give the rights of both."""
        return Rights(
            declare=self.declare | other.declare,
            write=self.write | other.write,
            read=self.read | other.read,
            tags=self.tags + other.tags,
        )


def declaring(wanted: Topology) -> Rights:
    """Give the rights that it takes to declare something."""
    exchanges = {each.name: each.arguments for each in wanted.exchanges}
    queues = {each.name: each.arguments for each in wanted.queues}
    # RabbitMQ asks for both sides of whatever moves messages by itself.
    moving = _pointing(exchanges, "alternate-exchange")
    moving |= _pointing(queues, "x-dead-letter-exchange")
    sources = {b.exchange for b in wanted.bindings} | {p.source for p in wanted.passages}
    targets = {b.queue for b in wanted.bindings} | {p.target for p in wanted.passages}
    return Rights(
        declare=frozenset(exchanges) | frozenset(queues),
        write=frozenset(targets) | frozenset(moving.values()),
        read=frozenset(sources) | frozenset(moving),
    )


def _pointing(named: Mapping[str, Arguments], argument: str) -> dict[str, str]:
    """Give which exchange each of `named` moves messages to by an argument."""
    return {
        name: str(arguments[argument])
        for name, arguments in named.items()
        if argument in arguments
    }


_QUESTIONS = questions.PREFIX + ANY

_RECEIVER = (
    declaring(Topology(queues=(topology.archive(1, 2),)))
    | declaring(topology.ARCHIVED)
    # Questions have no exchange of their own, nor have answers.
    | Rights(write=frozenset({topology.RECEIVED, topology.REFUSED, DEFAULT}))
)

_DELAYS = {topology.wait_exchange(seconds) for seconds in topology.SCHEDULE}

_CONSUMERS = (
    declaring(topology.subscription(ANY, (ANY,)))
    | declaring(outcomes.topology(1, 2))
    | Rights(
        declare=frozenset({_QUESTIONS, ANONYMOUS}),
        write=frozenset({topology.WORKERS, *_DELAYS, topology.OUTCOMES, DEFAULT, ANONYMOUS}),
        read=frozenset({topology.work_queue(ANY), topology.WORKERS, _QUESTIONS, ANONYMOUS}),
    )
)

_DEAD = topology.dead_letter_queue(ANY)

_CONSOLE = Rights(
    declare=frozenset({_DEAD}),
    write=frozenset({topology.RETRY}),
    read=frozenset({topology.ARCHIVE, topology.OUTCOMES, _DEAD}),
    tags=("monitoring",),
)

_OPERATOR = Rights(
    declare=frozenset({EVERYTHING, ANONYMOUS}),
    write=frozenset({EVERYTHING, ANONYMOUS, DEFAULT}),
    read=frozenset({EVERYTHING, ANONYMOUS}),
    tags=("administrator",),
)

USERS: Mapping[str, Rights] = {
    "receiver": _RECEIVER,
    "consumers": _CONSUMERS,
    "console": _CONSOLE,
    "operator": _OPERATOR,
    "monitoring": Rights(tags=("monitoring",)),
}
"""The users, by name."""


def pattern(names: Iterable[str]) -> str:
    """Give the regular expression that matches these names."""
    each = [re.escape(name).replace(r"\*", ".+").replace(r"\-", "-") for name in sorted(names)]
    return f"^({'|'.join(each)})$" if each else "^$"


def definitions(passwords: Mapping[str, str], host: str = "/") -> dict[str, Any]:
    """Give what RabbitMQ imports: the users, what they may do, and what all of them share.

    Args:
        passwords: By name of user; RabbitMQ gets hashes of them.
        host: The virtual host that it is all in.

    """
    return inspection.definitions(SHARED, host) | {
        "users": [_user(name, passwords[name]) for name in USERS],
        "permissions": [
            {
                "user": name,
                "vhost": host,
                "configure": pattern(rights.declare),
                "write": pattern(rights.write),
                "read": pattern(rights.read),
            }
            for name, rights in USERS.items()
        ],
    }


def _user(name: str, password: str) -> dict[str, Any]:
    # The same password gives the same file, so that one can see whether it has changed.
    salt = hashlib.sha256(f"{name}\0{password}".encode()).digest()[:4]
    digest = salt + hashlib.sha256(salt + password.encode()).digest()
    return {
        "name": name,
        "password_hash": base64.b64encode(digest).decode(),
        "hashing_algorithm": "rabbit_password_hashing_sha256",
        "tags": list(USERS[name].tags),
    }
