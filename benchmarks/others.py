"""What the bridge is compared with: a bare receiver, and a naive bridge.

Run it with `bare PORT` or `naive PORT AMQP_URL`.
"""

import sys
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


def main() -> None:
    """Serve until SIGTERM."""
    kind, port = sys.argv[1], int(sys.argv[2])
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
