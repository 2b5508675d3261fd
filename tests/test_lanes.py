"""Each key in order, everything else side by side."""

import asyncio
from typing import Any

import pytest
from pamqp import commands

from bridge.intake import Delivery, Intake
from bridge.wire import Line
from consumers.lanes import PATIENT, Job, Lanes, Source
from consumers.partitions import share
from tests.running import until


def job(name: str, key: str = "", *, source: Source | None = None, failures: int = 0) -> Job:
    """Make a job as the worker does from a delivery."""
    headers: dict[str, Any] = {"x-delivery-count": failures} if failures else {}
    properties = commands.Basic.Properties(message_id=name, headers=headers)
    marshalled = properties.marshal()
    delivery = Delivery(
        Intake(Line(), 1, lambda _: None), 1, "k", marshalled, b"", again=failures > 0
    )
    return Job(delivery, source or Source(queue="q"), key, 1)


def begun(lanes: Lanes) -> "asyncio.Task[Job]":
    """Ask for the next job."""
    return asyncio.create_task(lanes.next())


async def settled() -> None:
    """Let everything that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def names(lanes: Lanes, count: int) -> list[str]:
    return [(await lanes.next()).delivery.message_id for _ in range(count)]


async def test_a_key_waits_for_itself_and_for_no_other() -> None:
    lanes = Lanes(most_behind=10)
    for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b"), ("x", ""), ("y", "")):
        lanes.put(job(name, key))
    first = await lanes.next()
    assert first.delivery.message_id == "a1"
    assert await names(lanes, 3) == ["b1", "x", "y"]
    second = begun(lanes)
    await settled()
    assert not second.done()
    lanes.done(first)
    assert (await second).delivery.message_id == "a2"


async def test_a_held_key_keeps_its_place() -> None:
    lanes = Lanes(most_behind=10)
    for name, key in (("a1", "a"), ("a2", "a"), ("b1", "b")):
        lanes.put(job(name, key))
    first = await lanes.next()
    lanes.hold(first, 0.01)
    assert await names(lanes, 2) == ["b1", "a1"]
    lanes.done(first)
    assert await names(lanes, 1) == ["a2"]


@pytest.mark.parametrize(("attempt", "let_go"), [(PATIENT, False), (PATIENT + 1, True)])
async def test_a_crowded_key_is_held_no_longer_once_it_has_failed_often(
    attempt: int, *, let_go: bool
) -> None:
    lanes = Lanes(most_behind=2)
    lanes.put(job("a1", "a"))
    first = await lanes.next()
    first.attempt = attempt
    lanes.hold(first, 1000)
    lanes.put(job("a2", "a"))
    again = begun(lanes)
    await settled()
    assert not again.done()
    lanes.put(job("a3", "a"))
    await settled()
    assert (again.done(), lanes.crowded(first)) == (let_go, let_go)
    again.cancel()


async def test_what_comes_from_a_closing_source_is_not_begun() -> None:
    lanes = Lanes(most_behind=10)
    closing, open_ = Source(queue="closing"), Source(queue="open")
    lanes.put(job("a1", "a", source=closing))
    lanes.put(job("a2", "a", source=closing))
    first = await lanes.next()
    closing.close()
    lanes.put(job("a3", "a", source=closing))
    lanes.put(job("a1 again", "a", source=open_))
    assert not closing.idle.is_set()
    lanes.done(first)
    assert closing.idle.is_set()
    assert await names(lanes, 1) == ["a1 again"]


async def test_a_suspect_is_handled_alone() -> None:
    lanes = Lanes(most_behind=10)
    lanes.put(job("x"))
    beside = await lanes.next()
    lanes.put(job("suspect", failures=3))
    lanes.put(job("y"))
    tasks = [begun(lanes), begun(lanes)]
    await settled()
    assert not any(task.done() for task in tasks)
    lanes.done(beside)
    await until(lambda: any(task.done() for task in tasks))
    await settled()
    (alone,) = [task.result() for task in tasks if task.done()]
    assert alone.delivery.message_id == "suspect"
    lanes.done(alone)
    await asyncio.wait(tasks)
    assert {task.result().delivery.message_id for task in tasks} == {"suspect", "y"}


@pytest.mark.parametrize("workers", range(1, 20))
def test_partitions_are_shared_evenly_and_completely(workers: int) -> None:
    everybody = {f"worker {number}" for number in range(workers)}
    shares = [share(worker, everybody, 16) for worker in everybody]
    assert sorted(partition for part in shares for partition in part) == list(range(16))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("workers", range(2, 9))
def test_a_worker_less_moves_little_more_than_it_must(workers: int) -> None:
    moved = must = 0
    for round_ in range(50):
        before = {f"{round_}/{number}" for number in range(workers)}
        gone, *rest = sorted(before)
        for worker in rest:
            moved += len(share(worker, rest, 16) - share(worker, before, 16))
        must += len(share(gone, before, 16))
    assert must <= moved <= must + 50 * 3
