"""Anything may come as a callback: it is answered, and nothing that may be meant is lost.

The word zebra stands for what must be neither answered nor logged.
"""

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bridge.contract import ALLOW, Allowed, judge
from bridge.message import LONGEST_VALUE
from tests.raw import (
    BODY,
    COMMAND,
    TARGET,
    ask,
    chunked,
    posted,
    rejected,
    request,
    stored,
)
from tests.rejections import (
    Case,
    assert_lets_openim_go_on,
    assert_quiet,
    assert_rejected,
    assert_undisturbed,
)
from tests.running import bridge

ZEBRA = b'{"userID":"zebra"}'
NAME = COMMAND.encode()
LARGEST = 2**20


def unreadable(name: str, body: bytes, *headers: bytes, **made_of_it: Any) -> Any:  # noqa: ANN401
    """Give a body that may have been meant for us, and what is made of it."""
    data = made_of_it.get("data", request(body, *headers))
    status, reason = made_of_it.get("status", 400), made_of_it.get("reason", "malformed")
    return pytest.param(Case(data, status, reason, [body]), id=name)


def encoded(name: str, encoding: bytes) -> Any:  # noqa: ANN401
    """Give a compressed body."""
    header = b"Content-Encoding: " + encoding
    return unreadable(name, gzip.compress(ZEBRA), header, status=415, reason="encoding")


UNREADABLE = [
    unreadable("no-body", b""),
    unreadable("no-length", b"", data=request(b"", length=-1)),
    unreadable("blanks", b" \r\n\t"),
    unreadable("text", b"zebra"),
    unreadable("form", b"zebra=1&b=2", b"Content-Type: application/x-www-form-urlencoded"),
    unreadable("cut-short", ZEBRA[:-1]),
    unreadable("two-documents", ZEBRA * 2),
    unreadable("array", b'["zebra"]'),
    unreadable("string", b'"zebra"'),
    unreadable("number", b"7"),
    unreadable("null", b"null"),
    unreadable("not-utf-8", b'{"userID":"zebra\xff"}'),
    unreadable("utf-16", ZEBRA.decode().encode("utf-16")),
    unreadable("byte-order-mark", b"\xef\xbb\xbf" + ZEBRA),
    unreadable("lone-surrogate", b'{"userID":"zebra\\ud800"}'),
    unreadable("control-character", b'{"userID":"zebra\x01"}'),
    unreadable("nan", b'{"zebra":NaN}'),
    unreadable("infinity", b'{"zebra":-Infinity}'),
    unreadable("number-beyond-all", b'{"zebra":1e400}'),
    unreadable("data-behind", ZEBRA + b"zebra"),
    unreadable("nested-10000-deep", b'{"zebra":' * 10_000 + b"1" + b"}" * 10_000),
    unreadable("brackets", b"[" * 100_000),
    encoded("gzip", b"gzip"),
    encoded("gzip-twice", b"gzip, gzip"),
    encoded("brotli", b"br"),
    encoded("unknown-encoding", b"zebra"),
    unreadable(
        "gzip-transfer",
        b"zebra",
        data=chunked(b"zebra", b"", header=b"Transfer-Encoding: gzip, chunked"),
        status=415,
        reason="encoding",
    ),
    unreadable("other-command", b'{"callbackCommand":"zebra"}', reason="command"),
    unreadable("no-command", b'{"callbackCommand":null}', reason="command"),
    unreadable("command-of-another-type", b'{"callbackCommand":[{}]}', reason="command"),
]


def accepted(name: str, data: bytes, body: bytes = ZEBRA, operation_id: str = "") -> Any:  # noqa: ANN401
    return pytest.param(data, body, operation_id, id=name)


def taken(name: str, body: bytes) -> Any:  # noqa: ANN401
    return accepted(name, request(body), body)


def under(name: str, operation_id: bytes, kept: str) -> Any:  # noqa: ANN401
    """Give a request with a strange operation id, and what is left of that."""
    return accepted(name, request(ZEBRA, b"operationID: " + operation_id), operation_id=kept)


ACCEPTED = [
    taken("twice-the-same-name", b'{"userID":"a","userID":"b"}'),
    taken("twice-the-command", b'{"callbackCommand":"x","callbackCommand":"%s"}' % NAME),
    taken("huge-integer", b'{"userID":"a","seq":%d}' % 10**300),
    taken("integer-beyond-64-bits", b'{"userID":"a","seq":-%d}' % 2**65),
    taken("zero-in-text", b'{"userID":"a\\u0000b"}'),
    taken("other-types", b'{"userID":{"a":[]},"seq":"x","platformID":null}'),
    taken("100000-fields", b"{%s}" % b",".join(b'"%d":1' % n for n in range(100_000))),
    taken("largest", b'{"userID":"%s"}' % (b"z" * (LARGEST - 13))),
    taken("nested-1000-deep", b'{"a":' * 1000 + b"1" + b"}" * 1000),
    accepted("chunked", chunked(*(bytes((byte,)) for byte in ZEBRA), b"")),
    accepted("chunk-extension", chunked(ZEBRA, b"").replace(b"12\r\n", b"12;a=b\r\n", 1)),
    accepted(
        "long-chunk-extension",
        chunked(ZEBRA, b"").replace(b"12\r\n", b"12;a=" + b"z" * 10**5 + b"\r\n", 1),
    ),
    accepted("http-1.0", request(ZEBRA, version=b"1.0")),
    accepted(
        "other-charset", request(ZEBRA, b"Content-Type: application/json; charset=utf-16")
    ),
    accepted("blank-lines-before", b"\r\n\r\n" + request(ZEBRA)),
    accepted("upgrade", request(ZEBRA, b"Connection: Upgrade", b"Upgrade: websocket")),
    accepted("upgrade-to-http-2", request(ZEBRA, b"Connection: Upgrade", b"Upgrade: h2c")),
    accepted("expects-what-nobody-knows", request(ZEBRA, b"Expect: zebra")),
    accepted("not-compressed", request(ZEBRA, b"Content-Encoding: Identity")),
    accepted("other-content-type", request(ZEBRA, b"Content-Type: text/plain")),
    accepted("query-of-60-kib", request(ZEBRA, target=TARGET + b"?" + b"z" * 60 * 2**10)),
    accepted("broken-query", request(ZEBRA, target=TARGET + b"?%zz&=&%00")),
    under("10-kb-operation-id", b"z" * 10_240, "z" * 128),
    under("1-mib-operation-id", b"z" * 2**20, "z" * 128),
    under("operation-id-not-utf-8", b"\xff\xfe", r"\udcff\udcfe"),
    under("operation-id-in-chinese", "操作".encode(), r"\u64cd\u4f5c"),
    under("operation-id-with-tab", b"a\tb", r"a\tb"),
]


@pytest.mark.parametrize("case", UNREADABLE)
async def test_what_cannot_be_read_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    await assert_rejected(case, tmp_path, caplog)


@pytest.mark.parametrize(("data", "body", "operation_id"), ACCEPTED)
async def test_what_is_merely_odd_is_carried(
    tmp_path: Path, data: bytes, body: bytes, operation_id: str
) -> None:
    async with bridge(tmp_path) as running:
        reply = await ask(running, data)
        (message,) = await stored(running)
        await assert_undisturbed(running, 1)
    assert (reply.status, reply.body) == (200, ALLOW)
    assert message.routing_key.startswith("presence.after.user_online.p")
    assert (message.body, message.operation_id) == (body, operation_id)


async def test_what_cannot_be_read_is_kept_with_all_that_came_with_it(tmp_path: Path) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    headers = b"operationID: op-1", b"traceparent: " + trace.encode()
    async with bridge(tmp_path) as running:
        await ask(running, request(b"zebra", *headers, target=TARGET + b"?key=a"))
        (message,) = await stored(running)
    assert message.operation_id == "op-1"
    assert message.headers.keys() == {"x-query", "traceparent", "x-reason"}
    assert (message.headers["x-query"], message.headers["traceparent"]) == ("key=a", trace)


async def test_what_only_we_may_say_is_not_taken_from_a_caller(tmp_path: Path) -> None:
    """The message id above all: who could choose it could have others' callbacks dropped."""
    forged = (b"ce-id: zebra", b"message_id: zebra", b"x-verdict: zebra", b"traceparent: zebra")
    async with bridge(tmp_path) as running:
        await ask(running, request(ZEBRA, *forged))
        (message,) = await stored(running)
    assert message.headers == {}
    assert "zebra" not in message.id


@pytest.mark.parametrize(("size", "status"), [(5000, 200), (5001, 413)])
async def test_the_size_of_a_body_is_a_setting(tmp_path: Path, size: int, status: int) -> None:
    body = b'{"text":"%s"}' % (b"z" * (size - 11))
    async with bridge(tmp_path, max_body=5000) as running:
        assert (await ask(running, request(body))).status == status
        assert (await ask(running, chunked(body, b""))).status == status


async def test_a_flood_of_rejected_requests_is_counted_and_logged_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(tmp_path) as running:
        await asyncio.gather(*(ask(running, request(b"zebra")) for _ in range(100)))
        assert await rejected(running, "malformed") == 100
        assert len(await stored(running, 100)) == 100
    assert_quiet(caplog, "malformed")


async def test_a_push_to_very_many_users_has_an_ordering_key_that_fits(tmp_path: Path) -> None:
    users = [f"user_{number}" for number in range(50_000)]
    body = json.dumps({"sendID": "user_a", "userIDList": users}).encode()
    async with bridge(tmp_path) as running:
        reply = await ask(running, posted("callbackBeforeOfflinePushCommand", body))
        (message,) = await stored(running)
    assert reply.body == ALLOW
    assert message.body == body
    assert 0 < len(message.ordering_key) <= LONGEST_VALUE


async def test_a_failure_of_ours_is_answered_in_json(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bridge(tmp_path) as running:
        # No input is known that makes us fail.
        monkeypatch.setattr("bridge.contract.partition", None)
        reply = await ask(running, request(ZEBRA))
        monkeypatch.undo()
        assert await rejected(running, "internal") == 1
        assert_quiet(caplog, "internal")
        await assert_undisturbed(running, 0)
    assert_lets_openim_go_on(reply, 500)
    assert reply.headers["connection"] == "close"


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(bodies=st.lists(st.binary() | st.text().map(str.encode), min_size=20, max_size=20))
@example(bodies=[b'{"callbackCommand":"\xff"}', BODY, b"{}"])
def test_any_bytes_are_stored_once_as_they_came(
    tmp_path_factory: pytest.TempPathFactory, bodies: list[bytes]
) -> None:
    async def send() -> None:
        async with bridge(tmp_path_factory.mktemp("bridge")) as running:
            replies = [await ask(running, request(body)) for body in bodies]
            messages = await stored(running, len(bodies))
        assert {judge(reply.body) for reply in replies} == {Allowed()}
        assert [message.body for message in messages] == bodies
        assert [m.routing_key == "malformed" for m in messages] == [
            reply.status == 400 for reply in replies
        ]

    asyncio.run(send())
