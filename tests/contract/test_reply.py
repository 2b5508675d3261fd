"""What we answer, judged as OpenIM judges it."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import (
    ALLOW,
    EVENTS,
    Allowed,
    BeforeSetGroupInfo,
    BeforeSetGroupInfoEx,
    Event,
    Refused,
    Undecodable,
    Verdict,
    allow,
    fields_of,
    judge,
    problem,
)
from tests.contract.recorded import patient, sample

PLAIN = {"actionCode": 0, "errCode": 0, "errMsg": "", "errDlt": "", "nextCode": 0}
ECHOING: list[type[Event]] = [BeforeSetGroupInfo, BeforeSetGroupInfoEx]
texts = st.sampled_from(["", "Hikers", '"\\\n\x00', "用户😀"])


def refused(code: int, message: str = "", detail: str = "") -> Refused:
    """Give the verdict of a refusal."""
    return Refused(code=code, message=message, detail=detail)


def echoed(event: type[Event], **fields: object) -> dict[str, Any]:
    """Give what the reply to a recorded body with some fields replaced adds to an allow."""
    reply = orjson.loads(allow(event, {**fields_of(sample(event.command)), **fields}))
    return {name: value for name, value in reply.items() if name not in PLAIN}


def test_an_allow_is_all_zeros() -> None:
    assert ALLOW == b'{"actionCode":0,"errCode":0,"errMsg":"","errDlt":"","nextCode":0}'


@pytest.mark.parametrize("event", [None, *(e for e in EVENTS if e not in ECHOING)])
def test_most_callbacks_are_allowed_alike(event: type[Event] | None) -> None:
    fields: dict[str, object] = {"groupID": "g1", "groupName": "Hikers"}
    assert allow(event, fields) == ALLOW


def test_setting_group_info_is_allowed_with_its_four_fields() -> None:
    assert echoed(BeforeSetGroupInfo) == {
        "groupID": "3012345678",
        "groupName": "Hikers",
        "introduction": "trail talk",
        "faceURL": "https://cdn.example.com/g.png",
    }


def test_setting_parts_of_group_info_is_allowed_with_its_eight_fields_and_nulls() -> None:
    assert echoed(BeforeSetGroupInfoEx) == {
        "groupID": "3012345678",
        "groupName": "Hikers",
        "introduction": None,
        "faceURL": None,
        "ex": None,
        "needVerification": 1,
        "lookMemberInfo": None,
        "applyMemberFriend": None,
    }


@pytest.mark.parametrize("event", ECHOING)
def test_an_echoing_allow_begins_like_any_other(event: type[Event]) -> None:
    assert allow(event, fields_of(sample(event.command))).startswith(ALLOW.removesuffix(b"}"))


def test_a_field_that_is_missing_is_not_echoed() -> None:
    assert allow(BeforeSetGroupInfo, {}) == ALLOW


@pytest.mark.parametrize(
    ("event", "name", "value"),
    [
        (BeforeSetGroupInfo, "groupID", 7),
        (BeforeSetGroupInfo, "groupName", None),
        (BeforeSetGroupInfoEx, "groupName", ["Hikers"]),
        (BeforeSetGroupInfoEx, "needVerification", "1"),
        (BeforeSetGroupInfoEx, "needVerification", 1.5),
        (BeforeSetGroupInfoEx, "needVerification", True),
        (BeforeSetGroupInfoEx, "lookMemberInfo", 2**31),
    ],
)
def test_a_field_that_openim_could_not_decode_is_not_echoed(
    event: type[Event], name: str, value: object
) -> None:
    assert name not in echoed(event, **{name: value})


@patient
@given(
    st.sampled_from([*EVENTS, None]),
    st.dictionaries(
        st.sampled_from(BeforeSetGroupInfoEx.echoed),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.text()),
    ),
)
def test_an_allow_is_allowed_whatever_the_body_says(
    event: type[Event] | None, fields: dict[str, object]
) -> None:
    assert judge(allow(event, fields)) == Allowed()


def test_a_problem_is_reported_and_the_operation_goes_on() -> None:
    reply = problem(20001, "disk full", "quota of 1 GiB")
    assert orjson.loads(reply) == {
        "actionCode": 1,
        "errCode": 20001,
        "errMsg": "disk full",
        "errDlt": "quota of 1 GiB",
        "nextCode": 0,
    }
    assert judge(reply) == Allowed()


def test_a_problem_needs_no_detail() -> None:
    assert orjson.loads(problem(20001, "disk full"))["errDlt"] == ""


@pytest.mark.parametrize(
    "reply",
    [
        b"{}",
        b"null",
        b" {} \r\n\t",
        b'{"actionCode":1,"nextCode":1}',
        b'{"actionCode":1,"nextCode":0}',
        b'{"actionCode":0,"nextCode":2}',
        b'{"actionCode":0,"nextCode":-1}',
        b'{"errCode":20001}',
        b'{"nextCode":1,"nextCode":0}',
        b'{"nextCode":1,"NextCode":0}',
        b'{"nextCode":null,"errMsg":null}',
        b'{"actionCode":-0,"errCode":-2147483648}',
        b'{"unknown":{"nextCode":1},"more":[1.5,1e999,true]}',
        b'{"unknown":"\xff\\ud800","huge":' + b"9" * 5000 + b"}",
    ],
)
def test_openim_reads_an_allow(reply: bytes) -> None:
    assert judge(reply) == Allowed()


@pytest.mark.parametrize(
    ("reply", "verdict"),
    [
        (
            b'{"actionCode":0,"nextCode":1,"errCode":20001,"errMsg":"no","errDlt":"why"}',
            refused(20001, "no", "why"),
        ),
        (b'{"nextCode":1,"errCode":42}', refused(42)),
        (b'{"nextCode":1,"errCode":-5}', refused(-5)),
        (b'{"nextCode":1}', refused(0)),
        (b'{"NEXTCODE":1,"errcode":20001,"ErrMSG":"no"}', refused(20001, "no")),
        ('{"nextCode":1,"errM\u017fg":"no"}'.encode(), refused(0, "no")),
        (b'{"nextCode":0,"nextCode":1}', refused(0)),
        (b'{"nextCode":1,"nextCode":null}', refused(0)),
        (b'{"nextCode":1,"errCode":7,"errCode":2147483647}', refused(2147483647)),
        (b'{"nextCode":1,"errMsg":"a\xffb\\ud800"}', refused(0, "a\ufffdb\ufffd")),
        (b'{"nextCode":1,"errMsg":"\\ud83d\\ude00"}', refused(0, "\U0001f600")),
    ],
)
def test_openim_reads_a_refusal(reply: bytes, verdict: Verdict) -> None:
    assert judge(reply) == verdict


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        (b"", "Expecting value"),
        (b"ok", "Expecting value"),
        (b"<html><h1>404 Not Found</h1></html>", "Expecting value"),
        (b'\xef\xbb\xbf{"nextCode":0}', "BOM"),
        (b"{} x", "Extra data"),
        (b"\xff{}", "Expecting value"),
        (b'{"errMsg":"a\nb"}', "control character"),
        (b'{"nextCode":NaN}', "NaN is not JSON"),
        (b'{"unknown":-Infinity}', "-Infinity is not JSON"),
        (b'{"nextCode":01}', "Expecting"),
        (b"[" * 100_000, "recursion"),
        (b"[]", "the reply is not a JSON object"),
        (b'[["nextCode",0]]', "the reply is not a JSON object"),
        (b'"{}"', "the reply is not a JSON object"),
        (b"0", "the reply is not a JSON object"),
        (b"false", "the reply is not a JSON object"),
        (b'{"nextCode":"1"}', "nextCode is not an int32"),
        (b'{"nextCode":"0"}', "nextCode is not an int32"),
        (b'{"nextCode":1.0}', "nextCode is not an int32"),
        (b'{"nextCode":1e0}', "nextCode is not an int32"),
        (b'{"nextCode":true}', "nextCode is not an int32"),
        (b'{"nextCode":{}}', "nextCode is not an int32"),
        (b'{"actionCode":[]}', "actionCode is not an int32"),
        (b'{"errCode":2147483648}', "errCode is not an int32"),
        (b'{"errCode":-2147483649}', "errCode is not an int32"),
        (b'{"errCode":"x","errCode":1}', "errCode is not an int32"),
        (b'{"errMsg":1}', "errMsg is not a string"),
        (b'{"ERRDLT":{}}', "ERRDLT is not a string"),
    ],
)
def test_openim_cannot_read_anything_else(reply: bytes, reason: str) -> None:
    verdict = judge(reply)
    assert isinstance(verdict, Undecodable)
    assert reason in verdict.reason


def test_the_documented_reply_with_a_text_code_is_an_error() -> None:
    reply = b'{"actionCode":0,"errCode":0,"errMsg":"","errDlt":"","nextCode":"1"}'
    assert judge(reply) == Undecodable(reason="nextCode is not an int32")


@patient
@given(st.binary())
def test_any_reply_has_a_verdict(reply: bytes) -> None:
    assert isinstance(judge(reply), Allowed | Refused | Undecodable)
