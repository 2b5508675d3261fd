"""Publishing what processes that are no more have left in their journals."""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from bridge import slots
from bridge.forwarder import Forwarder
from bridge.journal import Journal, JournalBroken
from bridge.metrics import Metrics
from bridge.settings import Receiver as Settings
from bridge.waiting import first_of

log = logging.getLogger(__name__)

PAUSE = 5.0
"""Seconds between looks for journals that nobody owns any more."""


async def adopt(current: Callable[[], Settings], metrics: Metrics) -> None:
    """Look for journals that nobody owns any more and publish them, one by one; for ever."""
    path = Path(current().journal_path)
    broken: set[Path] = set()
    while True:
        settings = current()
        for slot in set(slots.left_behind(path)) - broken:
            try:
                with slots.opened(slot, settings.journal_quota) as left:
                    await _publish(left, slot, settings, metrics)
            except slots.JournalInUse:
                continue
            except (JournalBroken, OSError) as error:
                broken.add(slot)
                log.error("journal not adopted", extra={"reason": str(error)})  # noqa: TRY400
        await asyncio.sleep(PAUSE)


async def _publish(left: Journal, slot: Path, settings: Settings, metrics: Metrics) -> None:
    if left.depth == 0:
        return
    log.warning("journal adopted", extra={"folder": str(slot), "waiting": left.depth})
    forwarder = Forwarder(left, settings, metrics)
    await first_of(left.run(), forwarder.run(), _drained(left))


async def _drained(journal: Journal) -> None:
    while journal.depth:  # noqa: ASYNC110  # a journal tells nobody
        await asyncio.sleep(0.1)
