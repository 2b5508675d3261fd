"""What one release leaves to another: journals, and messages that say more than is known."""

import base64
import zlib
from pathlib import Path
from typing import Any

import aio_pika
import pytest

from bridge import segments, topology
from bridge.contract import AfterAddFriend
from consumers.registry import Handlers
from tests.commands import BRIDGE, ran
from tests.running import NOWHERE, bridge, everything, until
from tests.test_worker import channel_to, declared, working

UPGRADE = Path(__file__).parents[1] / "docs" / "upgrade.md"

OF_VERSION_1 = zlib.decompress(
    base64.b64decode(
        "eNqNkctKxDAUhscbojDqUhARihvFjEnaTlsXoo4I3sHLxo3kcjLEmbYhrYODCm58A1/DnU/kyldwZ1rduBHDgQNfDv9/8ud0//jg"
        "7OSIdHY6h58jjcbM5nvsWn0WlNWQyRZTJdgWk/L6BxgcNRojr28fc8yYvhas1Hm2flPkmcPRjABUGBADsIXj505pjLTwVIXzWyug"
        "IpPruYFMp5OOlkNTs0XB+n3ORG+7MtyWcq+26+RpyjI54Sa1rOaWMUlCQRhFkfQBRYwLFEtQCBPqB2E7ihPGa2Gd1sLzFNPQ3bq6"
        "wHijrhYO6FXzDlkQoAcgUVr03fYvSysPqw4rnXXBGquzslLYCrmvfKmUEorTBGPik5jyQPoKE96OKcMhbiekzUUoIBExJ0pSiYPA"
        "B8YTxWbdOobZUldR9WBYiTZvC7DXbK1ufHQ8N4j8623V53TL56e/A2t+J4y41bIL956yeXrprPZ3vQ3v29pb88r8N+Pe4/QXA8Oe"
        "zw=="
    )
)
"""A segment with one callback, as the first release wrote it. It must never be made anew."""


def left(folder: Path, segment: bytes) -> Path:
    """Leave a journal behind in the folder of a receiver; give the file of its segment."""
    slot = folder / "journal" / "0"
    slot.mkdir(parents=True)
    path = slot / f"{1:020}"
    path.write_bytes(segment)
    return path


async def test_a_journal_of_the_first_release_is_published(
    amqp_url: str, tmp_path: Path
) -> None:
    left(tmp_path, OF_VERSION_1)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url):
        (message,) = await seen.have(1)
    assert message.body == b'{"fromUserID":"user_a","toUserID":"user_b"}\n'
    assert (message.message_id, message.type, message.routing_key) == (
        "0195c1a2-7d3e-7abc-8def-0123456789ab",
        "callbackAfterAddFriendCommand",
        "friend.after.add_friend.p07",
    )


async def test_a_journal_of_a_later_release_is_refused_and_not_touched(tmp_path: Path) -> None:
    later = segments.HEAD[:-1] + b"9" + OF_VERSION_1[8:]
    path = left(tmp_path, later)
    command = await ran(
        BRIDGE,
        "receive",
        folder=tmp_path,
        BRIDGE_AMQP_URL=NOWHERE,
        BRIDGE_JOURNAL_PATH=str(tmp_path / "journal"),
        BRIDGE_PORT="0",
    )
    assert command.process.returncode == 3
    assert f"{path} is not a journal segment of this version" in command.err
    assert "start the version that wrote it" in command.err
    assert path.read_bytes() == later


def test_the_format_that_is_written_is_the_documented_one() -> None:
    assert f"`{segments.HEAD.decode()}`" in UPGRADE.read_text(encoding="utf-8")
    assert OF_VERSION_1.startswith(segments.HEAD)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({}, id="none"),
        pytest.param({"x-tomorrow": "yes", "ce-tomorrow": 1, "x-more": True}, id="plain"),
        pytest.param({"x-tomorrow": {"a": [1, {"b": None}]}, "x-more": None}, id="nested"),
    ],
)
async def test_a_message_with_headers_of_another_release_is_handled(
    amqp_url: str, tmp_path: Path, headers: dict[str, Any]
) -> None:
    handlers, handled = Handlers("tomorrow"), list[str]()

    @handlers.on(AfterAddFriend)
    async def note(event: AfterAddFriend) -> None:
        handled.append(event.from_user_id)

    async with working(amqp_url, f"sqlite:///{tmp_path / 'consumers.db'}", handlers):
        await declared(amqp_url, "tomorrow")
        async with channel_to(amqp_url) as channel:
            exchange = await channel.get_exchange(topology.CALLBACKS)
            body = b'{"fromUserID":"a","toUserID":"b","ofTomorrow":{"x":[1]}}'
            message = aio_pika.Message(
                body, type=AfterAddFriend.command, message_id="1", headers=headers
            )
            await exchange.publish(message, f"{AfterAddFriend.routing_key}.p01")
        await until(lambda: handled == ["a"])
