"""What our workers are compared with; run by itself, where nothing of ours is installed.

Run it with `aio-pika` or `faststream`, then COUNT AMQP_URL QUEUE PREFETCH. Both acknowledge
each message by hand, and do nothing else with it.
"""

import logging
import sys
from typing import Any

import aio_pika
import uvloop
from stopwatch import Stopwatch


async def plain(url: str, queue: str, prefetch: int, watch: Stopwatch) -> None:
    """Consume as aio-pika's documentation shows."""

    async def handle(message: aio_pika.abc.AbstractIncomingMessage) -> None:
        await message.ack()
        watch.tick()

    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch)
        await (await channel.get_queue(queue)).consume(handle)
        await watch.done.wait()


async def faststream(url: str, queue: str, prefetch: int, watch: Stopwatch) -> None:
    """Consume as FastStream's documentation shows."""
    from faststream import AckPolicy  # noqa: PLC0415  # only installed in a place of its own
    from faststream.rabbit import Channel, RabbitBroker, RabbitQueue  # noqa: PLC0415
    from faststream.rabbit.annotations import RabbitMessage  # noqa: PLC0415

    broker = RabbitBroker(url, default_channel=Channel(prefetch_count=prefetch), logger=None)

    @broker.subscriber(  # type: ignore[untyped-decorator]  # is not installed here
        RabbitQueue(queue, declare=False), ack_policy=AckPolicy.MANUAL
    )
    async def handle(_body: dict[str, Any], message: RabbitMessage) -> None:
        await message.ack()
        watch.tick()

    async with broker:
        await broker.start()
        await watch.done.wait()


async def main() -> None:
    """Consume, and print what it took."""
    kind, count, url, queue, prefetch = sys.argv[1:]
    logging.basicConfig(level=logging.WARNING)
    watch = Stopwatch(int(count))
    consume = plain if kind == "aio-pika" else faststream
    await consume(url, queue, int(prefetch), watch)
    print(watch)


if __name__ == "__main__":
    uvloop.run(main())
