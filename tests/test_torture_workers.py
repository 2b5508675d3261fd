"""Whatever becomes of workers, each event has one effect, and each key is in order.

The short set of `python -m tests.torture workers`; docs/torture.md tells of the long one.
"""

import random
from collections.abc import AsyncIterator, Sequence

import pytest

from tests.brokers import RabbitMQ
from tests.torture.workers import changes, nemesis
from tests.torture.workers.changes import CHANGES
from tests.torture.workers.effects import Effect
from tests.torture.workers.events import Events
from tests.torture.workers.ledger import judged
from tests.torture.workers.nemesis import Run, torture

# Each worker is a process, and a machine with much else to do takes long to start one.
pytestmark = pytest.mark.timeout(400)

NAMED = {change.name: change for change in CHANGES}


@pytest.fixture
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one change follow the other at once."""
    monkeypatch.setattr(nemesis, "HANDING_OVER", 1.0)
    monkeypatch.setattr(nemesis, "QUIET", 0.2)
    monkeypatch.setattr(changes, "FLAPS", 3)


async def tortured(
    server: RabbitMQ, database_url: str, workers: int, names: Sequence[str]
) -> Run:
    """Have these changes happen, one after the other, to so many workers."""
    chance = random.Random(1)  # noqa: S311  # to be repeated, not to be secret
    return await torture(
        server,
        database_url,
        Events(rate=50, keys=100, chance=chance),
        again=lambda count: count < len(names),
        choose=lambda _, phases: NAMED[names[len(phases)]],
        workers=workers,
    )


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_scaling_from_one_worker_to_four_and_to_two_loses_and_reorders_nothing(
    spare_broker: RabbitMQ, database_url: str
) -> None:
    names = ["one joins"] * 3 + ["one is stopped"] * 2
    run = await tortured(spare_broker, database_url, 1, names)
    assert run.wrong == []
    assert run.ledger.effects == run.sent > 0
    assert [phase.workers for phase in run.phases] == [2, 3, 4, 3, 2]


@pytest.mark.usefixtures("_quick")
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_workers_that_die_and_flap_lose_and_reorder_nothing_and_spare_rabbitmq(
    spare_broker: RabbitMQ, database_url: str
) -> None:
    names = ["one is killed", "all are killed, again and again"]
    run = await tortured(spare_broker, database_url, 2, names)
    assert run.wrong == []
    assert run.ledger.effects == run.sent > 0
    assert max(run.storms) < 0.8


async def test_the_ledger_tells_what_does_not_add_up() -> None:
    async def made() -> AsyncIterator[Effect]:
        for key, number in [("a", 0), ("a", 2), ("a", 1), ("a", 1), ("b", 5)]:
            yield Effect(key, number, worker=1, sent_ms=0, handled_ms=0)

    ledger = await judged(made(), {"a": 4, "b": 1})
    assert ledger.wrong == ["lost: 2", "twice: 1", "overtaken: 1", "invented: 1"]
