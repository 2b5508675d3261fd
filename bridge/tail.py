"""Watching callbacks as they pass, without taking them from anyone."""

import asyncio
from collections.abc import Callable

import orjson

from bridge.broker import Delivery, connect
from bridge.topology import BRIDGE, CALLBACKS

BUFFER = 10_000
"""Messages that may wait for a slow terminal before the oldest are dropped."""


async def watch(
    url: str, pattern: str, show: Callable[[Delivery], None], count: int | None, timeout: float
) -> None:
    """Show the callbacks whose routing keys match `pattern`.

    Args:
        url: RabbitMQ.
        pattern: Binding pattern, such as `friend.#`.
        show: Called with each.
        count: Stop after so many; None goes on until cancelled.
        timeout: Seconds that connecting may take.

    Raises:
        BrokerError: no connection, or it was lost.

    """
    enough = asyncio.Event()
    seen = 0

    async def take(delivery: Delivery) -> None:
        nonlocal seen
        if enough.is_set():
            return
        show(delivery)
        seen += 1
        if seen == count:
            enough.set()

    async with connect(url, name="openim-bridge tail", timeout=timeout) as broker:
        await broker.declare(BRIDGE)
        await broker.watch(CALLBACKS, pattern, take, most=BUFFER)
        lost = asyncio.ensure_future(broker.until_lost())
        done = asyncio.ensure_future(enough.wait())
        await asyncio.wait({lost, done}, return_when=asyncio.FIRST_COMPLETED)
        done.cancel()
        if lost.done():
            lost.result()
        lost.cancel()


def as_text(delivery: Delivery, *, with_body: bool) -> str:
    """Give one line for people."""
    time = str(delivery.headers.get("ce-time", ""))[11:23]
    line = (
        f"{time}  {delivery.routing_key:44} {delivery.message_id}"
        f"  {len(delivery.body):6,} B  {delivery.operation_id}"
    )
    return line + (
        f"\n{delivery.body.decode(errors='replace').rstrip()!s}" if with_body else ""
    )


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
