"""Subscriptions that people pause: nothing more is begun, and nothing is lost."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from bridge import openim
from bridge.contract import AfterAddFriend
from bridge.topology import dead_letter_queue, work_queue
from consumers import database, pauses
from consumers.console import audit
from consumers.context import Context
from consumers.database import Database
from consumers.registry import Handlers
from consumers.worker import Worker
from tests.brokers import Address, OwnBroker
from tests.commands import CONSUMERS, Command, ran
from tests.console import Console, Person, console
from tests.running import NOWHERE, Bridge, eventually, until
from tests.test_console_events import ADD, SHOP, around, shop
from tests.test_console_events import at_work as at_work_beside
from tests.test_health import asked
from tests.test_worker import APPLY, channel_to, count, publish, taken_from, working

BODY = b'{"fromUserID":"a","toUserID":"b","reqMsg":"hi"}'

BY_ANN = {"who": "ann", "reason": "the shop moves"}

HANDLERS = {
    "CONSUMERS_HANDLERS": "consumers.handlers.friend_verification",
    "CONSUMERS_AMQP_URL": NOWHERE,
}
NAME = "friend_verification"

ordered_or_not = pytest.mark.parametrize("partition", [None, 1], ids=["one queue", "ordered"])


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have workers look more often than once a second."""
    monkeypatch.setattr(pauses, "PACE", 0.05)


@dataclass
class Shop:
    """A handler that waits to be let through, and what it has seen."""

    partition: int | None = None
    """What tests publish comes to; None if there are none."""
    begun: list[tuple[str, int]] = field(default_factory=list)
    """Message ids, and at which attempt."""
    ended: list[str] = field(default_factory=list)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def handlers(self) -> Handlers:
        """Give what a worker runs."""
        handlers = Handlers("shop", ordered=self.partition is not None)

        @handlers.on(AfterAddFriend, sql=False)
        async def sell(_event: AfterAddFriend, context: Context) -> None:
            self.begun.append((context.message_id, context.attempt))
            await self.open.wait()
            self.ended.append(context.message_id)

        return handlers

    @property
    def queue(self) -> str:
        """Give the queue that what tests publish comes to."""
        return work_queue("shop", self.partition)


async def consumers_of(amqp_url: str, queue: str) -> int:
    """Give how many consume a queue."""
    async with channel_to(amqp_url) as channel:
        found = await channel.declare_queue(queue, passive=True)
        return found.declaration_result.consumer_count or 0


async def change(opened: Database, name: str = "shop", *, paused: bool) -> None:
    """Pause a subscription, or resume it."""
    async with opened.transaction() as transaction:
        if paused:
            assert await pauses.pause(transaction, name, **BY_ANN)
        else:
            assert await pauses.resume(transaction, name)


@asynccontextmanager
async def at_work(
    amqp_url: str,
    database_url: str,
    shop: Shop,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[Worker]:
    """Run a worker that is connected."""
    chosen = {"partitions": 2} | changed
    async with working(amqp_url, database_url, shop.handlers, **chosen) as running:
        await until(lambda: bool(running.worker.works))
        yield running.worker


async def nobody_takes(amqp_url: str, shop: Shop) -> None:
    """Wait until a queue has no consumer."""
    await eventually(lambda: consumers_of(amqp_url, shop.queue), lambda found: found == 0)


async def somebody_takes(amqp_url: str, shop: Shop) -> None:
    """Wait until a queue has a consumer."""
    await eventually(lambda: consumers_of(amqp_url, shop.queue), lambda found: found > 0)


@ordered_or_not
async def test_what_has_begun_ends_and_the_rest_waits_until_it_is_resumed(
    amqp_url: str, database_url: str, opened: Database, partition: int | None
) -> None:
    shop = Shop(partition)
    async with at_work(amqp_url, database_url, shop) as running:
        await somebody_takes(amqp_url, shop)
        await publish(amqp_url, APPLY, BODY, "first")
        await until(lambda: len(shop.begun) == 1)
        await change(opened, paused=True)
        await until(lambda: running.works[0].state.paused_by is not None)
        shop.open.set()
        await nobody_takes(amqp_url, shop)
        await publish(amqp_url, APPLY, BODY, "second")
        await eventually(lambda: count(amqp_url, shop.queue), lambda found: found == 1)
        ended = list(shop.ended)
        await change(opened, paused=False)
        await until(lambda: len(shop.ended) == 2)
        await eventually(lambda: count(amqp_url, shop.queue), lambda found: found == 0)
    assert ended == ["first"]
    assert shop.begun == [("first", 1), ("second", 1)]
    assert await count(amqp_url, dead_letter_queue("shop")) == 0


async def test_what_waits_is_not_even_lent_to_a_worker_that_stops(
    amqp_url: str, tmp_path: Path
) -> None:
    url, shop = f"sqlite:///{tmp_path}/shop.db", Shop()
    async with (
        database.opened(url) as opened,
        at_work(amqp_url, url, shop, prefetch=1) as running,
    ):
        await publish(amqp_url, APPLY, BODY, "first")
        await publish(amqp_url, APPLY, BODY, "second")
        await until(lambda: len(shop.begun) == 1)
        await change(opened, paused=True)
        await until(lambda: running.works[0].state.paused_by is not None)
        await eventually(lambda: count(amqp_url, shop.queue), lambda found: found == 1)
        shop.open.set()
        await nobody_takes(amqp_url, shop)
        waiting = await taken_from(amqp_url, shop.queue)
    # RabbitMQ buries what was lent too often.
    assert (waiting.message_id, waiting.redelivered) == ("second", False)


async def test_a_pause_outlives_workers_and_rabbitmq(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    url, shop = f"sqlite:///{tmp_path}/shop.db", Shop(partition=1)
    shop.open.set()
    async with database.opened(url) as opened:
        async with at_work(own_broker.amqp_url, url, shop):
            await somebody_takes(own_broker.amqp_url, shop)
            await change(opened, paused=True)
            await nobody_takes(own_broker.amqp_url, shop)
        await publish(own_broker.amqp_url, APPLY, BODY, "kept")
        async with at_work(own_broker.amqp_url, url, shop) as later:
            await own_broker.stop()
            await until(lambda: not later.works)
            await own_broker.start()
            await until(lambda: bool(later.works))
            state = later.works[0].state
            waiting = await count(own_broker.amqp_url, shop.queue)
            await change(opened, paused=False)
            await until(lambda: shop.ended == ["kept"])
    assert state.paused_by is not None
    assert state.paused_by.who == "ann"
    assert waiting == 1
    assert shop.begun == [("kept", 1)]


async def test_a_worker_says_who_has_paused_what_since_when_and_why(
    amqp_url: str, tmp_path: Path
) -> None:
    async with asked(amqp_url, tmp_path, Shop().handlers) as it:
        async with database.opened(f"sqlite:///{tmp_path}/consumers.db") as opened:
            await change(opened, paused=True)
        said = await eventually(
            lambda: it.state("shop"), lambda said: bool(said.get("paused_by"))
        )
        metrics = await it.metrics()
        ready = await it.ready()
    since = said["paused_by"].pop("at")
    assert said["paused_by"] == BY_ANN
    labels = '{reason="the shop moves",subscription="shop",who="ann"}'
    assert metrics[f"paused_since_seconds{labels}"] == pytest.approx(since)
    assert metrics['paused{subscription="shop"}'] == 0
    assert ready["status"] == 200


# By command


def kept_in(folder: Path) -> str:
    """Name the database of commands that run in a folder."""
    return f"sqlite:///{folder}/openim-consumers.db"


async def subscriptions(*words: str, folder: Path) -> Command:
    """Run `openim-consumers subscriptions`."""
    return await ran(CONSUMERS, "subscriptions", *words, folder=folder, **HANDLERS)


async def test_a_command_pauses_and_resumes_and_both_are_noted(tmp_path: Path) -> None:
    paused = await subscriptions("pause", NAME, "--reason", "it moves", folder=tmp_path)
    listed = await subscriptions("list", folder=tmp_path)
    resumed = await subscriptions("resume", NAME, folder=tmp_path)
    after = await subscriptions("list", "--json", folder=tmp_path)
    async with (
        database.opened(kept_in(tmp_path)) as opened,
        opened.transaction() as transaction,
    ):
        rows = (await transaction.execute(select(audit.TABLE))).all()
    assert paused.out == f"{NAME} is paused: its workers stop within seconds\n"
    assert re.fullmatch(rf"{NAME}  paused by \S+@\S+ since \S+: it moves\n", listed.out)
    assert resumed.out == f"{NAME} goes on: its workers begin within seconds\n"
    assert json.loads(after.out) == {"subscription": NAME, "paused": False}
    assert [(row.action, row.target, row.reason) for row in rows] == [
        ("pause", NAME, "it moves"),
        ("resume", NAME, ""),
    ]


async def test_a_command_says_what_cannot_be_paused_or_resumed(tmp_path: Path) -> None:
    why = ("--reason", "it moves")
    async with database.opened(kept_in(tmp_path)) as opened:
        await opened.create_tables()
        await change(opened, NAME, paused=True)
    again = await subscriptions("pause", NAME, *why, folder=tmp_path)
    unknown = await subscriptions("pause", "chat", *why, folder=tmp_path)
    running = await subscriptions("resume", "shop", folder=tmp_path)
    codes = [each.process.returncode for each in (again, unknown, running)]
    assert codes == [1, 1, 1]
    assert f"{NAME} is paused already" in again.err
    assert f"has the subscription chat; there are: {NAME}" in unknown.err
    assert "nobody has paused shop" in running.err


async def test_a_command_says_that_the_database_is_away(tmp_path: Path) -> None:
    away = {"CONSUMERS_DATABASE_URL": "postgresql://127.0.0.1:1/nothing"}
    command = await ran(CONSUMERS, "subscriptions", "list", folder=tmp_path, **HANDLERS, **away)
    assert command.process.returncode == 4
    assert "error: the database: " in command.err


# In the console


FORM = {"subscription": SHOP, "reason": "the shop moves"}


@asynccontextmanager
async def shown_with_shop(
    folder: Path, amqp_url: str, broker: Address
) -> AsyncIterator[tuple[Bridge, Console, Person]]:
    """Run a console beside the shop's worker; give an operator, too."""
    async with (
        at_work_beside(folder, amqp_url, shop(None)),
        around(folder, amqp_url, broker) as (receiver, shown),
        shown.person("operator") as operator,
    ):
        await operator.sees("/subscriptions", "Pause shop")
        yield receiver, shown, operator


async def test_everybody_sees_in_the_console_what_is_paused_and_why(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        shown_with_shop(tmp_path, amqp_url, broker) as (receiver, shown, operator),
        shown.person("viewer") as viewer,
    ):
        await operator.does("/subscriptions/pause", **FORM)
        await nobody_takes(amqp_url, Shop())
        await receiver.openim.post(*openim.sample(ADD))
        event = await viewer.event(ADD, "no attempt yet")
        life = await viewer.sees(event, "shop is paused by operator@console since")
        overview = await viewer.sees("/", "1 callback in its queue, none is lost")
        subscriptions = await viewer.page("/subscriptions")
        flow = await viewer.page("/flow")
        await operator.does("/subscriptions/resume", subscription=SHOP)
        await viewer.event(ADD, "handled")
    assert "(the shop moves). Nothing is lost" in life
    assert "shop is paused by operator@console since" in overview
    assert "Nobody works for shop" not in overview
    assert "Paused by operator@console since" in subscriptions
    assert "Resume shop" not in subscriptions
    assert "1 in the queue, paused" in flow


async def test_a_pause_in_the_console_needs_a_reason_and_is_noted_once(
    tmp_path: Path, amqp_url: str, broker: Address
) -> None:
    async with (
        shown_with_shop(tmp_path, amqp_url, broker) as (_, shown, operator),
        shown.person("admin") as admin,
    ):
        without = await operator.does("/subscriptions/pause", subscription=SHOP)
        done = await operator.does("/subscriptions/pause", **FORM)
        again = await operator.does("/subscriptions/pause", **FORM)
        resumed = await operator.does("/subscriptions/resume", subscription=SHOP)
        twice = await operator.does("/subscriptions/resume", subscription=SHOP)
        noted = await admin.page("/audit")
    assert [each[0] for each in (without, again, twice)] == [400, 409, 409]
    assert "shop is paused: its workers stop within seconds." in done[1]
    assert "Resume shop" in done[1]
    assert "Pause shop" in resumed[1]
    assert noted.count("<td>pause</td>") == noted.count("<td>resume</td>") == 1
    assert noted.count("<td>the shop moves</td>") == 1


async def test_what_is_no_subscription_of_a_worker_cannot_be_paused(tmp_path: Path) -> None:
    async with console(tmp_path) as shown, shown.person("operator") as person:
        form = {"subscription": "nobody", "reason": "none"}
        assert (await person.does("/subscriptions/pause", **form))[0] == 400
