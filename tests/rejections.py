"""What holds for every request that gets an error for an answer."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bridge.contract import ALLOW, Allowed, judge
from bridge.logs import JsonFormatter
from tests.raw import COMMAND, Reply, ask, rejected, request, stored
from tests.running import Bridge, bridge


@dataclass(frozen=True)
class Case:
    """A request that is rejected."""

    data: bytes
    """In it, the word zebra stands for what must be neither answered nor logged."""

    status: int
    """Of the answer."""

    reason: str
    """Under which it is counted."""

    kept: list[bytes]
    """Its body, if that may have been meant for us."""


async def assert_rejected(case: Case, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Send the request: it is answered, counted, logged, kept if need be, and no more."""
    async with bridge(folder) as running:
        reply = await ask(running, case.data)
        messages = await stored(running, len(case.kept))
        assert await rejected(running, case.reason) == 1
        assert_quiet(caplog, case.reason)
        await assert_undisturbed(running, len(case.kept))
    assert_lets_openim_go_on(reply, case.status)
    assert [message.body for message in messages] == case.kept
    given = {"x-reason": json.loads(reply.body)["errMsg"]}
    malformed = [("malformed", COMMAND, given)] * len(case.kept)
    assert [(m.routing_key, m.command, m.headers) for m in messages] == malformed


def assert_quiet(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    """Exactly one line says that something was rejected, and quotes nothing of it."""
    records = [r for r in caplog.records if r.name.startswith(("bridge.r", "aiohttp"))]
    (line,) = map(JsonFormatter().format, records)
    assert json.loads(line)["reason"] == reason
    assert json.loads(line)["peer"] == "127.0.0.1"
    assert not [secret for secret in ("zebra", "callbackExample") if secret in line]


def assert_lets_openim_go_on(reply: Reply, status: int) -> None:
    """The answer is JSON, and the operation it is about goes on."""
    assert (reply.status, judge(reply.body)) == (status, Allowed())
    assert json.loads(reply.body)["actionCode"] == 1
    assert reply.headers["content-type"] == "application/json"
    assert b"zebra" not in reply.body + str(reply.headers).encode()
    assert b"callbackExample" not in reply.body


async def assert_undisturbed(running: Bridge, stored_before: int) -> None:
    """A callback that comes now is answered and stored, and nothing else has been."""
    assert (await ask(running, request())).body == ALLOW
    assert len(await stored(running, stored_before + 1)) == stored_before + 1
