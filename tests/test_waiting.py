"""What waits for long ends when it is cancelled, whoever has swallowed that."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import aio_pika
import pytest
from yarl import URL

from bridge.broker import Broker
from bridge.waiting import first_of
from bridge.wire import Line
from tests.running import DEADLINE


async def _for_one() -> None:
    await first_of(asyncio.Event().wait())


async def _for_a_line() -> None:
    await Broker(aio_pika.Connection(URL("amqp://nobody")), Line()).until_lost()


@pytest.mark.parametrize("wait", [_for_one, _for_a_line])
async def test_a_swallowed_cancellation_is_not_forgotten(
    wait: Callable[[], Awaitable[None]],
) -> None:
    async def swallow_and_wait() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        await wait()

    task = asyncio.create_task(swallow_and_wait())
    await asyncio.sleep(0)
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=DEADLINE)
    assert task in done
    assert task.cancelled()
