"""Watching callbacks as they pass, without taking them from anyone."""

import asyncio
import itertools
import logging
from collections.abc import Callable, Sequence

import orjson

from bridge.broker import Delivery, connect
from bridge.logs import printable
from bridge.topology import BRIDGE, RECEIVED
from bridge.waiting import first_of

log = logging.getLogger(__name__)

BUFFER = 10_000
"""Messages that may wait for a slow terminal before the oldest are dropped."""


async def watch(
    url: str,
    patterns: Sequence[str],
    show: Callable[[Delivery], None],
    count: int | None,
    timeout: float,
) -> None:
    """Show the callbacks whose routing keys match one of `patterns`.

    Args:
        url: RabbitMQ.
        patterns: Binding patterns, such as `friend.#`.
        show: Called with each.
        count: Stop after so many; None goes on until cancelled.
        timeout: Seconds that connecting may take.

    Raises:
        BrokerError: no connection, or it was lost.

    """
    deliveries: asyncio.Queue[Delivery] = asyncio.Queue()  # bounded by the prefetch
    async with connect(url, name="openim-bridge tail", timeout=timeout) as broker:
        await broker.declare(BRIDGE)
        await broker.watch(RECEIVED, patterns, deliveries.put_nowait, most=BUFFER)
        log.info("watching", extra={"patterns": list(patterns)})
        await first_of(broker.until_lost(), _show_all(deliveries, show, count))


async def _show_all(
    deliveries: asyncio.Queue[Delivery], show: Callable[[Delivery], None], count: int | None
) -> None:
    for _ in itertools.count() if count is None else range(count):
        delivery = await deliveries.get()
        show(delivery)
        delivery.ack()


def as_text(delivery: Delivery, *, with_body: bool) -> str:
    """Give one line for people, and one for the body."""
    time = str(delivery.headers.get("ce-time", ""))[11:24]
    line = (
        f"{time}  {delivery.routing_key:44} {delivery.message_id}"
        f"  {len(delivery.body):6,} B  {delivery.operation_id}"
    )
    lines = [line, delivery.body.decode(errors="replace").rstrip()]
    return "\n".join(map(printable, lines if with_body else lines[:1]))


def as_json(delivery: Delivery, *, with_body: bool) -> str:
    """Give one JSON object."""
    line = {
        "message_id": delivery.message_id,
        "command": delivery.command,
        "routing_key": delivery.routing_key,
        "operation_id": delivery.operation_id,
        "headers": delivery.headers,
        "bytes": len(delivery.body),
    }
    if with_body:
        line["body"] = delivery.body.decode(errors="replace")
    return orjson.dumps(line, default=str).decode()
