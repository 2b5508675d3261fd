"""Bodies of any kind, read without surprises."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from bridge.contract import (
    COMMANDS,
    Event,
    MalformedCallback,
    UnknownCommand,
    UnreadableCallback,
    decode,
    fields_of,
)

BYTES_AT_ONCE = "callbackAfterSendSingleMsgCommand"
BY_FIELDS = "callbackAfterAddFriendAgreeCommand"
BOTH_WAYS = pytest.mark.parametrize("command", [BYTES_AT_ONCE, BY_FIELDS])

NOT_JSON = [
    pytest.param(b"ok", id="text"),
    pytest.param(b'{"sendID":"user_a"', id="cut off"),
    pytest.param(b'{"sendID":"user_a"} x', id="trailing data"),
    pytest.param(b"{}{}", id="two objects"),
    pytest.param(b'\xef\xbb\xbf{"sendID":"user_a"}', id="byte order mark"),
    pytest.param(b'{"status":NaN}', id="NaN"),
    pytest.param(b'{"sendID":"\xff"}', id="not UTF-8"),
    pytest.param(b'{"sendID":"\\ud800"}', id="lone surrogate"),
    pytest.param(b'{"sendID":"\x00"}', id="control character"),
    pytest.param(b'{"x":' * 100_000, id="nested too deep"),
]
NO_OBJECT = [b"null", b"[]", b"1", b'"{}"', b"true"]
BLANK = [b"", b" ", b"\r\n\t "]


def test_fields_are_read_whatever_their_types() -> None:
    body = b'{"a":null,"b":[1,{"c":"\\u0002"}],"n":9223372036854775807}\n'
    assert fields_of(body) == {"a": None, "b": [1, {"c": "\x02"}], "n": 2**63 - 1}


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_not_json_has_no_fields(body: bytes) -> None:
    with pytest.raises(MalformedCallback, match=r"^the body is not JSON: "):
        fields_of(body)


@pytest.mark.parametrize("body", NO_OBJECT)
def test_what_is_not_an_object_has_no_fields(body: bytes) -> None:
    with pytest.raises(MalformedCallback, match=r"^the body is not a JSON object$"):
        fields_of(body)


@pytest.mark.parametrize("body", BLANK)
def test_a_blank_body_has_no_fields(body: bytes) -> None:
    with pytest.raises(MalformedCallback, match=r"^the body is empty$"):
        fields_of(body)


@BOTH_WAYS
@pytest.mark.parametrize("body", [*NOT_JSON, *NO_OBJECT])
def test_what_is_no_json_object_is_malformed(command: str, body: bytes) -> None:
    with pytest.raises(MalformedCallback):
        decode(command, body)


@BOTH_WAYS
@pytest.mark.parametrize("body", BLANK)
def test_a_blank_body_is_called_empty(command: str, body: bytes) -> None:
    with pytest.raises(MalformedCallback, match=r"^the body is empty$"):
        decode(command, body)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b'{"sendID":"secret\xff"}', r"^the body is not UTF-8$"),
        (b'{"x":' * 100_000, r"^the body is nested too deep$"),
    ],
)
def test_what_escapes_the_decoder_is_named(body: bytes, reason: str) -> None:
    with pytest.raises(MalformedCallback, match=reason):
        decode(BYTES_AT_ONCE, body)


@pytest.mark.parametrize(
    ("command", "body", "path"),
    [
        (BYTES_AT_ONCE, b'{"sendID":"a","recvID":7}', r"\$\.recvID"),
        (BYTES_AT_ONCE, b'{"sendID":"a","recvID":null}', r"\$\.recvID"),
        (BYTES_AT_ONCE, b'{"sendID":"a","recvID":"b","seq":"1"}', r"\$\.seq"),
        (BYTES_AT_ONCE, b'{"sendID":"a","recvID":"b","seq":1.5}', r"\$\.seq"),
        (
            BYTES_AT_ONCE,
            b'{"sendID":"a","recvID":"b","atUserList":[1]}',
            r"\$\.atUserList\[0\]",
        ),
        (BY_FIELDS, b'{"fromUserID":"a","toUserID":7}', r"\$\.blackUserID"),
        (
            BY_FIELDS,
            b'{"fromUserID":"a","toUserID":"b","handleResult":"1"}',
            r"\$\.HandleResult",
        ),
        (BY_FIELDS, b'{"toUserID":"b"}', "`fromUserID"),
    ],
)
def test_a_malformed_field_is_named_by_its_path(command: str, body: bytes, path: str) -> None:
    with pytest.raises(MalformedCallback, match=f"{path}`?$"):
        decode(command, body)


@pytest.mark.parametrize("body", [b'{"sendID":"a"}', b"", b"\xff"])
def test_a_command_nobody_knows_is_told_apart(body: bytes) -> None:
    with pytest.raises(UnknownCommand, match="'callbackNewCommand'"):
        decode("callbackNewCommand", body)


def test_the_command_in_the_body_does_not_count() -> None:
    body = b'{"callbackCommand":"callbackAfterAddFriendCommand","sendID":"a","recvID":"b"}'
    assert type(decode(BYTES_AT_ONCE, body)) is COMMANDS[BYTES_AT_ONCE]


@given(st.sampled_from([*COMMANDS, "callbackNewCommand"]), st.binary())
@example(BYTES_AT_ONCE, b'{"callbackCommand":"\xff"}')
@example(BY_FIELDS, b'{"callbackCommand":"\xff"}')
@example(BYTES_AT_ONCE, b'{"x":' * 10_000)
@example(BY_FIELDS, b'{"x":' * 10_000)
def test_any_bytes_are_an_event_or_unreadable(command: str, body: bytes) -> None:
    with suppress(UnreadableCallback):
        assert isinstance(decode(command, body), Event)
