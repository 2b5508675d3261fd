"""A worker says over HTTP how it is, to supervisors and to Prometheus."""

import asyncio
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from bridge import openim
from bridge.contract import AfterAddFriend, Allow, BeforeAddFriend, Refuse
from consumers import database
from consumers.decisions import Decisions
from consumers.listener import listening
from consumers.registry import Context, Handlers, Reject, Unavailable
from consumers.settings import Worker as Settings
from consumers.worker import Worker
from tests.commands import CONSUMERS, ran, started
from tests.listener import TAKEN
from tests.listener import listening as web_server
from tests.running import NOWHERE, bridge, eventually, until
from tests.test_asking import consumed, policy
from tests.test_worker import APPLY, declared, publish

BODY = b'{"fromUserID":"a","toUserID":"b"}'


@dataclass
class Asked:
    """A worker that runs, and who asks it."""

    http: aiohttp.ClientSession
    worker: Worker
    stop: asyncio.Event

    async def ready(self) -> dict[str, Any]:
        """Give what `/readyz?verbose` says, with the status."""
        async with self.http.get("/readyz?verbose") as response:
            said: dict[str, Any] = await response.json()
            return {"status": response.status} | said

    async def state(self, subscription: str) -> dict[str, Any]:
        """Give what it says of a subscription."""
        found: dict[str, Any] = (await self.ready())["subscriptions"].get(subscription, {})
        return found

    async def metrics(self) -> dict[str, float]:
        """Give the series of `/metrics`, without buckets."""
        async with self.http.get("/metrics") as response:
            assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
            text = await response.text()
        lines = re.findall(r"^openim_consumers_(\w+(?:{.*})?) (\S+)$", text, re.MULTILINE)
        return {name: float(value) for name, value in lines if "_bucket" not in name}


@asynccontextmanager
async def asked(
    amqp_url: str, folder: Path, *handlers: Handlers, decisions: Sequence[Decisions] = ()
) -> AsyncIterator[Asked]:
    """Run a worker during the block, and give who asks it."""
    url = f"sqlite:///{folder / 'consumers.db'}"
    settings = Settings(amqp_url=amqp_url, database_url=url, grace_period=0.5, partitions=4)
    stop = asyncio.Event()
    async with database.opened(url) as opened:
        await opened.create_tables()
        worker = Worker(settings, handlers, opened, decisions)
        async with (
            listening(worker, "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http,
        ):
            task = asyncio.create_task(worker.run(stop))
            yield Asked(http, worker, stop)
            stop.set()
            await asyncio.wait_for(task, 20)


async def test_a_worker_is_ready_while_it_consumes_and_not_before_nor_after(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = Handlers("shop")
    begun = asyncio.Event()

    @handlers.on(AfterAddFriend)
    async def hang(_event: AfterAddFriend) -> None:
        begun.set()
        await asyncio.Event().wait()

    async with asked(amqp_url, tmp_path, handlers) as it:
        before = await it.ready()
        after = await eventually(it.ready, lambda said: said["ready"])
        await declared(amqp_url, "shop")
        await publish(amqp_url, APPLY, BODY)
        await asyncio.wait_for(begun.wait(), 20)
        state = await it.state("shop")
        it.stop.set()
        stopping = await eventually(it.ready, lambda said: not said["ready"])
    assert (before["status"], before["broker"]["reason"]) == (503, "not connected yet")
    assert after == {
        "status": 200,
        "ready": True,
        "broker": {"connected": True, "reason": ""},
        "subscriptions": {
            "shop": {
                "in_hand": 0,
                "oldest": 0.0,
                "paused": "",
                "paused_by": None,
                "partitions": None,
            }
        },
        "decisions": [],
        "stopping": False,
    }
    assert (state["in_hand"], state["oldest"] > 86_400) == (1, True)
    assert (stopping["status"], stopping["stopping"]) == (503, True)


async def test_a_worker_without_a_broker_lives_and_says_why_it_does_nothing(
    tmp_path: Path,
) -> None:
    async with asked(NOWHERE, tmp_path, Handlers("shop")) as it:
        said = await eventually(
            it.ready, lambda said: "no RabbitMQ" in said["broker"]["reason"]
        )
        assert (said["status"], said["subscriptions"]) == (503, {})
        assert (await it.metrics())["broker_connected"] == 0
        async with it.http.get("/livez") as response:
            assert (response.status, await response.json()) == (200, {"alive": True})
        async with it.http.get("/readyz") as response:
            assert (response.status, await response.json()) == (503, {"ready": False})


async def test_a_pause_is_said_with_its_reason_and_partitions_with_their_numbers(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = Handlers("chat", ordered=True)
    open_now: list[bool] = []

    @handlers.on(AfterAddFriend)
    async def ring(_event: AfterAddFriend) -> None:
        if not open_now:
            raise Unavailable("nobody opens")

    async with asked(amqp_url, tmp_path, handlers) as it:
        await declared(amqp_url, "chat.p01")
        await publish(amqp_url, APPLY, BODY)
        state = await eventually(lambda: it.state("chat"), lambda said: said["paused"])
        metrics = await it.metrics()
        open_now.append(True)
        later = await eventually(lambda: it.state("chat"), lambda said: not said["paused"])
    assert state["paused"] == "Unavailable: nobody opens"
    assert state["partitions"] == [0, 1, 2, 3]
    assert metrics['paused{subscription="chat"}'] == 1
    assert metrics['partitions{subscription="chat"}'] == 4
    assert metrics['in_hand{subscription="chat"}'] == 1
    assert later["in_hand"] == 0


async def test_attempts_are_counted_by_what_came_of_them(amqp_url: str, tmp_path: Path) -> None:
    handlers = Handlers("shop")

    @handlers.on(AfterAddFriend)
    async def sell(event: AfterAddFriend, context: Context) -> None:
        if event.from_user_id == "bad":
            raise Reject("no")
        if context.attempt == 1:
            raise ValueError("not now")

    async with asked(amqp_url, tmp_path, handlers) as it:
        await declared(amqp_url, "shop")
        await publish(amqp_url, APPLY, b'{"fromUserID":"bad","toUserID":"b"}', "bad")
        await publish(amqp_url, APPLY, b"{", "worse")
        await publish(amqp_url, APPLY, BODY)
        attempts = 'attempts_total{{handler="{}",outcome="{}",subscription="shop"}}'.format
        handled = attempts("shop.sell", "handled")
        await eventually(it.metrics, lambda found: found.get(handled) == 1)
        await publish(amqp_url, APPLY, BODY)
        duplicate = attempts("shop.sell", "duplicate")
        found = await eventually(it.metrics, lambda found: found.get(duplicate) == 1)
    assert {name: value for name, value in found.items() if name.startswith("attempts")} == {
        attempts("shop.sell", "handled"): 1,
        attempts("shop.sell", "duplicate"): 1,
        attempts("shop.sell", "waits"): 1,
        attempts("shop.sell", "paused"): 0,
        attempts("shop.sell", "dead_letter"): 1,
        attempts("", "dead_letter"): 1,
    }
    assert found['handler_seconds_count{handler="shop.sell",subscription="shop"}'] == 3
    assert found['age_seconds_count{subscription="shop"}'] == 1
    assert found['age_seconds_sum{subscription="shop"}'] > 86_400
    assert found["broker_connected"] == 1
    assert found["outcomes_dropped_total"] == 0


async def test_a_batch_is_timed_once_and_each_of_its_events_counted(
    amqp_url: str, tmp_path: Path
) -> None:
    handlers = Handlers("many")

    @handlers.on_batch(AfterAddFriend, most=3)
    async def take(_events: Sequence[AfterAddFriend]) -> None:
        pass

    async with asked(amqp_url, tmp_path, handlers) as it:
        await declared(amqp_url, "many")
        for number in range(3):
            await publish(amqp_url, APPLY, BODY, message_id=str(number))
        handled = 'attempts_total{handler="many.take",outcome="handled",subscription="many"}'
        found = await eventually(it.metrics, lambda found: found.get(handled) == 3)
    assert found['handler_seconds_count{handler="many.take",subscription="many"}'] == 1
    assert found['age_seconds_count{subscription="many"}'] == 3


async def test_decisions_are_counted_by_verdict(amqp_url: str, tmp_path: Path) -> None:
    decisions, verdicts = Decisions("doors"), [Allow(), Refuse(20001, "no", ""), None]

    @decisions.on(BeforeAddFriend)
    async def decide(_event: BeforeAddFriend) -> Any:  # noqa: ANN401  # None is a mistake
        return verdicts.pop(0)

    async with (
        bridge(tmp_path, amqp_url, policy=policy(tmp_path)) as running,
        asked(amqp_url, tmp_path, decisions=[decisions]) as it,
    ):
        await consumed(amqp_url, BeforeAddFriend)
        await until(lambda: running.running.receiver.asking.connected)
        for _ in range(3):
            await running.openim.post(*openim.sample("BeforeAddFriend"))
        found = await it.metrics()
    counted = 'decisions_total{{handler="doors.decide",verdict="{}"}}'.format
    assert [found.get(counted(each)) for each in ("allow", "refuse", "failed")] == [1, 1, 1]
    assert found['decision_seconds_count{handler="doors.decide"}'] == 3


async def test_many_workers_on_one_machine_find_a_port_each(tmp_path: Path) -> None:
    async with (
        started(CONSUMERS, "work", folder=tmp_path, CONSUMERS_AMQP_URL=NOWHERE) as one,
        started(CONSUMERS, "work", folder=tmp_path, CONSUMERS_AMQP_URL=NOWHERE) as other,
    ):
        await one.says('"message":"listening"')
        await other.says('"message":"listening"')
        ports = [re.findall(r'"port":(\d+)', command.err)[0] for command in (one, other)]
    assert ports[0] != ports[1]


async def test_a_taken_port_is_said_with_the_settings_to_change(tmp_path: Path) -> None:
    async with web_server(TAKEN) as taken:
        command = await ran(
            *(CONSUMERS, "work"), folder=tmp_path, CONSUMERS_PORT=str(taken.port)
        )
    assert command.process.returncode == 1
    assert f"cannot listen on 127.0.0.1 port {taken.port}: " in command.err
    assert "CONSUMERS_HOST and CONSUMERS_PORT" in command.err
