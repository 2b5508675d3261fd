"""`topology`: what RabbitMQ has and what it should have, and processes that may not make it."""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

import aio_pika
import aiohttp
import pytest
from yarl import URL

from bridge.broker import connect
from bridge.deliveries import NotAllowed
from bridge.inspection import differences, wanted
from bridge.management import management
from bridge.queues import ready
from bridge.rights import SHARED
from bridge.topology import (
    BRIDGE,
    CALLBACKS,
    RETRY,
    UNROUTED,
    Binding,
    Exchange,
    Topology,
    quorum,
    wait_exchange,
)
from tests.brokers import Address, OwnBroker, virtual_host
from tests.commands import BRIDGE as PROGRAM
from tests.commands import CONSUMERS, Command, ran
from tests.running import bridge, eventually, settings, until
from tests.test_worker import channel_to, count

Run: TypeAlias = Callable[..., Awaitable[Command]]

COMMAND = "callbackAfterUserOnlineCommand"


@pytest.fixture
def topology(broker: Address, amqp_url: str, tmp_path: Path) -> Run:
    """Give what runs `openim-bridge topology`, by default on an empty virtual host."""

    async def run(*words: str, url: str = amqp_url) -> Command:
        return await ran(
            PROGRAM,
            "topology",
            *words,
            folder=tmp_path,
            BRIDGE_AMQP_URL=url,
            BRIDGE_MANAGEMENT_URL=broker.management_url,
        )

    return run


async def declared(amqp_url: str, also: Topology) -> None:
    async with connect(amqp_url, name="test", timeout=20) as there:
        await there.declare(also)


def lines(command: Command) -> list[str]:
    return command.out.splitlines()


async def test_what_is_missing_is_planned_made_once_and_then_verified(topology: Run) -> None:
    planned = await topology("plan")
    tried = await topology("apply", "--dry-run")
    differs = await topology("verify", "--json")
    made = await topology("apply")
    again = await topology("apply")
    verified = await topology("verify")
    assert [each.process.returncode for each in (planned, tried, differs)] == [0, 0, 1]
    assert [each.process.returncode for each in (made, again, verified)] == [0, 0, 0]
    assert lines(planned) == lines(tried)
    assert "+ exchange openim.received is missing" in lines(planned)
    assert "+ binding openim.received -> queue openim.archive (#) is missing" in lines(planned)
    assert [json.loads(line)["kind"] for line in lines(differs)] == ["missing"] * len(
        lines(planned)
    )
    assert lines(made) == [*lines(planned), f"created {len(lines(planned))}"]
    assert (lines(again), lines(verified)) == (["created 0"], ["all is as wanted"])


async def test_what_a_receiver_makes_is_what_is_wanted(
    topology: Run, amqp_url: str, tmp_path: Path
) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await running.connected()
    assert lines(await topology("verify")) == ["all is as wanted"]


async def test_what_is_there_otherwise_stays_and_the_rest_is_made(
    topology: Run, amqp_url: str
) -> None:
    other = Topology(
        exchanges=(Exchange(name=CALLBACKS, kind="topic"),),
        queues=(quorum(UNROUTED, max_length=1),),
    )
    await declared(amqp_url, other)
    applied = await topology("apply")
    left = await topology("verify")
    assert (applied.process.returncode, left.process.returncode) == (5, 1)
    assert lines(applied)[-1] == "2 differ still"
    wanted = "wanted alternate-exchange=openim.unrouted"
    assert lines(left) == [
        f"! exchange openim.callbacks has no alternate-exchange, {wanted}",
        "! queue openim.unrouted has x-max-length=1, wanted no x-max-length",
    ]


async def put_policy(
    broker: Address, amqp_url: str, pattern: str, definition: dict[str, str | int]
) -> None:
    """Make a policy for queues, as an operator would."""
    vhost = URL(amqp_url).path.removeprefix("/")
    policy = {"pattern": pattern, "definition": definition, "apply-to": "queues"}
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        policies = f"{broker.management_url}/api/policies/{vhost}"
        await api.put(URL(f"{policies}/{quote(pattern, safe='')}", encoded=True), json=policy)


async def test_a_policy_that_loses_messages_is_a_difference(
    topology: Run, broker: Address, amqp_url: str
) -> None:
    await topology("apply")
    losing: dict[str, str | int] = {
        "delivery-limit": 1,
        "max-length": 1,
        "message-ttl": 1000,
        "overflow": "drop-head",
    }
    await put_policy(broker, amqp_url, r"^openim\.", losing)

    async def verified() -> Command:
        return await topology("verify")

    left = await eventually(verified, lambda command: len(lines(command)) == 2)
    unrouted, refused = lines(left)
    assert unrouted == (
        "! queue openim.unrouted a policy has delivery-limit=1, wanted none;"
        " a policy has max-length=1, wanted none; a policy has overflow=drop-head, wanted none;"
        " a policy has message-ttl=1000, wanted none"
    )
    assert refused == (
        "! queue openim.refused a policy has delivery-limit=1, wanted none;"
        " a policy has message-ttl=1000, wanted 5000"
    )


HARMLESS: dict[str, dict[str, str | int]] = {
    "unrouted": {"max-length": 1, "overflow": "reject-publish"},
    "refused": {
        "dead-letter-exchange": "elsewhere",
        "max-length-bytes": 1,
        "message-ttl": 5001,
        "overflow": "drop-head",
    },
    "archive": {"max-age": "1h", "max-length-bytes": 1_000_000},
}
"""Policies by queue: what it refuses is not lost, and its own arguments count for more."""


async def test_policies_that_lose_nothing_are_no_difference(
    topology: Run, broker: Address, amqp_url: str
) -> None:
    await topology("apply")
    for queue, definition in HARMLESS.items():
        await put_policy(broker, amqp_url, rf"^openim\.{queue}$", definition)

    async def in_effect() -> list[object]:
        async with management(broker.management_url, amqp_url, 20) as api:
            return [each.get("effective_policy_definition") for each in await api.queues()]

    await eventually(in_effect, lambda found: all(each in found for each in HARMLESS.values()))
    assert lines(await topology("verify")) == ["all is as wanted"]


def test_a_policy_that_lifts_the_delivery_limit_is_no_difference() -> None:
    """RabbitMQ 4 takes such a policy, older ones refuse it."""
    limited = quorum("limited", delivery_limit=20)
    queues = [
        {
            "name": each.name,
            "durable": True,
            "arguments": each.arguments,
            "effective_policy_definition": {"delivery-limit": -1},
        }
        for each in (limited, quorum("free"))
    ]
    made = Topology(queues=(limited, quorum("free")))
    assert list(differences(made, [], queues, [])) == []


async def test_a_binding_that_nobody_wants_is_removed_if_asked_for(
    topology: Run, amqp_url: str
) -> None:
    extra = Binding(exchange=CALLBACKS, queue=UNROUTED, routing_key="old.#")
    await declared(amqp_url, BRIDGE)
    await declared(amqp_url, Topology(bindings=(extra,)))
    kept = await topology("apply")
    removed = await topology("apply", "--unbind", "--yes")
    assert "- binding openim.callbacks -> queue openim.unrouted (old.#) is there" in kept.out
    assert (kept.process.returncode, removed.process.returncode) == (5, 0)
    assert lines(await topology("verify")) == ["all is as wanted"]


async def test_rabbitmq_imports_what_is_exported(
    topology: Run, broker: Address, tmp_path: Path
) -> None:
    async with virtual_host(broker) as url, aiohttp.ClientSession() as api:
        await topology("export", "--output", "definitions.json", url=url)
        definitions = (tmp_path / "definitions.json").read_bytes()
        answer = await api.post(
            f"{broker.management_url}/api/definitions",
            data=definitions,
            headers={"Content-Type": "application/json"},
        )
        assert answer.status < 300, await answer.text()
        assert lines(await topology("verify", url=url)) == ["all is as wanted"]


@pytest.mark.broker
async def test_without_the_management_api_it_says_what_it_did_not_see(
    amqp_url: str, tmp_path: Path
) -> None:
    variables = {
        "BRIDGE_AMQP_URL": amqp_url,
        "BRIDGE_MANAGEMENT_URL": "http://127.0.0.1:1",
    }
    missing = await ran(PROGRAM, "topology", "verify", folder=tmp_path, **variables)
    made = await ran(PROGRAM, "topology", "apply", folder=tmp_path, **variables)
    unseen = await ran(PROGRAM, "topology", "verify", folder=tmp_path, **variables)
    words = "topology", "apply", "--unbind", "--yes", "--json"
    bound = await ran(PROGRAM, *words, folder=tmp_path, **variables)
    codes = [each.process.returncode for each in (missing, made, unseen, bound)]
    assert codes == [1, 0, 5, 5]
    assert json.loads(bound.out)["unseen"].startswith("no management API")
    assert "arguments and bindings were not seen: no management API" in unseen.err


@pytest.mark.broker
async def test_what_waits_for_a_queue_that_is_gone_holds_up_nobody(amqp_url: str) -> None:
    await declared(amqp_url, SHARED)
    async with channel_to(amqp_url) as channel:
        here = await channel.declare_queue("here")
        await here.bind(RETRY, "here")
        exchange = await channel.get_exchange(wait_exchange(1))
        # RabbitMQ has so many on their way at a time.
        for key in [*["gone"] * 32, "here"]:
            await exchange.publish(aio_pika.Message(key.encode()), key)
    await eventually(lambda: count(amqp_url, "here"), lambda there: there == 1)
    await eventually(lambda: count(amqp_url, UNROUTED), lambda there: there == 32)


async def test_workers_have_one_too_with_their_handlers_queues(
    amqp_url: str, tmp_path: Path
) -> None:
    made = await ran(
        CONSUMERS, "topology", "apply", folder=tmp_path, CONSUMERS_AMQP_URL=amqp_url
    )
    async with connect(amqp_url, name="test", timeout=20) as there:
        assert await ready(there, "openim.work.friend_verification") == 0
    assert made.process.returncode == 0


@pytest.fixture
async def reader_url(own_broker: OwnBroker) -> str:
    """A user who may publish and read, and declare nothing."""
    url = URL(own_broker.amqp_url)
    await own_broker.control("add_user", url.path[1:], "secret")
    await own_broker.control(
        "set_permissions", "-p", url.path[1:], url.path[1:], "", ".*", ".*"
    )
    return str(url.with_user(url.path[1:]).with_password("secret"))


async def test_a_receiver_that_may_declare_nothing_publishes_if_all_is_there(
    own_broker: OwnBroker, reader_url: str, tmp_path: Path
) -> None:
    await declared(own_broker.amqp_url, wanted(settings(tmp_path)))
    async with bridge(tmp_path, reader_url) as running:
        await running.openim.post(COMMAND, b"{}")
        await running.drained()
    async with connect(own_broker.amqp_url, name="test", timeout=20) as there:
        assert await ready(there, UNROUTED) == 1


async def test_a_receiver_that_may_declare_nothing_says_what_is_missing(
    own_broker: OwnBroker, reader_url: str, tmp_path: Path
) -> None:
    await declared(own_broker.amqp_url, Topology(exchanges=BRIDGE.exchanges))
    async with bridge(tmp_path, reader_url) as running:
        link = running.running.forwarder.link
        await until(lambda: "must be there" in link.reason)
    assert link.reason.startswith("queue openim.unrouted, queue openim.refused must be there")
    assert "ACCESS_REFUSED" in link.reason


async def test_a_receiver_that_may_not_make_the_archive_goes_on_without(
    own_broker: OwnBroker, reader_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    await declared(own_broker.amqp_url, BRIDGE)
    async with bridge(tmp_path, reader_url) as running:
        await running.openim.post(COMMAND, b"{}")
        await running.drained()
    assert "archive left as it is" in caplog.messages


async def test_what_may_not_be_declared_is_an_error_if_it_is_missing(
    reader_url: str,
) -> None:
    async with connect(reader_url, name="test", timeout=20) as there:
        with pytest.raises(NotAllowed, match=r"^exchange openim\.unrouted, "):
            await there.declare(BRIDGE)
