"""Publishing what was set aside, once its cause is mended."""

import asyncio
from collections.abc import Sequence

from bridge.broker import Broker, connect
from bridge.settings import Receiver as Settings
from bridge.topology import BRIDGE, RECEIVED, REFUSED
from bridge.waiting import first_of
from bridge.wire import Numbered, Outcome


class NotPublished(Exception):
    """RabbitMQ does not have a message; the text says why."""


async def publish(settings: Settings, message: bytes) -> None:
    """Publish a message as the forwarder would, and wait until RabbitMQ has it.

    Raises:
        NotPublished: RabbitMQ takes it into no queue, or says nothing.
        BrokerError: RabbitMQ is away, or hung up over the message.
        NotAMessage: It is none.

    """
    async with connect(
        settings.broker_url,
        name="openim-bridge journal publish",
        timeout=settings.connect_timeout,
    ) as broker:
        await broker.declare(BRIDGE)
        await first_of(broker.until_lost(), _send(broker, message, settings.confirm_timeout))


async def _send(broker: Broker, message: bytes, timeout: float) -> None:
    outcomes: asyncio.Queue[Outcome] = asyncio.Queue()

    def settled(_messages: Sequence[Numbered], outcome: Outcome) -> None:
        outcomes.put_nowait(outcome)

    # What a full queue refuses waits at REFUSED; the others have it then.
    for exchange in (RECEIVED, REFUSED):
        (await broker.publisher(exchange, settled)).send([(1, message)])
        try:
            outcome = await asyncio.wait_for(outcomes.get(), timeout)
        except TimeoutError:
            why = "" if broker.unblocked.is_set() else ", as it is short of memory or disk"
            raise NotPublished(f"RabbitMQ confirmed nothing for {timeout:g} s{why}") from None
        if outcome is Outcome.CONFIRMED:
            return
    raise NotPublished("RabbitMQ took it into no queue")
