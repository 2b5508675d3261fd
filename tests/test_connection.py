"""Plain callbacks take a short way; what is unusual is aiohttp's, and none is mixed up."""

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bridge.contract import ALLOW
from bridge.plain import USUAL_LINE, _usual_header, _usual_target, plain
from tests.raw import BODY, TARGET, calling, chunked, get, posted, request, stored
from tests.running import bridge, until

BEFORE = "callbackBeforeAddFriendCommand"


def test_a_plain_callback_is_read() -> None:
    read = plain(request(BODY, b"OperationID:  op-1 ", target=TARGET + b"?key=a%3D"))
    assert read is not None
    assert (read.path, read.query) == (TARGET.decode(), "key=a%3D")
    assert read.header(b"operationid") == "op-1"
    assert read.end - read.body_at == len(BODY)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"POST",
        request()[:40],
        request(method=b"GET"),
        request(method=b"post"),
        request(version=b"1.0"),
        request(target=b"http://bridge" + TARGET),
        request(target=TARGET + b" x"),
        request(target=TARGET + b"\xff"),
        request(length=-1),
        request(length=10**9),
        request(BODY, b"Content-Length: 5"),
        request(BODY, b"Host: another"),
        request(BODY, b"Transfer-Encoding: chunked"),
        request(BODY, b"Content-Encoding: gzip"),
        request(BODY, b"Connection: close"),
        request(BODY, b"Expect: 100-continue"),
        request(BODY, b"Upgrade: h2c"),
        request(BODY, b"operationID: \xc3\xa9"),
        request(BODY, b"operationID: a\tb"),
        request(BODY, b"operationID : a"),
        request(BODY, b" folded"),
        request(BODY, b"nothing"),
        request().replace(b"\r\n", b"\n"),
        request().replace(b"Host: bridge\r\n", b""),
        request(BODY, *(b"X-%d: 1" % number for number in range(70))),
    ],
)
def test_what_is_unusual_is_left_to_aiohttp(data: bytes) -> None:
    assert plain(data) is None


def test_only_short_lines_are_remembered() -> None:
    long = b"x" * USUAL_LINE
    targets, headers = (each.cache_info() for each in (_usual_target, _usual_header))
    assert plain(request(BODY, b"X-Long: " + long, target=TARGET + b"?" + long))
    assert _usual_target.cache_info().misses == targets.misses
    assert _usual_header.cache_info().misses - headers.misses <= 2
    assert targets.maxsize == headers.maxsize == 256


async def test_a_plain_callback_never_reaches_aiohttp(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        for _ in range(3):
            assert (await caller.ask(request())).body == ALLOW
        handled = running.running.server.requests_count
    assert handled == 0


async def test_unusual_and_plain_requests_keep_their_order(tmp_path: Path) -> None:
    requests = [request(), posted(BEFORE), get("/livez"), request(), chunked(BODY, b"")]
    async with bridge(tmp_path) as running, calling(running) as caller:
        caller.send(b"".join(requests * 3))
        replies = [(await caller.reply()).body for _ in range(15)]
        assert len(await stored(running, 12)) == 12
    assert replies == [ALLOW, ALLOW, b'{"alive":true}', ALLOW, ALLOW] * 3


async def test_a_thousand_pipelined_callbacks_are_answered(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        caller.send(posted(BEFORE) * 1000)
        replies = [(await caller.reply()).body for _ in range(1000)]
        assert len(await stored(running, 1000)) == 1000
    assert set(replies) == {ALLOW}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 3 * len(request()) - 1), max_size=8))
async def test_a_callback_may_arrive_in_any_pieces(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    data = request() * 3
    edges = [0, *sorted(cuts), len(data)]
    folder = tmp_path_factory.mktemp("bridge")
    async with bridge(folder) as running, calling(running) as caller:
        for start, end in itertools.pairwise(edges):
            caller.send(data[start:end])
            await caller.writer.drain()
        replies = [(await caller.reply()).body for _ in range(3)]
        messages = await stored(running, 3)
    assert replies == [ALLOW] * 3
    assert [message.body for message in messages] == [BODY] * 3


async def test_a_body_that_stalls_is_given_up(tmp_path: Path) -> None:
    async with bridge(tmp_path, arrival_timeout=0.05) as running, calling(running) as caller:
        reply = await caller.ask(request(length=len(BODY) + 1))
        await caller.hung_up_on()
        assert running.running.journal.newest == 0
    assert reply.status == 408


async def test_a_connection_that_is_used_is_not_idle(tmp_path: Path) -> None:
    """Aiohttp closes what is idle, and knows only of the requests that it saw."""
    async with bridge(tmp_path) as running, calling(running) as caller:
        await until(lambda: bool(running.running.server.connections))
        (connection,) = running.running.server.connections
        opened = connection._next_keepalive_close_time  # noqa: SLF001  # aiohttp has no other
        await caller.ask(request())
        used = connection._next_keepalive_close_time  # noqa: SLF001
    assert used > opened


async def test_who_is_in_at_a_stop_is_asked_to_close(tmp_path: Path) -> None:
    async with bridge(tmp_path, grace_period=5) as running, calling(running) as caller:
        await caller.ask(request())
        running.running.receiver.draining = True
        reply = await caller.ask(request())
        await caller.hung_up_on()
    assert reply.headers["connection"] == "close"
    assert reply.body == ALLOW


async def test_a_body_too_large_is_refused_on_the_short_way_too(tmp_path: Path) -> None:
    async with bridge(tmp_path, max_body=1024) as running, calling(running) as caller:
        reply = await caller.ask(request(b"x" * 1025))
        assert running.running.journal.newest == 0
    assert reply.status == 413
