"""A callback as an AMQP message: what goes in comes out, and what is too long is cut."""

import struct
import uuid
from contextlib import suppress
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp.commands import Basic

from bridge import message
from bridge.layout import NotAMessage
from bridge.message import (
    LARGEST_TABLE,
    LONGEST_VALUE,
    Ids,
    Message,
    decode,
    fingerprint,
    ids_of,
)

MILLISECONDS = st.integers(0, 253_402_300_799_999)
ANYTHING = st.text(st.characters(codec=None), max_size=600)
SHORT = st.text(max_size=60)
NAMES = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=40).map("h-{}".format)


def example(**changed: Any) -> Message:  # noqa: ANN401  # any field
    """Give a message like those of every day, except for what is changed."""
    values: dict[str, Any] = {
        "id": "0195c1a2-7d3e-7abc-8def-0123456789ab",
        "routing_key": "friend.after.add_friend.p07",
        "command": "callbackAfterAddFriendCommand",
        "received_ms": 1_735_689_600_042,
        "body": b'{"fromUserID":"user_a"}\n',
        "operation_id": "op-1",
        "ordering_key": "user_a,user_b",
    }
    return Message(**(values | changed))


def properties(stored: bytes) -> Basic.Properties:
    """Read the properties with the decoder of aio-pika's own library."""
    at = 1 + stored[0]
    (length,) = struct.unpack_from(">I", stored, at)
    end = at + 4 + length
    read = Basic.Properties()
    flags = int.from_bytes(stored[at + 4 : at + 6], "big")
    read.unmarshal(flags, stored[at + 6 : end])
    return read


def headers(encoded: Message) -> dict[str, Any]:
    """Give the headers of a message, as a consumer sees them."""
    return dict(properties(encoded.encode()).headers or {})


messages = st.builds(
    Message,
    id=st.uuids().map(str),
    routing_key=SHORT,
    command=SHORT,
    received_ms=MILLISECONDS,
    body=st.binary(),
    operation_id=SHORT,
    ordering_key=st.text(max_size=500),
    headers=st.dictionaries(NAMES, SHORT, max_size=5),
)
outsize = st.builds(
    Message,
    id=ANYTHING,
    routing_key=ANYTHING,
    command=ANYTHING,
    received_ms=MILLISECONDS,
    body=st.binary(),
    operation_id=ANYTHING,
    ordering_key=ANYTHING.map(lambda text: text * 20),
    headers=st.dictionaries(NAMES, ANYTHING.map(lambda text: text * 20), max_size=20),
)


def _damaged(pair: tuple[Message, bytes]) -> bytes:
    """Give a message in the middle of which stands something else."""
    whole, wrong = pair[0].encode(), pair[1]
    return whole[: len(whole) // 3] + wrong + whole[len(whole) // 3 + len(wrong) :]


@given(messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    assert decode(message.encode()) == message


@given(st.binary(max_size=40) | st.tuples(messages, st.binary(max_size=9)).map(_damaged))
def test_what_is_no_message_is_said_to_be_none(stored: bytes) -> None:
    with suppress(NotAMessage):
        decode(stored)
    assert set(ids_of(stored)) >= {"message_id", "command", "operation_id"}


@given(outsize)
def test_what_was_cut_once_is_not_cut_again(message: Message) -> None:
    stored = message.encode()
    again = decode(stored)
    assert decode(again.encode()) == again
    assert again.body == message.body


@given(outsize)
def test_what_does_not_fit_is_cut_to_a_part_that_is_text(message: Message) -> None:
    read = decode(message.encode())
    cut = [read.routing_key, read.command, read.operation_id, read.ordering_key]
    given = [message.routing_key, message.command, message.operation_id, message.ordering_key]
    texts = [text.encode(errors="replace").decode() for text in given]
    assert [text.startswith(part) for part, text in zip(cut, texts, strict=True)] == [True] * 4


@given(outsize)
def test_headers_always_fit_into_a_frame(message: Message) -> None:
    stored = message.encode()
    values = [str(value).encode() for value in headers(message).values()]
    # Beside the headers there are five short strings and what has a fixed size.
    assert len(stored) - len(message.body) < LARGEST_TABLE + 6 * 256
    assert max(map(len, values)) <= LONGEST_VALUE


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * 255, "x" * 255),
        ("x" * 256, "x" * 255),
        ("ü" * 128, "ü" * 127),
        ("x" + "😀" * 64, "x" + "😀" * 63),
    ],
)
@pytest.mark.parametrize("name", ["routing_key", "command", "operation_id", "id"])
def test_short_strings_end_at_255_bytes_and_not_within_a_character(
    name: str, text: str, kept: str
) -> None:
    assert getattr(decode(example(**{name: text}).encode()), name) == kept


@pytest.mark.parametrize(
    ("text", "kept"),
    [("x" * 2048, "x" * 2048), ("x" * 2049, "x" * 2048), ("x" + "😀" * 512, "x" + "😀" * 511)],
)
def test_a_headers_value_ends_at_2_kib(text: str, kept: str) -> None:
    read = decode(example(ordering_key=text, headers={"x-query": text}).encode())
    assert (read.ordering_key, read.headers) == (kept, {"x-query": kept})


def test_what_is_no_text_is_replaced() -> None:
    read = decode(example(operation_id="a\udcffb", headers={"x-query": "\ud800"}).encode())
    assert (read.operation_id, read.headers) == ("a?b", {"x-query": "?"})


def test_a_header_that_does_not_fit_is_left_out_and_others_are_not() -> None:
    large = {f"h-{number}": "x" * LONGEST_VALUE for number in range(4)}
    read = decode(example(headers=large | {"x-query": "q"}).encode())
    assert list(read.headers) == ["h-0", "h-1", "h-2", "x-query"]


def test_consumers_see_amqps_own_properties() -> None:
    read = properties(example().encode())
    assert (read.content_type, read.delivery_mode, read.app_id) == (
        "application/json",
        2,
        "openim-bridge",
    )
    assert (read.message_id, read.correlation_id, read.message_type) == (
        "0195c1a2-7d3e-7abc-8def-0123456789ab",
        "op-1",
        "callbackAfterAddFriendCommand",
    )
    assert read.timestamp == datetime(2025, 1, 1, tzinfo=UTC)


def test_consumers_see_a_cloud_event_in_the_headers() -> None:
    assert headers(example()) == {
        "ce-specversion": "1.0",
        "ce-id": "0195c1a2-7d3e-7abc-8def-0123456789ab",
        "ce-source": "/openim",
        "ce-type": "callbackAfterAddFriendCommand",
        "ce-time": "2025-01-01T00:00:00.042Z",
        "ce-partitionkey": "user_a,user_b",
        "x-received-ms": 1_735_689_600_042,
        "x-fingerprint": fingerprint(
            "op-1", "callbackAfterAddFriendCommand", b'{"fromUserID":"user_a"}\n'
        ),
    }


def test_without_an_ordering_key_there_is_no_partition_key() -> None:
    assert "ce-partitionkey" not in headers(example(ordering_key=""))


@given(MILLISECONDS)
def test_the_time_is_that_of_receipt_to_the_millisecond(received_ms: int) -> None:
    time = datetime.fromisoformat(headers(example(received_ms=received_ms))["ce-time"])
    assert round(time.timestamp() * 1000) == received_ms


def test_a_fingerprint_tells_what_was_said() -> None:
    said = ("op-1", "callbackAfterAddFriendCommand", b"{}")
    others = [("op-2", *said[1:]), (said[0], "x", said[2]), (*said[:2], b"[]")]
    assert fingerprint(*said) == fingerprint(*said)
    assert len({fingerprint(*said), *(fingerprint(*other) for other in others)}) == 4


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock to be set; `ms` is what it shows."""
    fake = SimpleNamespace(ms=1_735_689_600_000)
    monkeypatch.setattr(
        message, "time", SimpleNamespace(time_ns=lambda: fake.ms * 1_000_000 + 999_999)
    )
    return fake


def test_ids_are_uuids_of_version_7() -> None:
    minted = uuid.UUID(Ids().mint())
    assert (minted.version, minted.variant) == (7, uuid.RFC_4122)


def test_an_id_holds_the_time_of_minting(clock: SimpleNamespace) -> None:
    assert uuid.UUID(Ids().mint()).int >> 80 == clock.ms


def test_ids_are_unique_and_sorted_within_a_millisecond_and_beyond(
    clock: SimpleNamespace,
) -> None:
    ids = Ids()
    minted = [ids.mint() for _ in range(10_000)]
    clock.ms += 3
    minted.append(ids.mint())
    assert sorted(set(minted)) == minted
    assert {uuid.UUID(each).version for each in minted} == {7}


def test_ids_are_sorted_when_the_clock_steps_back(clock: SimpleNamespace) -> None:
    ids = Ids()
    before = [ids.mint() for _ in range(10)]
    clock.ms -= 3_600_000
    during = [ids.mint() for _ in range(10)]
    clock.ms += 3_600_001
    after = [ids.mint() for _ in range(10)]
    assert sorted(set(before + during + after)) == before + during + after
    assert uuid.UUID(after[0]).int >> 80 == clock.ms


def test_processes_do_not_mint_the_same_ids(clock: SimpleNamespace) -> None:
    assert clock.ms > 0
    assert Ids().mint() != Ids().mint()
