"""Whatever goes wrong, nothing that was answered is lost."""

from pathlib import Path

import pytest

from tests.brokers import OwnBroker
from tests.torture.faults import FAULTS, Fault
from tests.torture.nemesis import endure
from tests.torture.rig import rig


@pytest.mark.parametrize(
    "fault", FAULTS, ids=[fault.name.replace(" ", "-") for fault in FAULTS]
)
async def test_what_was_answered_arrives_in_spite_of(
    own_broker: OwnBroker, tmp_path: Path, fault: Fault
) -> None:
    async with rig(tmp_path, own_broker) as tortured:
        phase = await endure(tortured, fault)
    assert phase.wrong == []
    assert tortured.ledger.total.arrived > 0
