"""What the console says of events: found in it alone, and done in it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from sqlalchemy import select

from bridge import openim, topology
from bridge.contract import AfterAddFriend, AfterUserOnline, BeforeAddFriend
from bridge.topology import dead_letter_queue, work_queue
from consumers import database, dead_letter_audit
from consumers.console import audit
from consumers.handlers import friend_verification
from consumers.registry import Handlers, Reject
from tests.brokers import Address
from tests.console import Console, at, console
from tests.policies import commands, written
from tests.running import Bridge, bridge, eventually
from tests.test_worker import channel_to, count, declared, working

ADD = AfterAddFriend.command
SHOP = "shop"


@asynccontextmanager
async def around(
    folder: Path,
    amqp_url: str,
    broker: Address,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[tuple[Bridge, Console]]:
    """Run a receiver, and a console beside it."""
    async with bridge(folder, amqp_url, **changed) as receiver:
        await receiver.connected()
        where = at(amqp_url, broker, receiver.url)
        async with console(folder, **where) as shown:
            yield receiver, shown


def shop(error: Exception | None) -> Handlers:
    """Give a handler that raises an error, or none."""
    handlers = Handlers(SHOP)

    @handlers.on(AfterAddFriend, sql=False)
    async def sell(_event: AfterAddFriend) -> None:
        if error is not None:
            raise error

    return handlers


@asynccontextmanager
async def at_work(folder: Path, amqp_url: str, handlers: Handlers) -> AsyncIterator[None]:
    """Run a worker that has its queues."""
    async with working(amqp_url, database_in(folder), handlers):
        await declared(amqp_url, handlers.subscription)
        yield


def database_in(folder: Path) -> str:
    """Name the database that worker and console share."""
    return f"sqlite:///{folder}/console.db"


# Why a callback did not reach a handler, found in the console alone


async def test_it_says_that_no_subscription_wants_it(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(AfterUserOnline.command))
        page = await person.event(AfterUserOnline.command, "no subscription")
        assert "No subscription wants this callback" in await person.page(page)


async def test_it_says_that_no_worker_runs(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with at_work(tmp_path, amqp_url, shop(None)):
        pass
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(ADD))
        page = await person.event(ADD, "no attempt yet")
        await person.sees(page, "no worker runs for shop")
        await person.sees("/", "Nobody works for shop.")


async def test_it_says_what_a_handler_raised_and_when_it_tries_again(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    failing = shop(RuntimeError("the shop is closed"))
    async with (
        at_work(tmp_path, amqp_url, failing),
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(ADD))
        page = await person.event(ADD, "failed, waits")
        life = await person.sees(page, "failed with RuntimeError: the shop is closed")
    assert "again at" in life
    assert "Attempt 1" in life


async def test_it_says_that_it_is_a_dead_letter_and_leads_there(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        at_work(tmp_path, amqp_url, shop(Reject("no such customer"))),
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(ADD))
        page = await person.event(ADD, "dead letter")
        life = await person.page(page)
        letter = f"/dead-letter?subscription={SHOP}&id={page.partition('=')[2]}"
        await person.sees("/dead-letters", "no such customer")
        assert "no such customer" in await person.page(letter)
    assert "It became a dead letter at attempt 1: Reject: no such customer" in life
    assert letter.replace("&", "&amp;") in life


async def test_it_says_that_the_policy_refused_it(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    refusal = {"code": 20001, "message": "no"}
    policy = written(tmp_path, commands(BeforeAddFriend={"refuse": refusal}))
    async with (
        around(tmp_path, amqp_url, broker, policy=policy) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(BeforeAddFriend.command))
        page = await person.event(BeforeAddFriend.command, "refused")
        assert "refuse the operation by policy, so it did not happen" in await person.page(page)


async def test_it_says_that_a_callback_was_never_seen(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(*openim.sample(ADD))
        await person.event(ADD, "no subscription")
        hint = await person.page("/events?command=AfterUserOnline")
        setup = await person.page("/setup")
    assert "is it enabled in webhooks.yml?" in hint
    assert setup.count("never seen; is it enabled?") == 51
    assert "1 of 52 were seen" in setup


# What else there is to see


async def test_an_event_is_found_by_whom_it_names(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    body = json.dumps({"fromUserID": "anna", "toUserID": "bert", "reqMsg": "hello"}).encode()
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("viewer") as person,
    ):
        await receiver.openim.post(ADD, body, "operation-1")
        await receiver.openim.post(*openim.sample("AfterCreateGroup"))
        await person.sees("/events", ">AfterCreateGroup</td>")
        found = {
            query: "/event?id=" in await person.page(f"/events?{query}")
            for query in (
                *("user=bert", "user=carl", "user=anna&command=AfterAddFriend"),
                *("group=3012345678", "group=bert", "text=operation-1", "text=operation-2"),
                *("since=2020-01-01T00:00", "until=2020-01-01T00:00", "outcome=handled"),
                *("user=anna&before=0", "outcome=none"),
            )
        }
    assert [query for query, is_there in found.items() if is_there] == [
        *("user=bert", "user=anna&command=AfterAddFriend", "group=3012345678"),
        *("text=operation-1", "since=2020-01-01T00:00", "outcome=none"),
    ]


async def test_a_body_is_shown_to_an_admin_once_that_is_noted(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    body = json.dumps(
        {"fromUserID": "anna", "toUserID": "bert", "reqMsg": "<b>secret"}
    ).encode()
    async with (
        around(tmp_path, amqp_url, broker) as (receiver, shown),
        shown.person("operator") as operator,
        shown.person("admin") as admin,
    ):
        await receiver.openim.post(ADD, body)
        page = await admin.event(ADD, "no subscription")
        id_ = page.partition("=")[2]
        assert "secret" not in await admin.page(page)
        assert (await operator.does("/event/body", id=id_))[0] == 403
        status, shown_to_admin = await admin.does("/event/body", id=id_)
        noted = await admin.page("/audit")
    assert status == 200
    assert "&lt;b&gt;secret" in shown_to_admin
    assert noted.count(id_) == 1


async def test_what_cannot_be_noted_is_not_done(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with bridge(tmp_path, amqp_url) as receiver:
        where = at(amqp_url, broker, receiver.url) | {
            "database_url": "postgresql://nobody@127.0.0.1:1/nothing"
        }
        async with console(tmp_path, **where) as shown, shown.person("admin") as admin:
            status, said = await admin.does("/setup/sample", command=ADD)
            assert receiver.running.journal.depth == 0
    assert status == 503
    assert "Nothing was done" in said


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({"sources": "192.0.2.1"}, "BRIDGE_SOURCES"),
        ({"secrets": "a:" + "s" * 40}, "CONSOLE_CALLBACK_URL"),
    ],
)
async def test_a_sample_that_is_refused_says_what_lets_it_in(
    tmp_path: Path, amqp_url: str, broker: Address, changed: dict[str, str], remedy: str
) -> None:
    async with (
        around(tmp_path, amqp_url, broker, **changed) as (_receiver, shown),
        shown.person("operator") as person,
    ):
        status, said = await person.does("/setup/sample", command=ADD)
    assert status == 502
    assert remedy in said


async def test_a_sample_goes_the_whole_way(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        at_work(tmp_path, amqp_url, friend_verification.handlers),
        around(tmp_path, amqp_url, broker) as (_receiver, shown),
        shown.person("operator") as person,
    ):
        form = {"command": "callbackAfterAddFriendAgreeCommand", "csrf": await person.csrf()}
        async with person.session.post("/setup/sample", data=form) as answer:
            followed = answer.url.path_qs
            assert "The receiver answered in" in await answer.text()
        await person.sees(followed, "handled it at attempt 1")
        friends = await person.sees("/friends", "sample-fromUserID")
    assert "is accepted by" in friends
    assert "only an admin sees what was said" in friends


async def kept(channel: AbstractChannel, id_: str) -> None:
    """Put an event into the archive, which is made if it is not there."""
    stream = topology.archive(3600, 2**20)
    await channel.declare_queue(stream.name, durable=True, arguments=dict(stream.arguments))
    message = aio_pika.Message(id_.encode(), type=ADD, message_id=id_)
    await channel.default_exchange.publish(message, stream.name)


async def test_an_archive_that_is_made_anew_is_read_from_its_beginning(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        channel_to(amqp_url) as channel,
        console(tmp_path, **at(amqp_url, broker)) as shown,
        shown.person("viewer") as person,
    ):
        await kept(channel, "old-0")
        await kept(channel, "old-1")
        await person.sees("/events", "old-1")
        await channel.queue_delete(topology.ARCHIVE)
        await kept(channel, "new-0")
        page = await person.sees("/events", "new-0")
        assert "old-" not in page
        await kept(channel, "new-1")
        await person.sees("/events", "new-1")


# Dead letters


@asynccontextmanager
async def dead(
    folder: Path, amqp_url: str, broker: Address
) -> AsyncIterator[tuple[Console, asyncio.Event]]:
    """Run a worker that buries what comes until it is told that it is open, and a console."""
    opened, handlers = asyncio.Event(), Handlers(SHOP)

    @handlers.on(AfterAddFriend, sql=False)
    async def sell(event: AfterAddFriend) -> None:
        if not opened.is_set():
            raise Reject(f"closed to {event.from_user_id}")

    async with (
        at_work(folder, amqp_url, handlers),
        around(folder, amqp_url, broker) as (receiver, shown),
    ):
        await receiver.openim.post(*openim.sample(ADD))
        await receiver.openim.post(*openim.sample(ADD))
        yield shown, opened


async def test_alike_letters_are_replayed_together(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, opened),
        shown.person("operator") as person,
    ):
        await person.sees("/dead-letters", "Replay 2")
        opened.set()
        status, _ = await person.does(
            "/dead-letters/replay", subscription=SHOP, error="Reject: closed to #"
        )
        assert status == 200
        await person.sees("/dead-letters", "Replayed 2")
        await eventually(
            lambda: count(amqp_url, dead_letter_queue(SHOP)), lambda left: left == 0
        )
        await eventually(lambda: count(amqp_url, work_queue(SHOP)), lambda left: left == 0)
        await person.sees(f"/events?command={ADD}&outcome=handled", "/event?id=")
        assert await _noted(tmp_path) == [
            ("replay", "operator", ""),
            ("replay", "operator", ""),
        ]


async def test_a_letter_is_discarded_with_a_reason(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, _opened),
        shown.person("operator") as person,
    ):
        page = await person.sees("/dead-letters", "Replay 2")
        id_ = page.partition("&amp;id=")[2].partition('"')[0]
        letter = {"subscription": SHOP, "id": id_}
        assert (await person.does("/dead-letters/discard", **letter))[0] == 400
        await person.does("/dead-letters/discard", **letter, reason="sent by a test")
        await person.sees("/dead-letters", "Discarded 1")
        await person.sees("/dead-letters", "Replay 1")
        assert await _noted(tmp_path) == [("discard", "operator", "sent by a test")]


@pytest.mark.parametrize(
    "form", [{}, {"subscription": SHOP}, {"subscription": "no", "id": "1"}]
)
async def test_nobody_settles_letters_by_mistake(
    tmp_path: Path, amqp_url: str, broker: Address, form: dict[str, str]
) -> None:
    async with (
        dead(tmp_path, amqp_url, broker) as (shown, _opened),
        shown.person("operator") as person,
    ):
        await person.sees("/dead-letters", "Replay 2")
        assert (await person.does("/dead-letters/replay", **form))[0] == 400


async def _noted(folder: Path) -> list[tuple[str, str, str]]:
    """Give action, user and reason of what the audit logs have, which must agree."""
    table, own = dead_letter_audit.TABLE.c, audit.TABLE.c
    async with (
        database.opened(database_in(folder)) as opened,
        opened.transaction() as transaction,
    ):
        rows = await transaction.execute(select(table.action, table.who, table.reason))
        noted = [(action, who.removesuffix("@console"), why) for action, who, why in rows]
        acts = await transaction.execute(select(own.action, own.who, own.reason))
        assert {tuple(act) for act in acts} == set(noted)
    return noted
