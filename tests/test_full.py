"""When the journal has no room, RabbitMQ's confirm takes the place of the disk."""

from pathlib import Path

import pytest

from bridge import segments
from bridge.contract import ALLOW, Allowed, judge
from bridge.segments import JournalFull
from tests.brokers import OwnBroker
from tests.raw import BODY, ask, chunked, posted, rejected, request
from tests.running import bridge, everything

BEFORE = "callbackBeforeAddFriendCommand"


@pytest.fixture
def _full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise JournalFull("the disk is full")

    monkeypatch.setattr(segments.Segment, "write", refuse)


@pytest.mark.usefixtures("_full_disk")
@pytest.mark.parametrize(
    "data",
    [
        request(),
        chunked(BODY, b""),
        posted(BEFORE, BODY.replace(b"AfterUserOnline", BEFORE[8:-7].encode())),
    ],
    ids=["plain", "unusual", "before"],
)
async def test_a_callback_without_room_is_confirmed_by_rabbitmq(
    amqp_url: str, tmp_path: Path, data: bytes
) -> None:
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url) as running:
        await running.connected()
        reply = await ask(running, data)
        (message,) = await seen.have(1)
        assert running.running.journal.newest == 0
    assert (reply.status, reply.body) == (200, ALLOW)
    assert message.message_id


@pytest.mark.usefixtures("_full_disk")
async def test_without_room_and_without_rabbitmq_a_callback_is_refused(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    async with bridge(tmp_path, own_broker.amqp_url) as running:
        await running.connected()
        await own_broker.pause()
        silent = await ask(running, request())
        await own_broker.resume()
        await own_broker.stop()
        gone = await ask(running, request())
        assert await rejected(running, "full") + await rejected(running, "slow_disk") == 2
    assert [(r.status, judge(r.body)) for r in (silent, gone)] == [(503, Allowed())] * 2
