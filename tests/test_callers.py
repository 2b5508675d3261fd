"""Who may call, which is the same for a plain callback and for what aiohttp reads."""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from bridge import openim
from bridge.callers import LONGEST_WAY, Callers
from bridge.contract import ALLOW, Allowed, judge
from bridge.logs import JsonFormatter
from bridge.settings import Receiver
from tests.raw import (
    BODY,
    COMMAND,
    Reply,
    ask,
    calling,
    chunked,
    get,
    rejected,
    request,
    stored,
)
from tests.running import Bridge, bridge

OLD, NEW = "o" * 43, "n" * 43
SECRETS = f"old:{OLD}\nnew:{NEW}\n"
PATH = "/callbackExample"
Way: TypeAlias = Callable[..., bytes]


def in_chunks(*headers: bytes, target: bytes) -> bytes:
    return chunked(BODY, b"").replace(
        b"POST " + f"{PATH}/{COMMAND}".encode() + b" HTTP/1.1\r\n",
        b"\r\n".join([b"POST " + target + b" HTTP/1.1", *headers, b""]),
    )


def at_once(*headers: bytes, target: bytes) -> bytes:
    return request(BODY, *headers, target=target)


both_ways = pytest.mark.parametrize("way", [at_once, in_chunks])
"""Whole, as OpenIM sends it, which the short way takes; and for aiohttp."""


def basic(user: str, secret: str, scheme: str = "Basic") -> bytes:
    given = base64.b64encode(f"{user}:{secret}".encode()).decode()
    return f"Authorization: {scheme} {given}".encode()


def at(prefix: str) -> bytes:
    return f"{prefix}/{COMMAND}".encode()


async def uses(running: Bridge) -> dict[str, float]:
    """Say how often each secret was used, from `/metrics`."""
    lines = (await ask(running, get("/metrics"))).body.decode().splitlines()
    found = [line for line in lines if line.startswith("openim_bridge_secret_uses_total{")]
    return {line.split('"')[1]: float(line.split()[-1]) for line in found}


LET_IN = [
    pytest.param((basic("openim", OLD),), at(PATH), "old", id="old-login"),
    pytest.param((basic("openim", NEW),), at(PATH), "new", id="new-login"),
    pytest.param((basic("openim", NEW),), at(PATH + "/"), "new", id="two-slashes"),
    pytest.param((), at(f"{PATH}/{OLD}"), "old", id="old-in-path"),
    pytest.param((), at(f"{PATH}/{NEW}/"), "new", id="new-in-path"),
    pytest.param((basic("x", "y"),), at(f"{PATH}/{NEW}"), "new", id="path-and-other-login"),
]


@both_ways
@pytest.mark.parametrize(("headers", "target", "name"), LET_IN)
async def test_who_knows_a_secret_is_let_in_and_counted(
    tmp_path: Path, way: Way, headers: tuple[bytes, ...], target: bytes, name: str
) -> None:
    async with bridge(tmp_path, secrets=SECRETS) as running:
        reply = await ask(running, way(*headers, target=target))
        assert await uses(running) == {"old": 0, "new": 0} | {name: 1}
    assert (reply.status, reply.body) == (200, ALLOW)


KEPT_OUT = [
    pytest.param((), at(PATH), 401, id="nothing"),
    pytest.param((basic("openim", OLD[:-1]),), at(PATH), 401, id="too-short"),
    pytest.param((basic("openim", OLD + "o"),), at(PATH), 401, id="too-long"),
    pytest.param((basic("openim", ""),), at(PATH), 401, id="empty"),
    pytest.param((basic("root", OLD),), at(PATH), 401, id="other-user"),
    pytest.param((basic("openim", OLD, "Bearer"),), at(PATH), 401, id="other-scheme"),
    pytest.param((b"Authorization: Basic %%%",), at(PATH), 401, id="not-base64"),
    pytest.param((b"Authorization: " + OLD.encode(),), at(PATH), 401, id="bare"),
    pytest.param((basic("openim", OLD),), at("/elsewhere"), 404, id="elsewhere"),
    pytest.param((), at(f"{PATH}/{OLD[:-1]}"), 404, id="wrong-in-path"),
    pytest.param((), at(f"/{OLD}"), 404, id="in-path-alone"),
    pytest.param((), at(f"{PATH}/{OLD}/{NEW}"), 404, id="both-in-path"),
    pytest.param((), at(f"{PATH}//{OLD}"), 404, id="slashes-before"),
]


@both_ways
@pytest.mark.parametrize(("headers", "target", "status"), KEPT_OUT)
async def test_who_does_not_is_kept_out(  # noqa: PLR0913, PLR0917  # a table's columns
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    way: Way,
    headers: tuple[bytes, ...],
    target: bytes,
    status: int,
) -> None:
    reason = {401: "secret", 404: "path"}[status]
    async with bridge(tmp_path, secrets=SECRETS) as running:
        reply = await ask(running, way(*headers, target=target))
        assert await rejected(running, reason) == 1
        assert await uses(running) == {"old": 0, "new": 0}
        assert running.running.journal.newest == 0
    assert (reply.status, judge(reply.body)) == (status, Allowed())
    assert_nothing_is_said(caplog, reply)


def assert_nothing_is_said(caplog: pytest.LogCaptureFixture, reply: Reply) -> None:
    """No secret is in the answer, nor in a log line."""
    said = "".join(map(JsonFormatter().format, caplog.records)) + str(reply)
    assert not [secret for secret in (OLD[:20], NEW[:20], "openim:") if secret in said]


@both_ways
async def test_the_answer_to_any_wrong_secret_is_the_same(tmp_path: Path, way: Way) -> None:
    async with bridge(tmp_path, secrets=SECRETS) as running:
        replies = [
            await ask(running, way(*headers, target=at(PATH)))
            for headers in ((), (basic("openim", OLD[:-1]),), (b"Authorization: x",))
        ]
    assert len({(reply.status, reply.body) for reply in replies}) == 1
    assert [reply.headers["www-authenticate"] for reply in replies] == ["Basic"] * 3


async def test_the_rest_of_a_stranger_s_body_is_not_waited_for(tmp_path: Path) -> None:
    async with bridge(tmp_path, secrets=SECRETS) as running, calling(running) as caller:
        reply = await caller.ask(request(BODY, target=at(PATH), length=1000))
        assert await caller.hung_up_on() == b""
    assert reply.status == 401


async def test_a_body_in_two_pieces_counts_as_one_use(tmp_path: Path) -> None:
    data = request(BODY, basic("openim", NEW), target=at(PATH))
    async with bridge(tmp_path, secrets=SECRETS) as running, calling(running) as caller:
        caller.send(data[:-5])
        await caller.writer.drain()
        assert (await caller.ask(data[-5:])).body == ALLOW
        assert await uses(running) == {"old": 0, "new": 1}


async def test_openim_s_own_url_carries_a_secret(tmp_path: Path) -> None:
    async with bridge(tmp_path, secrets=SECRETS) as running:
        url = running.url.replace("http://", f"http://openim:{NEW}@")
        async with openim.process(url) as process:
            answer = await process.post(COMMAND, BODY)
        assert await uses(running) == {"old": 0, "new": 1}
    assert (answer.status, answer.verdict) == (200, Allowed())


async def test_probes_need_no_secret(tmp_path: Path) -> None:
    async with bridge(tmp_path, secrets=SECRETS, sources="192.0.2.0/24") as running:
        replies = [await ask(running, get(path)) for path in ("/livez", "/readyz", "/metrics")]
    assert [reply.status for reply in replies] == [200, 200, 200]


async def test_where_no_secret_is_asked_for_none_is_looked_at(tmp_path: Path) -> None:
    """So OpenIM can be given one before the receiver is."""
    async with bridge(tmp_path) as running:
        reply = await ask(running, request(BODY, basic("openim", NEW), target=at(PATH)))
        assert await uses(running) == {}
    assert reply.body == ALLOW


@both_ways
@pytest.mark.parametrize(
    ("sources", "proxies", "forwarded", "status"),
    [
        ("127.0.0.0/8", "", "", 200),
        ("10.0.0.0/8,127.0.0.1", "", "", 200),
        ("10.0.0.0/8", "", "", 403),
        ("10.0.0.0/8", "", "10.1.1.1", 403),
        ("10.0.0.0/8", "127.0.0.1", "10.1.1.1", 200),
        ("10.0.0.0/8", "127.0.0.1", "192.0.2.1", 403),
        ("10.0.0.0/8", "127.0.0.1", "10.1.1.1, 192.0.2.1", 403),
        ("10.0.0.0/8", "127.0.0.1", "zebra, 10.1.1.1", 200),
        ("10.0.0.0/8", "127.0.0.1, 192.0.2.0/24", "10.1.1.1, 192.0.2.1", 200),
        ("10.0.0.0/8", "127.0.0.1", "zebra", 403),
        ("10.0.0.0/8", "127.0.0.1", "10.1.1.1,", 403),
        ("10.0.0.0/8", "127.0.0.1", "10.1.1.1:80", 403),
        ("127.0.0.1", "127.0.0.1", "", 200),
    ],
)
async def test_where_a_call_comes_from_counts(  # noqa: PLR0913, PLR0917  # a table's columns
    tmp_path: Path, way: Way, sources: str, proxies: str, forwarded: str, status: int
) -> None:
    headers = [f"X-Forwarded-For: {forwarded}".encode()] if forwarded else []
    async with bridge(tmp_path, sources=sources, proxies=proxies) as running:
        reply = await ask(running, way(*headers, target=at(PATH)))
        assert await rejected(running, "source") == (status == 403)
        assert running.running.journal.newest == (status == 200)
    assert (reply.status, judge(reply.body)) == (status, Allowed())


async def test_proxies_in_several_headers_are_one_way(tmp_path: Path) -> None:
    headers = (b"X-Forwarded-For: 10.1.1.1", b"x-forwarded-for: 192.0.2.1")
    async with bridge(tmp_path, sources="10.0.0.0/8", proxies="127.0.0.1") as running:
        reply = await ask(running, request(BODY, *headers))
    assert reply.status == 403


async def test_the_log_names_who_called_behind_the_proxy(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(tmp_path, proxies="127.0.0.1") as running:
        await ask(running, request(b"zebra", b"X-Forwarded-For: 10.6.6.6, 10.7.7.7"))
        await stored(running)
    (line,) = [each for each in caplog.records if each.message == "request rejected"]
    assert json.loads(JsonFormatter().format(line))["peer"] == "10.7.7.7"


def test_addresses_of_both_kinds_are_told_apart() -> None:
    callers = Callers(Receiver(sources="10.0.0.0/8,2001:db8::/32"))
    callers.check_source("::ffff:10.0.0.1", "")
    callers.check_source("2001:db8::7", "")


def test_of_a_long_way_the_end_counts() -> None:
    callers = Callers(Receiver(sources="10.0.0.0/8", proxies="127.0.0.1"))
    forwarded = "10.1.1.1, " * LONGEST_WAY
    assert callers.client("127.0.0.1", forwarded + "192.0.2.1") == "192.0.2.1"
    assert len(callers.client("127.0.0.1", "x" * 10**6)) == LONGEST_WAY
