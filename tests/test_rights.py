"""Each user of RabbitMQ can do the work of its process, and nothing more."""

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from operator import methodcaller
from pathlib import Path

import aio_pika
import aiohttp
import aiormq
import pytest
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity
from yarl import URL

from bridge import inspection, openim, outcomes, topology
from bridge.archive import as_it_is
from bridge.broker import connect
from bridge.contract import AfterAddFriend, AfterAddFriendAgree
from bridge.management import management
from bridge.rights import SHARED, USERS, definitions, pattern
from consumers.console.routes import TABS
from consumers.registry import Handlers, Reject, Retry
from tests.brokers import OwnBroker, RabbitMQ
from tests.commands import BRIDGE, CONSUMERS, Command, ran, started
from tests.console import Console, console
from tests.running import DEADLINE, Bridge, bridge, eventually, until
from tests.test_asking import asking, deciding, policy, refused, says_no, verdict
from tests.test_console_events import database_in
from tests.test_pauses import consumers_of
from tests.test_worker import channel_to, count, declared, taken_from, working

PASSWORDS = {name: f"the-password-of-{name}" for name in USERS}

WORK = topology.work_queue("shop")
DEAD = topology.dead_letter_queue("shop")

Act = Callable[[AbstractChannel, str], Awaitable[None]]


@dataclass(frozen=True)
class Allowed:
    """A broker with our users."""

    admin: str
    management_url: str

    def url(self, user: str) -> str:
        """Give where a user connects."""
        return str(URL(self.admin).with_user(user).with_password(PASSWORDS[user]))

    async def operate(
        self, program: tuple[str, ...], *words: str, folder: Path, code: int = 0
    ) -> Command:
        """Run a command as the operator does."""
        command = await ran(program, *words, folder=folder, **self.operator)
        assert command.process.returncode == code, command.err
        return command

    @property
    def operator(self) -> dict[str, str]:
        """The operator's settings."""
        return {
            "BRIDGE_AMQP_URL": self.url("operator"),
            "BRIDGE_MANAGEMENT_URL": str(URL(self.management_url).with_user(None)),
            "CONSUMERS_AMQP_URL": self.url("operator"),
        }


@pytest.fixture
async def broker(spare_broker: RabbitMQ, own_broker: OwnBroker) -> Allowed:
    """A broker that has imported our definitions, into a virtual host of its own."""
    host = URL(own_broker.amqp_url).path.removeprefix("/")
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.post(
            f"{spare_broker.management_url}/api/definitions", json=definitions(PASSWORDS, host)
        )
    return Allowed(own_broker.amqp_url, spare_broker.management_url)


@asynccontextmanager
async def shop(broker: Allowed, folder: Path) -> AsyncIterator[Handlers]:
    """Run a worker that once fails, and buries every agreement."""
    handlers, failed = Handlers("shop"), asyncio.Event()

    @handlers.on(AfterAddFriend, sql=False)
    async def delay(_event: AfterAddFriend) -> None:
        if not failed.is_set():
            failed.set()
            raise Retry("the first time")
        done.set()

    @handlers.on(AfterAddFriendAgree, sql=False)
    async def bury(_event: AfterAddFriendAgree) -> None:
        raise Reject("never")

    done = asyncio.Event()
    async with working(broker.url("consumers"), f"sqlite:///{folder}/shop.db", handlers):
        await declared(broker.admin, "shop")
        yield handlers
        async with asyncio.timeout(DEADLINE):
            await done.wait()


async def test_the_receiver_publishes_and_archives(broker: Allowed, tmp_path: Path) -> None:
    async with bridge(tmp_path, broker.url("receiver")) as running:
        await running.openim.post(*openim.sample(AfterAddFriend.command))
        await running.drained()
    async with connect(broker.admin, name="test", timeout=10) as connection:
        past = await as_it_is(connection, timeout=5)
        archived = [each.command async for each in past.read(None)]
    assert archived == [AfterAddFriend.command]
    kept = await taken_from(broker.admin, topology.UNROUTED)
    assert kept.type == AfterAddFriend.command


async def test_the_receiver_asks_and_a_worker_answers(broker: Allowed, tmp_path: Path) -> None:
    path = policy(tmp_path)
    async with (
        asking(tmp_path, broker.url("receiver"), path) as running,
        deciding(broker.url("consumers"), says_no),
    ):
        assert refused(20001)(await verdict(running))


async def test_what_a_queue_refuses_is_offered_again(broker: Allowed, tmp_path: Path) -> None:
    async with (
        bridge(tmp_path, broker.url("receiver")) as running,
        channel_to(broker.admin) as channel,
    ):
        await running.connected()
        queue = await channel.declare_queue(
            "full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"}
        )
        await queue.bind(topology.CALLBACKS, "#")
        await running.openim.post(*openim.sample(AfterAddFriend.command))
        await running.drained()
        waits = await taken_from(broker.admin, topology.REFUSED)
    assert waits.type == AfterAddFriend.command


async def kinds(amqp_url: str) -> set[str]:
    """Give what has come of attempts."""
    async with connect(amqp_url, name="test", timeout=10) as connection:
        return {each.outcome async for each in outcomes.read(connection, 5)}


async def test_a_worker_delays_and_buries(broker: Allowed, tmp_path: Path) -> None:
    async with shop(broker, tmp_path), bridge(tmp_path, broker.url("receiver")) as running:
        await running.openim.post(*openim.sample(AfterAddFriend.command))
        await running.openim.post(*openim.sample(AfterAddFriendAgree.command))
        dead = await taken_from(broker.admin, DEAD)
        await eventually(lambda: kinds(broker.admin), {outcomes.DEAD_LETTER}.issubset)
    assert dead.type == AfterAddFriendAgree.command


async def test_workers_share_partitions(broker: Allowed, tmp_path: Path) -> None:
    handlers, seen = Handlers("chat", ordered=True), asyncio.Event()

    @handlers.on(AfterAddFriend, sql=False)
    async def see(_event: AfterAddFriend) -> None:
        seen.set()

    url = f"sqlite:///{tmp_path}/chat.db"
    async with (
        working(broker.url("consumers"), url, handlers),
        bridge(tmp_path, broker.url("receiver")) as running,
    ):
        await declared(broker.admin, "chat.p15")
        await running.openim.post(*openim.sample(AfterAddFriend.command))
        async with asyncio.timeout(DEADLINE):
            await seen.wait()


async def test_the_operator_looks_replays_and_subscribes(
    broker: Allowed, tmp_path: Path
) -> None:
    operate = partial(broker.operate, folder=tmp_path)
    tail = started(BRIDGE, *("tail", "--count", "2"), folder=tmp_path, **broker.operator)
    async with bridge(tmp_path, broker.url("receiver")) as running, tail as watching:
        await watching.says("watching")
        async with shop(broker, tmp_path):
            await running.openim.post(*openim.sample(AfterAddFriend.command))
            await running.openim.post(*openim.sample(AfterAddFriendAgree.command))
            await until(lambda: watching.out.count("\n") == 2)
        listing = ("dead-letters", "list", "shop")
        await eventually(
            lambda: ran(CONSUMERS, *listing, folder=tmp_path, **broker.operator),
            lambda command: "never" in command.out,
        )
    await operate(CONSUMERS, "dead-letters", "replay", "shop", "--all")
    await operate(BRIDGE, *("subscribe", "team", "--commands", "friend.*", "--since", "1h"))
    await operate(BRIDGE, "unsubscribe", "team", "--yes")
    assert (await taken_from(broker.admin, WORK)).type == AfterAddFriendAgree.command


@asynccontextmanager
async def shown(broker: Allowed, folder: Path) -> AsyncIterator[tuple[Bridge, Console]]:
    """Run receiver, worker and console, each as its own user; the worker buries agreements."""
    handlers = Handlers("shop")

    @handlers.on(AfterAddFriend, sql=False)
    async def take(_event: AfterAddFriend) -> None: ...

    @handlers.on(AfterAddFriendAgree, sql=False)
    async def bury(_event: AfterAddFriendAgree) -> None:
        raise Reject("never")

    async with (
        bridge(folder, broker.url("receiver")) as receiver,
        working(broker.url("consumers"), database_in(folder), handlers),
    ):
        await declared(broker.admin, "shop")
        user = URL(broker.url("console"))
        management = URL(broker.management_url).with_user(user.user)
        where = {
            "amqp_url": str(user),
            "management_url": str(management.with_password(user.password)),
            "callback_url": receiver.url,
        }
        async with console(folder, **where) as running:
            yield receiver, running


TROUBLE = "does not answer|no answer|cannot be|is not known|are not known"
"""What a page says of what it cannot look at."""


async def test_the_console_shows_every_page(broker: Allowed, tmp_path: Path) -> None:
    async with (
        shown(broker, tmp_path) as (receiver, running),
        running.person("admin") as person,
    ):
        await receiver.openim.post(*openim.sample(AfterAddFriendAgree.command))
        event = await person.event(AfterAddFriendAgree.command, "dead letter")
        letter = f"/dead-letter?subscription=shop&id={event.partition('=')[2]}"
        await person.sees("/dead-letters", "Replay 1")
        await person.sees("/subscriptions", "Pause shop")
        paths = [*(tab.path for tab in TABS if tab.listed), event, letter]
        pages = {path: await person.page(path) for path in paths}
        body = await person.does("/event/body", id=event.partition("=")[2])
    found = {path: re.findall(TROUBLE, page) for path, page in pages.items()}
    assert found == {path: [] for path in paths}
    assert body[0] == 200


async def test_the_console_does_all_that_people_ask_of_it(
    broker: Allowed, tmp_path: Path
) -> None:
    async with (
        shown(broker, tmp_path) as (_, running),
        running.person("operator") as person,
    ):
        await person.does("/setup/sample", command=AfterAddFriendAgree.command)
        letter = {"subscription": "shop", "error": "Reject: never"}
        await person.sees("/dead-letters", "Replay 1")
        await person.does("/dead-letters/replay", **letter)
        await person.sees("/dead-letters", "Replayed 1")
        await person.sees("/dead-letters", "replayed 1 times")
        await person.does("/dead-letters/discard", **letter, reason="a test")
        await person.sees("/dead-letters", "Discarded 1")
        await person.sees("/dead-letters", "No dead letters.")
        await person.does("/subscriptions/pause", subscription="shop", reason="a test")
        queue = topology.work_queue("shop")
        await eventually(lambda: consumers_of(broker.admin, queue), lambda found: found == 0)
        sent = await person.does("/setup/sample", command=AfterAddFriend.command)
        event = await person.event(AfterAddFriend.command, "no attempt yet")
        await person.sees(event, "shop is paused by operator@console")
        await person.does("/subscriptions/resume", subscription="shop")
        await person.event(AfterAddFriend.command, "handled")
    assert "The receiver answered in" in sent[1]


async def test_the_console_says_which_right_it_lacks(broker: Allowed, tmp_path: Path) -> None:
    async with (
        shown(broker, tmp_path) as (receiver, running),
        running.person("operator") as person,
    ):
        await receiver.openim.post(*openim.sample(AfterAddFriendAgree.command))
        await person.sees("/dead-letters", "Replay 1")
        await forbid(broker, "console")
        letter = {"subscription": "shop", "error": "Reject: never"}
        await person.does("/dead-letters/replay", **letter)
        page = await person.sees("/dead-letters", "It ended early")
        left = await eventually(lambda: count(broker.admin, DEAD), lambda left: left == 1)
    assert "ACCESS_REFUSED" in page
    assert topology.RETRY in page
    assert left == 1


async def forbid(broker: Allowed, user: str) -> None:
    """Have a user publish nothing any more."""
    host = URL(broker.admin).path.removeprefix("/")
    rights = {"configure": ".*", "write": "^$", "read": ".*"}
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.put(
            URL(f"{broker.management_url}/api/permissions/") / host / user, json=rights
        )


async def get(channel: AbstractChannel, queue: str) -> None:
    """Take a message from a queue, if there is one."""
    await (await channel.get_queue(queue, ensure=False)).get(fail=False)


async def publish(channel: AbstractChannel, exchange: str) -> None:
    """Publish a callback to an exchange."""
    found = await channel.get_exchange(exchange, ensure=False)
    await found.publish(aio_pika.Message(b"{}"), "friend.after.add_friend.p01")


async def declare(channel: AbstractChannel, queue: str) -> None:
    """Make a queue."""
    await channel.declare_queue(queue, durable=True)


async def delete(channel: AbstractChannel, queue: str) -> None:
    """Delete a queue."""
    await channel.queue_delete(queue)


async def bind(channel: AbstractChannel, queue: str) -> None:
    """Bring a queue all callbacks."""
    await (await channel.get_queue(queue, ensure=False)).bind(topology.CALLBACKS, "#")


TOO_MUCH: list[tuple[str, Act, str]] = [
    ("receiver", get, WORK),
    ("receiver", get, DEAD),
    ("receiver", get, topology.ARCHIVE),
    ("receiver", publish, topology.CALLBACKS),
    ("receiver", publish, topology.RETRY),
    ("receiver", publish, topology.DEAD_LETTERS),
    ("receiver", declare, "openim.work.own"),
    ("receiver", bind, WORK),
    ("receiver", delete, WORK),
    ("consumers", get, DEAD),
    ("consumers", get, topology.ARCHIVE),
    ("consumers", get, "openim.sub.team"),
    ("consumers", publish, topology.RECEIVED),
    ("consumers", publish, topology.CALLBACKS),
    ("consumers", declare, "openim.sub.own"),
    ("consumers", bind, "openim.sub.team"),
    ("consumers", delete, topology.ARCHIVE),
    ("operator", get, "accounts"),
    ("operator", declare, "accounts.own"),
    ("operator", publish, "amq.topic"),
    ("monitoring", get, WORK),
    ("monitoring", publish, topology.RECEIVED),
    ("monitoring", declare, "openim.work.own"),
    ("monitoring", bind, WORK),
]
"""Who shall not do what to which queue or exchange."""


async def is_refused(broker: Allowed, user: str, act: Act, name: str) -> bool:
    async with channel_to(broker.url(user)) as channel:
        try:
            await act(channel, name)
        except ChannelAccessRefused:
            return True
    return False


async def test_nobody_does_more(broker: Allowed) -> None:
    handlers = (AfterAddFriend.routing_key,)
    async with connect(broker.admin, name="test", timeout=10) as connection:
        await connection.declare(topology.subscription("shop", handlers))
        await connection.declare(topology.Topology(queues=(topology.archive(60, 2**20),)))
    async with channel_to(broker.admin) as channel:
        await declare(channel, "openim.sub.team")
        await declare(channel, "accounts")
    allowed = [
        (user, act.__name__, name)
        for user, act, name in TOO_MUCH
        if not await is_refused(broker, user, act, name)
    ]
    assert allowed == []


TAKING_AWAY = [
    *(methodcaller("exchange_delete", each.name) for each in SHARED.exchanges),
    *(methodcaller("queue_delete", each.name) for each in SHARED.queues),
    *(methodcaller("queue_purge", each.name) for each in SHARED.queues),
    *(
        methodcaller("queue_unbind", each.queue, each.exchange, each.routing_key)
        for each in SHARED.bindings
    ),
    *(
        methodcaller("exchange_unbind", each.target, each.source, each.routing_key)
        for each in SHARED.passages
    ),
]
"""Each way to take from all what they share."""


async def not_refused(url: str, acts: Sequence[Callable[..., Awaitable[object]]]) -> list[str]:
    """Say which of these a user may do, were it with something that is there no more."""
    done = []
    async with await aiormq.connect(url) as connection:
        for act in acts:
            try:
                with suppress(ChannelNotFoundEntity):
                    await act(await connection.channel())
            except ChannelAccessRefused:
                continue
            done.append(str(act))
    return done


async def test_what_all_share_is_there_before_anybody_connects(broker: Allowed) -> None:
    async with (
        connect(broker.admin, name="test", timeout=10) as connection,
        management(broker.management_url, broker.admin, 10) as api,
    ):
        found = await inspection.compared(connection, api, SHARED)
    assert found == inspection.Compared(differences=())


async def test_nobody_but_the_operator_takes_away_what_all_share(broker: Allowed) -> None:
    others = sorted({*USERS} - {"operator"})
    taken = {user: await not_refused(broker.url(user), TAKING_AWAY) for user in others}
    assert taken == {user: [] for user in others}


async def test_a_receiver_keeps_callbacks_until_the_operator_has_made_what_is_missing(
    broker: Allowed, tmp_path: Path
) -> None:
    async with (
        bridge(tmp_path, broker.url("receiver")) as running,
        channel_to(broker.admin) as channel,
    ):
        await running.connected()
        await channel.exchange_delete(topology.RECEIVED)
        await running.openim.post(*openim.sample(AfterAddFriend.command))
        link = running.running.forwarder.link
        await until(lambda: "must be there" in link.reason)
        reason = link.reason
        await broker.operate(BRIDGE, "topology", "apply", folder=tmp_path)
        await running.drained()
    kept = await taken_from(broker.admin, topology.UNROUTED)
    assert reason.startswith("exchange openim.received must be there")
    assert "refused for user 'receiver'" in reason
    assert kept.type == AfterAddFriend.command


async def test_nobody_but_the_operator_may_administer(broker: Allowed) -> None:
    async def status(user: str) -> int:
        url = URL(broker.management_url).with_user(user).with_password(PASSWORDS[user])
        async with aiohttp.ClientSession() as api, api.get(url / "api/users") as answer:
            return answer.status

    assert {user: await status(user) for user in USERS} == {
        "receiver": 401,
        "consumers": 401,
        "console": 401,
        "operator": 200,
        "monitoring": 401,
    }


def test_the_definitions_hold_no_password_but_hashes_of_them() -> None:
    made = definitions(PASSWORDS)
    assert not any(password in str(made) for password in PASSWORDS.values())
    (hashed,) = (user["password_hash"] for user in made["users"] if user["name"] == "operator")
    salt, digest = (kept := base64.b64decode(hashed))[:4], kept[4:]
    assert digest == hashlib.sha256(salt + PASSWORDS["operator"].encode()).digest()
    assert made == definitions(PASSWORDS)


def test_a_name_is_taken_by_the_letter_but_for_its_star() -> None:
    assert pattern(["openim.work.*", "amq.gen-*", "a.b"]) == (
        r"^(a\.b|amq\.gen-.+|openim\.work\..+)$"
    )
    assert pattern([]) == "^$"
