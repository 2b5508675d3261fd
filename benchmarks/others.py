"""What the bridge is compared with: a bare receiver, and a naive bridge.

Run it with `bare PORT`, `naive PORT AMQP_URL` or `publish COUNT AMQP_URL`.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator

import aio_pika
from aiohttp import web

REPLY = b'{"actionCode":0,"errCode":0,"errMsg":"","errDlt":"","nextCode":0}'
EXCHANGE = aio_pika.exchange.ExchangeType.TOPIC
TARGET = web.AppKey("target", aio_pika.abc.AbstractExchange)


def _reply() -> web.Response:
    return web.Response(body=REPLY, content_type="application/json")


async def bare(request: web.Request) -> web.Response:
    """Read the body and answer a constant."""
    await request.read()
    return _reply()


async def naive(request: web.Request) -> web.Response:
    """Publish with a confirm to a quorum queue, as anybody would at first, then answer."""
    message = aio_pika.Message(
        await request.read(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT
    )
    await request.app[TARGET].publish(message, request.match_info["command"])
    return _reply()


async def _connected(application: web.Application) -> AsyncIterator[None]:
    async with await aio_pika.connect(sys.argv[3]) as connection:
        channel = await connection.channel(on_return_raises=True)
        exchange = await channel.declare_exchange("naive", EXCHANGE, durable=True)
        queue = await channel.declare_queue(
            "naive", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await queue.bind(exchange, "#")
        application[TARGET] = exchange
        yield


async def publish(count: int) -> None:
    """Publish one message after the other, 64 at a time; print how many a CPU second."""
    application = web.Application()
    async with contextlib.asynccontextmanager(_connected)(application):
        waiting = iter(range(count))
        started = time.process_time()

        async def work() -> None:
            for number in waiting:
                message = aio_pika.Message(
                    b"x" * 600,
                    message_id=str(number),
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await application[TARGET].publish(message, "callback")

        await asyncio.gather(*(work() for _ in range(64)))
        print(count / (time.process_time() - started))


def main() -> None:
    """Serve until SIGTERM, or publish."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind == "publish":
        asyncio.run(publish(port))
        return
    application = web.Application()
    application.router.add_post("/callbackExample/{command}", bare if kind == "bare" else naive)
    if kind == "naive":
        application.cleanup_ctx.append(_connected)
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:
        loop = None
    else:
        loop = uvloop.new_event_loop()
    web.run_app(
        application, host="127.0.0.1", port=port, access_log=None, print=None, loop=loop
    )


if __name__ == "__main__":
    main()
