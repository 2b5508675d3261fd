"""Each ordering key in order, however many workers there are, and whatever becomes of them."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aio_pika
import pytest

from bridge import topology
from bridge.contract import AfterUserOnline, partition
from consumers.context import Context
from consumers.lanes import PATIENT
from consumers.registry import Handlers
from consumers.settling import CROWDED
from tests.line import line_to
from tests.running import until
from tests.test_worker import channel_to, count, taken_from, working

ONLINE = "callbackAfterUserOnlineCommand"
PARTITIONS = 16


class Seen:
    """What handlers were given: of each key, numbers."""

    def __init__(self) -> None:
        self.numbers: defaultdict[str, list[int]] = defaultdict(list)
        self.workers: defaultdict[str, set[int]] = defaultdict(set)
        """Partitions that each worker has had something of."""
        self.fail: set[tuple[str, int]] = set()
        """Events that fail, until somebody takes them out of here."""

    def handlers(self, worker: str) -> Handlers:
        """Give the handlers of a worker."""
        handlers = Handlers("in_order", ordered=True)

        @handlers.on(AfterUserOnline, sql=False)
        async def note(event: AfterUserOnline, context: Context) -> None:
            key, number = event.user_id, int(context.operation_id)
            await asyncio.sleep(0)
            if (key, number) in self.fail:
                raise ValueError("not yet")
            self.numbers[key].append(number)
            self.workers[worker].add(partition(key, PARTITIONS))

        return handlers

    def in_order(self, keys: Iterable[str], count: int) -> bool:
        """Say whether all has come, each key in order but for what came again."""
        for key in keys:
            found = list(dict.fromkeys(self.numbers[key]))
            assert found == sorted(found), (key, self.numbers[key])
            if found != list(range(count)):
                return False
        return True


@asynccontextmanager
async def worker(
    amqp_url: str, seen: Seen, name: str, folder: Path
) -> AsyncIterator[asyncio.Event]:
    url = f"sqlite:///{folder / 'unused.db'}"
    async with working(amqp_url, url, seen.handlers(name)) as running:
        yield running.stop


async def publish(amqp_url: str, keys: Iterable[str], numbers: range) -> None:
    """Publish events of each key, as the forwarder would."""
    async with channel_to(amqp_url) as channel:
        exchange = await channel.get_exchange(topology.CALLBACKS)
        for number in numbers:
            for key in keys:
                place = topology.partition_name(partition(key, PARTITIONS))
                message = aio_pika.Message(
                    b'{"userID":"%b"}' % key.encode(),
                    type=ONLINE,
                    message_id=f"{key}-{number}",
                    correlation_id=str(number),
                    headers={"ce-partitionkey": key},
                )
                await exchange.publish(message, f"{AfterUserOnline.routing_key}.{place}")


async def left(amqp_url: str) -> int:
    """Give how many messages wait in the queues of the subscription."""
    queues = [topology.work_queue("in_order", number) for number in range(PARTITIONS)]
    return sum([await count(amqp_url, queue) for queue in queues])


KEYS = [f"user{number}" for number in range(40)]
EVERYTHING = set(range(PARTITIONS))


def partitions_told(caplog: pytest.LogCaptureFixture) -> list[set[int]]:
    """Give what workers said that they take, oldest first."""
    return [set(r.partitions) for r in caplog.records if r.message == "partitions"]  # type: ignore[attr-defined]


async def test_workers_come_and_go_and_every_key_stays_in_order(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seen = Seen()
    async with worker(amqp_url, seen, "one", tmp_path) as stop_one:
        await until(lambda: partitions_told(caplog) == [EVERYTHING])
        await publish(amqp_url, KEYS, range(10))
        publishing = asyncio.create_task(publish(amqp_url, KEYS, range(10, 30)))
        async with AsyncExitStack() as others:
            for name in ("two", "three", "four"):
                await others.enter_async_context(worker(amqp_url, seen, name, tmp_path))
            await until(lambda: all(len(part) == 4 for part in partitions_told(caplog)[-4:]))
            await publishing
            stop_one.set()
            await publish(amqp_url, KEYS, range(30, 40))
            await until(lambda: seen.in_order(KEYS, 40))
            await until(lambda: all(len(part) > 4 for part in partitions_told(caplog)[-3:]))
    assert seen.workers.keys() == {"one", "two", "three", "four"}
    assert await left(amqp_url) == 0


async def test_the_partitions_of_a_dead_worker_pass_to_the_others(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    seen = Seen()
    async with (
        line_to(amqp_url) as line,
        worker(amqp_url, seen, "lasting", tmp_path),
        worker(line.url, seen, "dying", tmp_path),
    ):
        await until(lambda: [len(part) for part in partitions_told(caplog)[-2:]] == [8, 8])
        line.cut()
        await publish(amqp_url, KEYS, range(10))
        await until(lambda: seen.in_order(KEYS, 10))
        assert seen.workers["lasting"] == {partition(key, PARTITIONS) for key in KEYS}
        await line.mend()


@asynccontextmanager
async def failing(
    amqp_url: str, folder: Path, caplog: pytest.LogCaptureFixture, number: int
) -> AsyncIterator[Seen]:
    """Have a worker with all partitions, and one event of user1 fail."""
    caplog.set_level("INFO")
    seen = Seen()
    seen.fail.add(("user1", number))
    async with worker(amqp_url, seen, "one", folder):
        await until(lambda: partitions_told(caplog) == [EVERYTHING])
        yield seen


async def test_an_event_that_fails_holds_up_its_key_only(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    others = [key for key in KEYS if key != "user1"]
    async with failing(amqp_url, tmp_path, caplog, 1) as seen:
        await publish(amqp_url, KEYS, range(5))
        await until(lambda: seen.in_order(others, 5))
        await until(lambda: "key held" in caplog.messages)
        assert seen.numbers["user1"] == [0]
        seen.fail.clear()
        await until(lambda: seen.in_order(KEYS, 5))
    assert await left(amqp_url) == 0


async def test_what_fails_for_good_is_a_dead_letter_and_its_key_goes_on(
    amqp_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.settling.HOLDS", (0.05, 0.1))
    async with failing(amqp_url, tmp_path, caplog, 1) as seen:
        await publish(amqp_url, ["user1"], range(4))
        await until(lambda: seen.numbers["user1"] == [0, 2, 3])
    assert await count(amqp_url, topology.dead_letter_queue("in_order")) == 1


async def test_an_event_of_a_busy_key_is_tried_again_in_its_place(
    amqp_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with failing(amqp_url, tmp_path, caplog, 0) as seen:
        await publish(amqp_url, ["user1"], range(16))
        await until(lambda: caplog.messages.count("key held") == PATIENT - 1)
        seen.fail.clear()
        await until(lambda: seen.in_order(["user1"], 16))
    assert await left(amqp_url) == 0


async def test_an_event_that_holds_up_too_many_is_given_up_early_and_says_so(
    amqp_url: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("consumers.settling.HOLDS", (*[0.05] * PATIENT, 1000))
    async with failing(amqp_url, tmp_path, caplog, 0) as seen:
        await publish(amqp_url, ["user1"], range(16))
        await until(lambda: seen.numbers["user1"] == list(range(1, 16)))
    letter = await taken_from(amqp_url, topology.dead_letter_queue("in_order"))
    assert letter.headers["x-last-error"] == f"ValueError: not yet{CROWDED}"
