"""OpenIM's client as we play it, compared with what was captured from the real one."""

import asyncio
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from contextlib import AsyncExitStack
from urllib.parse import parse_qs, unquote

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import openim
from bridge.contract import COMMANDS, Allowed, Refused, Undecodable, fields_of
from bridge.openim import Answer, Times, commands, process, query, sample
from tests.listener import TAKEN, Listener, listening, redirect, reply

COMMAND = "callbackBeforeAddFriendCommand"
BODY = b'{"callbackCommand":"callbackBeforeAddFriendCommand"}\n'

# As captured from OpenIM's client: webhook over Go's net/http.
CAPTURED = b"""\
POST /callbackExample/callbackBeforeAddFriendCommand HTTP/1.1\r
Host: 127.0.0.1:<port>\r
User-Agent: Go-http-client/1.1\r
Content-Length: 53\r
Content-Type: application/json; charset=utf-8\r
Operationid: <id>\r
Accept-Encoding: gzip\r
\r
"""


async def posted(listener: Listener, url: str = "") -> Answer:
    """Post a callback to a listener."""
    async with process(url or listener.url) as running:
        return await running.post(COMMAND, BODY)


def noted(milliseconds: Iterable[float]) -> Times:
    """Give times with these in them."""
    times = Times()
    for each in milliseconds:
        times.add(each)
    return times


async def test_a_request_has_the_bytes_of_openims() -> None:
    async with listening(TAKEN) as listener:
        await posted(listener)
    (request,) = listener.requests
    id_ = request.partition(b"Operationid: ")[2].partition(b"\r\n")[0]
    expected = CAPTURED.replace(b"<port>", str(listener.port).encode()).replace(b"<id>", id_)
    assert id_
    assert request == expected + BODY


@pytest.mark.parametrize("command", commands())
async def test_a_recorded_body_is_sent_as_it_is(command: str) -> None:
    async with listening(TAKEN) as listener, process(listener.url) as running:
        await running.post(*sample(command))
    (request,) = listener.requests
    assert request.partition(b"\r\n\r\n")[2] == sample(command)[1]
    assert request.endswith(b"}\n")


async def test_every_request_has_an_operation_id_of_its_own() -> None:
    async with listening(TAKEN) as listener, process(listener.url) as running:
        await running.post(COMMAND, BODY)
        await running.post(COMMAND, BODY)
    first, second = listener.requests
    assert first != second


async def test_user_and_password_of_the_url_go_into_a_header_where_go_has_it() -> None:
    async with listening(TAKEN) as listener:
        await posted(listener, listener.url.replace("://", "://im:p%C3%A4ss%20word@"))
    (request,) = listener.requests
    names = [line.partition(b":")[0] for line in request.split(b"\r\n")[1:7]]
    login = b"Authorization: Basic " + b64encode("im:päss word".encode()) + b"\r\n"
    assert login in request
    assert names.index(b"Authorization") == names.index(b"Content-Length") + 1
    assert b"@" not in request


@pytest.mark.parametrize(
    ("suffix", "target"),
    [
        ("", "/callbackExample/callbackBeforeAddFriendCommand"),
        ("/", "/callbackExample//callbackBeforeAddFriendCommand"),
        ("/%7Ex", "/callbackExample/%7Ex/callbackBeforeAddFriendCommand"),
        ("?token=abc", "/callbackExample?token=abc/callbackBeforeAddFriendCommand"),
    ],
)
async def test_url_and_command_are_joined_as_text(suffix: str, target: str) -> None:
    async with listening(TAKEN) as listener:
        await posted(listener, listener.url + suffix)
    assert listener.requests[0].split()[1].decode() == target


@pytest.mark.parametrize(
    "command",
    [
        "callbackAfterSendSingleMsgCommand",
        "callbackAfterSendGroupMsgCommand",
        "callbackAfterMsgSaveDBCommand",
    ],
)
def test_three_callbacks_have_a_key_for_openims_bots_in_the_query(command: str) -> None:
    added = query(*sample(command))
    fields = fields_of(sample(command)[1])
    key = json.loads(b64decode(parse_qs(added.removeprefix("?"))["key"][0]))
    assert key == {name: fields.get(name, "") for name in ("sendID", "recvID", "groupID")}
    assert set(unquote(added)) - set(added) <= {"+", "/", "="}


@pytest.mark.parametrize("command", sorted({*commands(), "callbackUnknownCommand"}))
def test_no_query_is_added_to_what_is_no_json_object(command: str) -> None:
    assert query(command, b"[]") == query(command, b"") == query(command, b"\xff") == ""


async def test_two_connections_serve_for_many_callbacks() -> None:
    answers: list[Answer] = []
    async with listening(TAKEN) as listener, process(listener.url) as running:
        await running.post_all([(COMMAND, BODY)] * 500, answers.append)
    assert [answer.verdict for answer in answers] == [Allowed()] * 500
    assert len(listener.requests) == 500
    assert listener.connections == running.connections <= openim.WORKERS


async def test_no_connection_is_left_open_by_who_is_cancelled_while_closing() -> None:
    async with listening(TAKEN) as listener:
        async with AsyncExitStack() as closing:
            sending = await closing.enter_async_context(process(listener.url))
            await sending.post(COMMAND, b"{}")
            leaving = asyncio.ensure_future(closing.pop_all().aclose())
            await asyncio.sleep(0)
            leaving.cancel()
            with pytest.raises(asyncio.CancelledError):
                await leaving
        sessions = [held for held in vars(sending).values() if hasattr(held, "closed")]
        assert [session.closed for session in sessions] == [True, True]


async def test_cookies_are_not_kept() -> None:
    async with (
        listening(reply(b"{}", b"200 OK", b"Set-Cookie: a=b")) as listener,
        process(listener.url.replace("127.0.0.1", "localhost")) as running,
    ):
        await running.post(COMMAND, BODY)
        await running.post(COMMAND, BODY)
    assert b"Cookie" not in listener.requests[1]


async def test_a_post_on_a_connection_that_breaks_is_not_sent_again() -> None:
    async with listening(TAKEN, b"", TAKEN) as listener, process(listener.url) as running:
        before = await running.post(COMMAND, BODY)
        broken = await running.post(COMMAND, BODY)
        after = await running.post(COMMAND, BODY)
    assert (before.verdict, after.verdict) == (Allowed(), Allowed())
    assert broken.verdict == Undecodable(reason="no answer: Server disconnected")
    assert not broken.unreachable
    assert len(listener.requests) == 3


@pytest.mark.parametrize("status", [b"307 Temporary Redirect", b"308 Permanent Redirect"])
async def test_a_redirect_with_307_repeats_the_post(status: bytes) -> None:
    async with listening(redirect(status), TAKEN) as listener:
        answer = await posted(listener)
    first, second = listener.requests
    assert second == first.replace(
        b"/callbackExample/callbackBeforeAddFriendCommand", b"/elsewhere"
    )
    assert answer.verdict == Allowed()


@pytest.mark.parametrize("status", [b"301 Moved", b"302 Found", b"303 See Other"])
async def test_a_redirect_with_302_becomes_a_get_without_body(status: bytes) -> None:
    async with listening(redirect(status), TAKEN) as listener:
        answer = await posted(listener)
    first, second = listener.requests
    assert second.startswith(b"GET /elsewhere HTTP/1.1\r\n")
    assert second.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in second
    assert first.partition(b"Operationid: ")[2][:20] in second
    assert answer.verdict == Allowed()


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        (b"http://127.0.0.1:<port>/secret", "redirected for ever"),
        (b"http://[secret/", "redirected to no URL"),
    ],
)
async def test_a_redirect_that_leads_nowhere_is_no_answer(location: bytes, reason: str) -> None:
    async with listening(reply(b"", b"307 Redirect", b"Location: " + location)) as listener:
        answer = await posted(listener)
    assert answer.verdict == Undecodable(reason=reason)


@pytest.mark.parametrize(
    ("body", "verdict"),
    [
        (b"{}", Allowed()),
        (
            b'{"nextCode":1,"errCode":20001,"errMsg":"no","errDlt":"why"}',
            Refused(code=20001, message="no", detail="why"),
        ),
    ],
)
async def test_a_reply_is_judged_whatever_its_status(body: bytes, verdict: object) -> None:
    async with listening(reply(body, b"500 Oops")) as listener:
        answer = await posted(listener)
    assert (answer.verdict, answer.status, answer.reply) == (verdict, 500, body)
    assert answer.command == COMMAND
    assert answer.milliseconds > 0


async def test_nobody_there_is_told_from_no_answer() -> None:
    async with listening(TAKEN) as listener:
        pass
    answer = await posted(listener)
    assert answer.unreachable
    assert isinstance(answer.verdict, Undecodable)
    assert answer.verdict.reason.startswith(f"nobody listens at 127.0.0.1:{listener.port}: ")


async def test_an_answer_that_takes_too_long_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openim, "TIMEOUT", aiohttp.ClientTimeout(total=0.05))
    async with listening(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n") as listener:
        answer = await posted(listener)
    assert answer.verdict == Undecodable(reason="no answer within 0.05 s")


def test_there_is_a_recorded_body_for_every_command() -> None:
    assert commands() == sorted({event.command for event in COMMANDS.values()})


@pytest.mark.parametrize(
    "name",
    [
        "callbackAfterAddFriendCommand",
        "AfterAddFriend",
        "afteraddfriend",
        "CALLBACKAFTERADDFRIENDCOMMAND",
    ],
)
def test_a_command_may_be_named_in_short(name: str) -> None:
    command, body = sample(name)
    assert command == "callbackAfterAddFriendCommand"
    assert fields_of(body)["callbackCommand"] == command


@pytest.mark.parametrize("name", ["", "Friend", "callbackCommand", "../samples/x"])
def test_what_names_no_command_is_refused(name: str) -> None:
    with pytest.raises(openim.UnknownSample, match="send --list"):
        sample(name)


@given(st.lists(st.floats(0.002, 60_000), min_size=1, max_size=200))
def test_percentiles_are_within_a_percent(milliseconds: list[float]) -> None:
    times = noted(milliseconds)
    ordered = sorted(milliseconds)
    assert times.percentile(50) == pytest.approx(ordered[(len(ordered) - 1) // 2], rel=0.01)
    assert times.percentile(100) == pytest.approx(ordered[-1], rel=0.01)
    assert times.percentile(100) <= times.longest
    assert (times.count, times.longest) == (len(ordered), ordered[-1])


def test_many_times_take_little_memory() -> None:
    times = noted(number / 100 for number in range(1_000_000))
    assert len(vars(times)["_counts"]) < 2000


def test_without_answers_there_are_no_times() -> None:
    assert (Times().percentile(50), Times().longest) == (0.0, 0.0)
