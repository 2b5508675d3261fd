"""From the journal to RabbitMQ, through whatever happens to the line."""

from pathlib import Path

import pytest

from bridge import openim
from bridge.contract import Allowed
from bridge.message import decode
from tests.brokers import OwnBroker
from tests.running import bridge, everything, until

BODY = b'{"callbackCommand":"callbackAfterUserOnlineCommand","userID":"u%d"}\n'
COMMAND = "callbackAfterUserOnlineCommand"


def bodies(count: int, start: int = 0) -> list[openim.Callback]:
    return [(COMMAND, BODY % number) for number in range(start, start + count)]


@pytest.mark.parametrize("command", openim.commands())
async def test_a_recorded_callback_arrives_byte_for_byte(
    amqp_url: str, tmp_path: Path, command: str
) -> None:
    _, body = openim.sample(command)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        answer = await running.openim.post(command, body)
        (message,) = await seen.have(1)
    assert answer.verdict == Allowed()
    assert message.body == body
    assert message.type == command
