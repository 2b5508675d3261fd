"""What OpenIM makes of an answer, whoever gives it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import Allowed, Refused, Undecodable, Verdict, judge


def refused(code: int, message: str = "", detail: str = "") -> Refused:
    """Give the verdict of a refusal."""
    return Refused(code=code, message=message, detail=detail)


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


@given(st.binary())
def test_any_reply_has_a_verdict(reply: bytes) -> None:
    assert isinstance(judge(reply), Allowed | Refused | Undecodable)
