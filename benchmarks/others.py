"""What the bridge is compared with: a bare receiver, and a naive bridge.

Run it with `bare PORT`, `naive PORT AMQP_URL`, `publish COUNT AMQP_URL` (as the naive bridge
does) or `frames COUNT AMQP_URL` (as the bridge does, with nothing else to do).
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence

import aio_pika
from aiohttp import web

from bridge.broker import connect
from bridge.message import Ids, Message
from bridge.wire import Numbered, Outcome

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

        async def work() -> None:
            for number in waiting:
                message = aio_pika.Message(
                    b"x" * 600,
                    message_id=str(number),
                    delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
                )
                await application[TARGET].publish(message, "callback")

        await _timed(count, asyncio.gather(*(work() for _ in range(64))))


async def frames(count: int) -> None:
    """Publish in encoded frames, as many at a time as the bridge may."""
    confirmed = 0
    changed = asyncio.Event()

    def settle(messages: Sequence[Numbered], _outcome: Outcome) -> None:
        nonlocal confirmed
        confirmed += len(messages)
        changed.set()

    async def work() -> None:
        sent = 0
        while confirmed < count:
            most = min(256 - (sent - confirmed), count - sent)
            publisher.send([(sent + n, messages[(sent + n) % 256]) for n in range(most)])
            sent += most
            changed.clear()
            await changed.wait()

    ids = Ids()
    messages = [
        Message(
            id=ids.mint(), routing_key="k", command="c", received_ms=0, body=b"x" * 600
        ).encode()
        for _ in range(256)
    ]
    application = web.Application()
    async with (
        contextlib.asynccontextmanager(_connected)(application),
        connect(sys.argv[3], name="frames", timeout=10) as broker,
    ):
        publisher = await broker.publisher("naive", settle)
        await _timed(count, work())


async def _timed(count: int, work: Awaitable[object]) -> None:
    """Print how many a second, and how many a second of CPU."""
    cpu, clock = time.process_time(), time.perf_counter()
    await work
    print(count / (time.perf_counter() - clock), count / (time.process_time() - cpu))


def main() -> None:
    """Serve until SIGTERM, or publish."""
    kind, port = sys.argv[1], int(sys.argv[2])
    if kind in {"publish", "frames"}:
        asyncio.run(publish(port) if kind == "publish" else frames(port))
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
