"""Subscriptions of other teams: `openim-bridge subscribe`, `unsubscribe`, `subscriptions`."""

import json
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import ChannelAccessRefused
from yarl import URL

from bridge import openim
from bridge.broker import BrokerUnreachable, connect
from bridge.contract import EVENTS, Event, partition, routing_key
from bridge.downstream import UnknownPattern, bindings, matches, patterns
from bridge.management import address, virtual_host
from bridge.subscriptions import user_url
from bridge.topology import CALLBACKS
from tests.brokers import Address
from tests.brokers import virtual_host as another_host
from tests.commands import BRIDGE, Command, ran
from tests.running import Bridge, bridge, eventually, everything, until


@dataclass(frozen=True)
class Team:
    """A team that subscribes, under a name that nobody else has."""

    name: str
    folder: Path
    variables: dict[str, str]

    @property
    def queue(self) -> str:
        """The queue that it gets."""
        return f"openim.sub.{self.name}"

    async def run(self, command: str, *words: str, **changed: str) -> Command:
        """Run a command of ours to its end."""
        return await ran(
            BRIDGE, command, *words, folder=self.folder, **self.variables | changed
        )

    async def subscribe(self, commands: str, *words: str, **changed: str) -> Command:
        """Subscribe; most tests need no consumer printed but the shortest."""
        given = ("--commands", commands, "--language", "python", *words)
        return await self.run("subscribe", self.name, *given, **changed)

    async def listed(self) -> dict[str, object]:
        """Give what `subscriptions` says of it."""
        command = await self.run("subscriptions", "--json")
        found = map(json.loads, command.out.splitlines())
        return next((each for each in found if each["name"] == self.name), {})


@pytest.fixture
def team(broker: Address, amqp_url: str, tmp_path: Path) -> Team:
    variables = {
        "BRIDGE_AMQP_URL": amqp_url,
        "BRIDGE_MANAGEMENT_URL": broker.management_url,
    }
    return Team(f"team-{uuid.uuid4().hex[:12]}", tmp_path, variables)


def url_in(command: Command) -> str:
    """Give the AMQP_URL that was printed."""
    assert command.process.returncode == 0, command.err
    found = re.search(r"^AMQP_URL +(\S+)$", command.out, re.MULTILINE)
    assert found is not None
    return found[1]


async def post(running: Bridge, *names: str) -> None:
    """Post recorded callbacks, one after the other, and wait until RabbitMQ has them."""
    for name in names:
        await running.openim.post(*openim.sample(name))
    await running.drained()


async def commands_in(url: str, queue: str) -> list[str]:
    """Take all that waits in a queue; name the callbacks, short."""
    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        found = await channel.get_queue(queue, ensure=False)
        names = []
        while message := await found.get(fail=False):
            await message.ack()
            names.append((message.type or "")[8:-7])
    return names


async def consumed(url: str, queue: str, count: int) -> list[str]:
    """Take so many by a consumer, which the queues of an ordered one insist on."""
    names: list[str] = []

    async def take(message: AbstractIncomingMessage) -> None:
        await message.ack()
        names.append((message.type or "")[8:-7])

    async with await aio_pika.connect(url) as connection, connection.channel() as channel:
        await (await channel.get_queue(queue, ensure=False)).consume(take)
        await until(lambda: len(names) >= count)
    return names


async def test_a_subscription_gets_what_its_patterns_say(team: Team) -> None:
    command = await team.subscribe("friend.*,AfterUserOnline")
    async with bridge(team.folder, team.variables["BRIDGE_AMQP_URL"]) as running:
        await post(running, "AfterAddFriend", "AfterUserOnline", "AfterUserOffline")
    assert await commands_in(url_in(command), team.queue) == [
        "AfterAddFriend",
        "AfterUserOnline",
    ]


async def test_its_user_may_read_its_queues_and_nothing_else(team: Team, amqp_url: str) -> None:
    command = await team.subscribe("#")
    neighbour = await team.run("subscribe", f"{team.name}-2", "--commands", "#")
    assert neighbour.process.returncode == 0

    async def refused(act: Callable[[AbstractChannel], object]) -> bool:
        async with await aio_pika.connect(url_in(command)) as line, line.channel() as channel:
            with pytest.raises(ChannelAccessRefused):
                await act(channel)  # type: ignore[misc]  # some return more than others
        return True

    message = aio_pika.Message(b"{}")

    async def publish(channel: AbstractChannel) -> None:
        await (await channel.get_exchange(CALLBACKS, ensure=False)).publish(message, "x")

    async def read(channel: AbstractChannel) -> None:
        await (await channel.get_queue(f"{team.queue}-2", ensure=False)).get()

    async def bind(channel: AbstractChannel) -> None:
        await (await channel.get_queue(team.queue, ensure=False)).bind(CALLBACKS, "#")

    assert await refused(publish)
    assert await refused(read)
    assert await refused(bind)
    assert await refused(lambda channel: channel.declare_queue("own"))
    assert await refused(lambda channel: channel.queue_delete(team.queue))
    assert await refused(lambda channel: channel.default_exchange.publish(message, team.queue))
    async with another_host(
        Address(amqp_url.rpartition("/")[0] + "/", management(team))
    ) as other:
        elsewhere = str(URL(url_in(command)).with_path(URL(other).path))
        with pytest.raises(BrokerUnreachable, match="has no virtual host"):
            async with connect(elsewhere, name="test", timeout=5):
                pass


def management(team: Team) -> str:
    return team.variables["BRIDGE_MANAGEMENT_URL"]


async def test_subscribing_again_changes_nothing_and_says_the_same(team: Team) -> None:
    first = await team.subscribe("friend.#")
    again = await team.subscribe("friend.#")
    password = URL(url_in(first)).password or ""
    assert len(password) >= 32
    said = first.out.replace(password, "PASSWORD").replace(
        "shown this once", "as before; --new-password gives another"
    )
    assert again.out == said
    assert await commands_in(url_in(first), team.queue) == []


async def test_a_new_password_takes_the_place_of_the_old(team: Team) -> None:
    first = url_in(await team.subscribe("#"))
    second = url_in(await team.subscribe("#", "--new-password"))
    assert await commands_in(second, team.queue) == []
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(first)


async def test_a_password_from_a_file_is_used_and_not_shown(team: Team) -> None:
    (team.folder / "password").write_text("to/be: or @not\n")
    command = await team.subscribe("#", "--password-file", "password")
    assert "be:" not in command.out
    url = str(URL(url_in(command)).with_password("to/be: or @not"))
    assert await commands_in(url, team.queue) == []


async def test_other_patterns_take_the_place_of_the_old(team: Team, amqp_url: str) -> None:
    url = url_in(await team.subscribe("friend.#,AfterUserOnline"))
    others = "AfterUserOnline,AfterUserOffline"
    asked = await team.subscribe(others)
    tried = await team.subscribe(others, "--dry-run", "--json")
    await team.subscribe(others, "--yes")
    async with bridge(team.folder, amqp_url) as running:
        await post(running, "AfterAddFriend", "AfterUserOnline", "AfterUserOffline")
    assert (asked.process.returncode, "friend.# no more" in asked.err) == (2, True)
    assert json.loads(tried.out)["takes_away"] == ["friend.#"]
    assert await commands_in(url, team.queue) == ["AfterUserOnline", "AfterUserOffline"]
    assert (await team.listed())["patterns"] == [
        "presence.after.user_offline",
        "presence.after.user_online",
    ]


async def test_an_ordered_one_has_a_queue_for_each_partition(team: Team, amqp_url: str) -> None:
    url = url_in(await team.subscribe("#", "--ordered"))
    async with bridge(team.folder, amqp_url) as running:
        await post(running, "AfterAddFriend", "AfterUserOnline")
        await running.openim.post("callbackAfterUserOnlineCommand", b"not JSON")
        await running.drained()
    where = {
        name: f"{team.queue}.p{partition(key, 16):02d}"
        for name, key in (("AfterAddFriend", "user_a,user_b"), ("AfterUserOnline", "user_a"))
    }
    assert await consumed(url, where["AfterAddFriend"], 1) == ["AfterAddFriend"]
    assert await consumed(url, where["AfterUserOnline"], 1) == ["AfterUserOnline"]
    assert await consumed(url, f"{team.queue}.p00", 1) == ["AfterUserOnline"]
    assert (await team.listed())["ordered"] is True


async def test_an_ordered_queue_has_one_consumer_at_a_time(team: Team, amqp_url: str) -> None:
    url = url_in(await team.subscribe("#", "--ordered"))
    got: list[int] = []
    async with (
        bridge(team.folder, amqp_url) as running,
        await aio_pika.connect(url) as connection,
        connection.channel() as channel,
    ):
        await channel.set_qos(prefetch_count=1)
        queue = await channel.get_queue(f"{team.queue}.p00", ensure=False)
        for number in (1, 2):

            async def take(message: AbstractIncomingMessage, number: int = number) -> None:
                got.append(number)
                await message.ack()

            await queue.consume(take)
        for _ in range(20):
            await running.openim.post("callbackAfterUserOnlineCommand", b"not JSON")
        await until(lambda: len(got) == 20)
    assert got == [1] * 20


@pytest.mark.parametrize("words", [("--ordered",), ("--max-length", "7")])
async def test_what_cannot_be_changed_is_refused(team: Team, words: tuple[str, ...]) -> None:
    await team.subscribe("#")
    command = await team.subscribe("#", *words)
    assert command.process.returncode == 1
    assert re.match(r"error: .* exists (un|other)", command.err)


async def test_a_full_one_loses_its_oldest_and_disturbs_nobody(
    team: Team, amqp_url: str
) -> None:
    """Nor does it lose what its consumer has in hand."""
    url = url_in(await team.subscribe("presence.#", "--max-length", "3"))
    bodies = [b'{"userID":"u","seq":%d}' % number for number in range(10)]
    async with (
        everything(amqp_url) as seen,
        bridge(team.folder, amqp_url) as running,
        await aio_pika.connect(url) as connection,
        connection.channel() as channel,
    ):
        queue = await channel.get_queue(team.queue, ensure=False)
        await running.openim.post("callbackAfterUserOnlineCommand", bodies[0])
        await running.drained()
        held = await queue.get()
        for body in bodies[1:]:
            await running.openim.post("callbackAfterUserOnlineCommand", body)
        await running.drained()
        others = await seen.have(10)
        metrics = running.running.forwarder.metrics.render().decode()
        left = [(await queue.get(no_ack=True)).body for _ in range(3)]
        assert await queue.get(no_ack=True, fail=False) is None
        await held.ack()
    assert [each.body for each in others] == bodies
    assert 'outcome="refused"} 0.0' in metrics
    assert [held.body, *left] == [bodies[0], *bodies[-3:]]


async def test_one_whose_consumer_has_died_disturbs_nobody(team: Team, amqp_url: str) -> None:
    """20 deliveries that come back are too much for RabbitMQ 4, unless it is told otherwise."""
    url = url_in(await team.subscribe("presence.#"))
    async with everything(amqp_url) as seen, bridge(team.folder, amqp_url) as running:
        await post(running, "AfterUserOnline")
        async with await aio_pika.connect(url) as connection, connection.channel() as channel:
            queue = await channel.get_queue(team.queue, ensure=False)
            for _ in range(25):
                await (await queue.get()).reject(requeue=True)
        await post(running, "AfterUserOffline")
        assert len(await seen.have(2)) == 2
    assert await commands_in(url, team.queue) == ["AfterUserOnline", "AfterUserOffline"]


async def test_without_the_management_api_there_is_a_queue_and_no_user(
    team: Team, amqp_url: str
) -> None:
    command = await team.subscribe("friend.#", BRIDGE_MANAGEMENT_URL="http://127.0.0.1:1")
    async with bridge(team.folder, amqp_url) as running:
        await post(running, "AfterAddFriend")
    assert command.process.returncode == 0
    assert "no user was made: no management API at 127.0.0.1:1" in command.err
    assert "AMQP_URL  " not in command.out
    assert await commands_in(amqp_url, team.queue) == ["AfterAddFriend"]


async def test_a_user_without_rights_to_the_api_is_told_so(team: Team) -> None:
    wrong = str(URL(management(team)).with_user("nobody"))
    command = await team.run("subscriptions", BRIDGE_MANAGEMENT_URL=wrong)
    assert command.process.returncode == 4
    assert "refuses user 'nobody': ask as one with the tag administrator" in command.err


async def keep(_message: AbstractIncomingMessage) -> None:
    """Take a message, and leave it unsettled."""


async def test_the_list_says_what_waits_and_who_takes_it(team: Team, amqp_url: str) -> None:
    url = url_in(await team.subscribe("presence.*"))
    async with (
        bridge(team.folder, amqp_url) as running,
        await aio_pika.connect(url) as connection,
        connection.channel() as channel,
    ):
        await post(running, "AfterUserOnline", "AfterUserOffline")
        await channel.set_qos(1)
        queue = await channel.get_queue(team.queue, ensure=False)
        await queue.consume(keep)
        listed = await eventually(
            team.listed, lambda one: (one["messages"], one["consumers"]) == (2, 1)
        )
    text = await team.run("subscriptions")
    assert listed["patterns"] == ["presence.#"]
    assert re.search(rf"^{team.name} +2 .* presence\.#$", text.out, re.MULTILINE)


async def test_unsubscribing_asks_if_messages_wait(team: Team, amqp_url: str) -> None:
    url = url_in(await team.subscribe("presence.#"))
    async with bridge(team.folder, amqp_url) as running:
        await post(running, "AfterUserOnline")
    asked = await team.run("unsubscribe", team.name)
    still = await commands_in(url, team.queue)
    told = await team.run("unsubscribe", team.name, "--yes")
    again = await team.run("unsubscribe", team.name, "--yes")
    assert (asked.process.returncode, still) == (2, ["AfterUserOnline"])
    assert "1 messages wait; delete them?" in asked.err
    assert (told.process.returncode, told.out) == (0, f"removed {team.name}\n")
    assert again.process.returncode == 1
    assert await team.listed() == {}
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(url)


async def test_an_empty_ordered_one_goes_without_a_question(team: Team) -> None:
    await team.subscribe("presence.#", "--ordered")
    command = await team.run("unsubscribe", team.name)
    assert (command.process.returncode, await team.listed()) == (0, {})


@pytest.mark.parametrize("ordered", [(), ("--ordered",)], ids=["plain", "ordered"])
async def test_a_new_subscriber_can_start_in_the_past(
    team: Team, amqp_url: str, ordered: tuple[str, ...]
) -> None:
    async with bridge(team.folder, amqp_url) as running:
        await post(running, "AfterUserOnline", "AfterAddFriend", "AfterUserOffline")
        url = url_in(await team.subscribe("presence.#", "--since", "7d", *ordered))
        await post(running, "AfterUserOnline")
    queue = f"{team.queue}.p{partition('user_a', 16):02d}" if ordered else team.queue
    assert await consumed(url, queue, 3) == [
        "AfterUserOnline",
        "AfterUserOffline",
        "AfterUserOnline",
    ]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("friend.*", "friend.#"),
        ("friend.after.*", "friend.after.*"),
        ("friend.after.add_friend.*", "friend.after.add_friend"),
        ("*", "#"),
        ("friend.#,#", "#"),
        ("unknown.*", "unknown.#"),
        ("malformed", "malformed"),
        ("callbackAfterAddFriendCommand", "friend.after.add_friend"),
        ("afteraddfriend", "friend.after.add_friend"),
        ("callbackUserOnlineCommand", "presence.after.user_online"),
    ],
)
def test_patterns_are_read_as_people_mean_them(text: str, wanted: str) -> None:
    assert patterns([text]) == (wanted,)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("freind.#", ""),
        ("friend.after.add_frend", "friend.after.add_friend?"),
        ("AfterAddFrend", "AfterAddFriend?"),
        ("friend", "friend.#?"),
        ("friend.after.add_friend.p07", "friend.after.add_friend?"),
    ],
)
def test_a_pattern_that_matches_nothing_is_refused(text: str, hint: str) -> None:
    with pytest.raises(UnknownPattern, match=re.escape(hint) + r"\Z"):
        patterns([text])


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.command)
def test_a_callback_matches_its_own_pattern_and_no_other(event: type[Event]) -> None:
    key = routing_key(event.command, event, 3)
    assert [each for each in EVENTS if matches(each.routing_key, key)] == [event]
    assert matches("#", key)
    assert matches(f"{event.subject}.#", key)
    assert matches(f"*.{event.phase}.*", key)


def test_an_ordered_one_misses_nothing() -> None:
    made = bindings("x", ("#", "friend.after.*"), partitions=2)
    assert [(each.queue[-3:], each.routing_key) for each in made] == [
        ("p00", "#.p00"),
        ("p00", "malformed"),
        ("p00", "friend.after.*.p00"),
        ("p01", "#.p01"),
        ("p01", "friend.after.*.p01"),
    ]


@pytest.mark.parametrize(
    ("amqp", "wanted"),
    [
        ("amqp://a:b@h/", "http://a:b@h:15672"),
        ("amqps://a:b@h:5671/v", "https://a:b@h:15671"),
    ],
)
def test_the_management_api_is_beside_rabbitmq_by_default(amqp: str, wanted: str) -> None:
    assert str(address("", amqp)) == wanted
    assert str(address("http://x:1", amqp)) == "http://a:b@x:1"
    assert str(address("http://c:d@x:1", amqp)) == "http://c:d@x:1"


@pytest.mark.parametrize(
    ("url", "host", "wanted"),
    [
        ("amqp://a:b@h/", "/", "amqp://u:p%2Fw@h:5672/%2F"),
        ("amqp://a:b@h:1/v", "v", "amqp://u:p%2Fw@h:1/v"),
        ("amqps://h/%2Fv", "/v", "amqps://u:p%2Fw@h:5671/%2Fv"),
    ],
)
def test_a_users_url_leads_to_the_same_virtual_host(url: str, host: str, wanted: str) -> None:
    assert virtual_host(url) == host
    assert user_url(url, "u", "p/w") == wanted
