"""Callers who lie about their body, stall, leave, idle, or are very many."""

import asyncio
import random
import resource
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from bridge.contract import ALLOW
from tests.raw import BODY, Caller, calling, get, rejected, request, stored
from tests.rejections import assert_lets_openim_go_on, assert_quiet, assert_undisturbed
from tests.running import Bridge, bridge, until

ZEBRA = b'{"userID":"zebra"}'
EXPECT = b"Expect: 100-continue"
CHUNKED = b"Transfer-Encoding: chunked"
HEAD = request(b"", EXPECT, length=len(BODY))


@pytest.fixture
def _many_files() -> Iterator[None]:
    """Room for both ends of a few thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2**14), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def _begin(caller: Caller, head: bytes, body: bytes) -> None:
    """Send the beginning of a body once the receiver waits for it."""
    reply = await caller.ask(head)
    assert (reply.status, reply.headers) == (100, {})
    caller.send(body)


async def test_a_body_that_waits_to_be_asked_for_is_asked_for(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        await _begin(caller, HEAD, BODY)
        reply = await caller.reply()
        following = await caller.ask(request())
    assert (following.status, following.body) == (200, ALLOW)
    assert (reply.status, reply.body) == (200, ALLOW)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (request(b"", EXPECT, length=2**30), 413),
        (request(b"", EXPECT, length=5, target=b"/zebra"), 404),
        (request(b"", EXPECT, length=5, method=b"PUT"), 405),
    ],
    ids=["size", "path", "method"],
)
async def test_a_body_that_nobody_wants_is_not_asked_for(
    tmp_path: Path, head: bytes, status: int
) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        reply = await caller.ask(head)
    assert_lets_openim_go_on(reply, status)
    assert reply.headers["connection"] == "close"


LYING = [
    pytest.param(request(b"", EXPECT, length=500), ZEBRA, id="too-short"),
    pytest.param(request(b"", EXPECT, length=len(ZEBRA)), ZEBRA[:-1], id="by-a-byte"),
    pytest.param(request(b"", EXPECT, CHUNKED, length=-1), b"12\r\n" + ZEBRA, id="chunk"),
    pytest.param(
        request(b"", EXPECT, CHUNKED, length=-1), b"12\r\n" + ZEBRA + b"\r\n", id="last-chunk"
    ),
    pytest.param(request(b"", EXPECT, length=500), b"", id="nothing"),
    pytest.param(request(b"", EXPECT, CHUNKED, length=-1), b"zebra\r\n", id="no-chunk"),
]
"""Bodies that end before they should: what comes first, and then."""


@pytest.mark.parametrize(("head", "body"), LYING)
async def test_a_body_that_stalls_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, head: bytes, body: bytes
) -> None:
    async with bridge(tmp_path, arrival_timeout=0.05) as running, calling(running) as caller:
        await _begin(caller, head, body)
        reply = await caller.reply()
        assert await rejected(running, "stalled") == 1
        await assert_undisturbed(running, 0)
    assert_quiet(caplog, "stalled")
    assert_lets_openim_go_on(reply, 408)
    assert reply.headers["connection"] == "close"


@pytest.mark.parametrize(
    "before", [[], [request()], [get("/livez")], [get("/livez"), request()]], ids=len
)
async def test_a_head_that_trickles_is_given_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, before: list[bytes]
) -> None:
    async with bridge(tmp_path, arrival_timeout=0.5) as running, calling(running) as caller:
        statuses = [(await caller.ask(whole)).status for whole in before]
        trickling = asyncio.create_task(_trickle(caller, HEAD[:-1]))
        reply = await caller.reply()
        assert await caller.hung_up_on() == b""
        trickling.cancel()
        assert await rejected(running, "stalled") == 1
        await assert_undisturbed(running, before.count(request()))
    assert_quiet(caplog, "stalled")
    assert_lets_openim_go_on(reply, 408)
    assert (statuses, reply.headers["connection"]) == ([200] * len(before), "close")


def _timers(running: Bridge) -> list[asyncio.TimerHandle | None]:
    """Give what would hang up, for each connection."""
    return [vars(each)["_timer"] for each in running.running.server.connections]


async def _trickle(caller: Caller, data: bytes) -> None:
    for byte in data:
        caller.send(bytes([byte]))
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("head", [request()[:1], request()[:90], get("/livez")[:-1]])
async def test_a_head_that_comes_in_time_is_taken(tmp_path: Path, head: bytes) -> None:
    whole = request() if request().startswith(head) else get("/livez")
    async with bridge(tmp_path, arrival_timeout=60) as running, calling(running) as caller:
        caller.send(head)
        await until(lambda: any(_timers(running)))
        caller.send(whole[len(head) :])
        reply = await caller.reply()
        # Nothing is left that would hang up on the next.
        assert _timers(running) == [None]
    assert reply.status == 200


@pytest.mark.parametrize(("head", "body"), LYING)
async def test_a_body_whose_sender_leaves_is_not_stored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, head: bytes, body: bytes
) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        await _begin(caller, head, body)
        caller.leave()
        await until(lambda: "request rejected" in caplog.messages)
        assert await rejected(running, "cut") == 1
        await assert_undisturbed(running, 0)
    assert_quiet(caplog, "cut")


async def test_a_body_that_was_given_up_ends_the_connection(tmp_path: Path) -> None:
    async with bridge(tmp_path, arrival_timeout=0.05) as running, calling(running) as caller:
        await caller.ask(request(ZEBRA, length=500))
        assert await caller.hung_up_on() == b""


async def test_a_request_behind_another_s_body_is_judged_by_itself(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        caller.send(request() + request(target=b"/zebra"))
        replies = [await caller.reply(), await caller.reply()]
        await assert_undisturbed(running, 1)
    assert [reply.status for reply in replies] == [200, 404]


async def test_a_caller_who_does_not_wait_for_the_reply_is_believed_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = [b'{"userID":"u%d"}' % number for number in range(50)]
    async with bridge(tmp_path) as running, AsyncExitStack() as connections:
        callers = [await connections.enter_async_context(calling(running)) for _ in bodies]
        for caller, body in zip(callers, bodies, strict=True):
            caller.send(request(body))
            caller.leave()
        messages = await stored(running, 50)
        await assert_undisturbed(running, 50)
    assert sorted(message.body for message in messages) == sorted(bodies)
    assert not [
        r for r in caplog.records if r.name.startswith(("bridge.r", "aiohttp", "asyncio"))
    ]


@pytest.mark.usefixtures("_many_files")
async def test_two_thousand_idle_connections_disturb_nobody(tmp_path: Path) -> None:
    async with bridge(tmp_path, arrival_timeout=15) as running, AsyncExitStack() as connections:
        idle = [await connections.enter_async_context(calling(running)) for _ in range(2000)]
        for caller in idle[1000:]:
            caller.send(request()[:30])
        await assert_undisturbed(running, 0)
        assert (await idle[0].ask(request())).body == ALLOW
        idle[-1].send(request()[30:])
        assert (await idle[-1].reply()).body == ALLOW


@pytest.mark.usefixtures("_many_files")
async def test_no_connection_is_closed_just_when_a_callback_comes(tmp_path: Path) -> None:
    """OpenIM does not repeat what it sent into a connection that was being closed."""
    chance, bodies = random.Random(52), []  # noqa: S311  # to be repeated, not to be secret

    async def idle_and_send(caller: Caller) -> None:
        for _ in range(10):
            # What a careless server, or a proxy, closes is what was idle for a round time.
            await asyncio.sleep(1 + chance.uniform(-0.005, 0.005))
            bodies.append((await caller.ask(request())).body)

    async with bridge(tmp_path) as running, AsyncExitStack() as connections:
        callers = [await connections.enter_async_context(calling(running)) for _ in range(1000)]
        await asyncio.gather(*map(idle_and_send, callers))
    assert bodies == [ALLOW] * 10_000
