"""What the forwarder set aside: found, and published once its cause is mended."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from bridge import mark
from bridge.broker import Broker, connect
from bridge.segments import SET_ASIDE
from bridge.settings import Receiver as Settings
from bridge.topology import BRIDGE, RECEIVED, REFUSED
from bridge.waiting import first_of
from bridge.wire import Numbered, Outcome


class NotPublished(Exception):
    """RabbitMQ does not have a message; the text says why."""


def files(journal: Path) -> list[Path]:
    """Give the messages that were set aside in a journal, by slot and number."""
    return sorted(path for path in journal.glob(f"*/{SET_ASIDE}/*") if path.name.isdigit())


def read(path: Path) -> bytes:
    """Give the message that a file holds.

    Raises:
        NotPublished: It is no such file, or its message is in the journal still.

    """
    if path.parent.name != SET_ASIDE or not path.name.isdigit():
        raise NotPublished("this is no message that was set aside")
    # Until then a full disk may have half of it here.
    if int(path.name) > mark.read(path.parent.parent):
        raise NotPublished("the receiver still has it in its journal, and goes on with it")
    return path.read_bytes()


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
            raise NotPublished(f"RabbitMQ did not confirm it within {timeout:g} s") from None
        if outcome is Outcome.CONFIRMED:
            return
    raise NotPublished("RabbitMQ took it into no queue")
