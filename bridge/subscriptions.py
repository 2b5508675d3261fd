"""Subscriptions of other teams: made, changed, listed and removed."""

import re
import secrets
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from yarl import URL

from bridge import downstream, queues
from bridge.broker import Broker
from bridge.management import Management, NoManagement
from bridge.topology import BRIDGE, CALLBACKS, Binding, Topology

MOST_PARTITIONS = 100


class Different(Exception):
    """A subscription of this name exists, and is another; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """A subscription as somebody asks for it."""

    name: str
    patterns: tuple[str, ...]
    """As `downstream.patterns` gives them."""

    partitions: int
    """How many queues it has, if it is ordered; otherwise 0."""

    length: int
    size: int
    """Messages and bytes that may wait, in all."""

    password: str = ""
    """For its user, if somebody chose one."""

    new_password: bool = False

    @property
    def queues(self) -> tuple[str, ...]:
        """The names of its queues."""
        made = downstream.queues(
            self.name, partitions=self.partitions, length=self.length, size=self.size
        )
        return tuple(queue.name for queue in made)


@dataclass
class Subscribed:
    """What became of it."""

    user: str = ""
    """"" if there could be none."""

    password: str = ""
    """Only if it was minted now; RabbitMQ keeps but a hash."""

    problems: list[str] = field(default_factory=list)
    """What was left undone, for want of the management API."""


async def subscribe(broker: Broker, api: Management, wanted: Wanted) -> Subscribed:
    """Have a subscription exist as it is wanted: queues, bindings, and a user.

    Raises:
        Different: it exists in a form that cannot be changed.
        BrokerError: the connection was lost; do it again.

    """
    await broker.declare(BRIDGE)
    await _make_queues(broker, wanted)
    bindings = downstream.bindings(wanted.name, wanted.patterns, partitions=wanted.partitions)
    await broker.declare(Topology(bindings=bindings))
    result = Subscribed()
    try:
        for bound in await others(api, wanted):
            await api.unbind(bound)
    except NoManagement as error:
        result.problems.append(f"bindings of earlier patterns, if any, still hold: {error}")
    try:
        result.password = await _permitted(api, downstream.PREFIX + wanted.name, wanted)
        result.user = downstream.PREFIX + wanted.name
    except NoManagement as error:
        result.problems.append(f"no user was made: {error}")
    return result


async def _make_queues(broker: Broker, wanted: Wanted) -> None:
    other = downstream.queue_name(wanted.name, None if wanted.partitions else 0)
    if await queues.ready(broker, other) is not None:
        raise Different(
            f"{wanted.name} exists {'un' if wanted.partitions else ''}ordered; unsubscribe it"
            " first, or choose another name"
        )
    for queue in downstream.queues(
        wanted.name, partitions=wanted.partitions, length=wanted.length, size=wanted.size
    ):
        problem = await queues.made(broker, queue)
        if problem:
            raise Different(
                f"{queue.name} exists otherwise, and RabbitMQ cannot change it; keep to what it"
                f" has, or unsubscribe it first: {problem}"
            )


async def others(api: Management, wanted: Wanted) -> list[Binding]:
    """Give the bindings of earlier patterns, which are not wanted any more.

    Raises:
        NoManagement: it cannot be asked.

    """
    bindings = downstream.bindings(wanted.name, wanted.patterns, partitions=wanted.partitions)
    return [
        bound
        for bound in await api.bindings(CALLBACKS)
        if bound.queue in wanted.queues and bound not in bindings
    ]


async def _permitted(api: Management, user: str, wanted: Wanted) -> str:
    """Let the user read its queues; give its password, if it was minted now."""
    minted = ""
    if wanted.password:
        await api.put_user(user, wanted.password)
    elif wanted.new_password or not await api.has_user(user):
        minted = secrets.token_urlsafe(24)
        await api.put_user(user, minted)
    await api.permit(user, read=rf"^{re.escape(user)}(\.p[0-9]{{2}})?$")
    return minted


def user_url(amqp_url: str, user: str, password: str) -> str:
    """Give the URL for a subscription's user, in the form that all clients read alike."""
    url = URL(amqp_url)
    port = url.explicit_port or (5671 if url.scheme == "amqps" else 5672)
    host = url.path.removeprefix("/") or "/"
    named = URL.build(
        scheme=url.scheme, user=user, password=password, host=url.host or "", port=port
    )
    # `/` says the default virtual host to some clients, and one without a name to others.
    return str(named).rstrip("/") + "/" + re.sub("/", "%2F", URL.build(path=host).raw_path)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A subscription that exists."""

    name: str
    ordered: bool
    patterns: tuple[str, ...]
    messages: int
    """Waiting or being handled, as of some seconds ago."""

    consumers: int
    oldest: float | None
    """Seconds since the oldest message was received; None if RabbitMQ does not say."""


async def listed(api: Management) -> list[Listed]:
    """List the subscriptions there are, by name.

    Raises:
        NoManagement: it cannot be asked.

    """
    keys: dict[str, set[str]] = {}
    for bound in await api.bindings(CALLBACKS):
        keys.setdefault(bound.queue, set()).add(downstream.pattern_of(bound.routing_key))
    by_name: dict[str, list[dict[str, Any]]] = {}
    for queue in await api.queues():
        if queue["name"].startswith(downstream.PREFIX):
            name = queue["name"].removeprefix(downstream.PREFIX).partition(".")[0]
            by_name.setdefault(name, []).append(queue)
    return [_listed(name, found, keys) for name, found in sorted(by_name.items())]


def _listed(name: str, found: list[dict[str, Any]], keys: dict[str, set[str]]) -> Listed:
    patterns = set().union(*(keys.get(queue["name"], set()) for queue in found))
    heads = [stamp for queue in found if (stamp := queue.get("head_message_timestamp"))]
    return Listed(
        name=name,
        ordered="." in found[0]["name"].removeprefix(downstream.PREFIX),
        patterns=("#",) if "#" in patterns else tuple(sorted(patterns)),
        messages=sum(queue.get("messages", 0) for queue in found),
        consumers=sum(queue.get("consumers", 0) for queue in found),
        oldest=time.time() - min(heads) if heads else None,
    )


async def waiting(broker: Broker, name: str) -> dict[str, int]:
    """Give the queues of a subscription, each with how many messages wait in it."""
    sources = (None, *range(MOST_PARTITIONS))
    found: dict[str, int] = {}
    for source in sources:
        queue = downstream.queue_name(name, source)
        count = await queues.ready(broker, queue)
        if count is not None:
            found[queue] = count
        elif source is not None:
            break
    return found


async def unsubscribe(broker: Broker, api: Management, name: str, found: Iterable[str]) -> str:
    """Remove user and queues, with what waits in them; give what could not be done, or "".

    Raises:
        BrokerError: the connection was lost; do it again.

    """
    problem = ""
    try:
        await api.remove_user(downstream.PREFIX + name)
    except NoManagement as error:
        problem = f"its user, if any, was not removed: {error}"
    for queue in found:
        await queues.delete(broker, queue)
    return problem
