"""A policy that is changed while the receiver runs."""

import logging
import os
import signal
from pathlib import Path

import pytest

from bridge import openim
from bridge.contract import Allowed, Refused
from tests.policies import commands, rules, written
from tests.raw import ask, get
from tests.running import NOWHERE, Bridge, bridge, until
from tests.test_kill import receiver
from tests.test_workers import listening

ADD, SEND = "callbackBeforeAddFriendCommand", "callbackBeforeSendSingleMsgCommand"
NO = {"code": 20001, "message": "no"}
REFUSING = commands(BeforeAddFriend={"refuse": NO})
ALLOWING = commands(BeforeAddFriend={"allow": True})
LIMITED = rules(
    {
        "name": "limit",
        "commands": ["BeforeSendSingleMsg"],
        "limit": {"per": "sendID", "most": 1, "seconds": 3600},
        "refuse": NO,
    }
)


async def allowed(running: Bridge, command: str = ADD) -> bool:
    """Say whether a recorded callback is allowed."""
    answer = await running.openim.post(*openim.sample(command))
    assert isinstance(answer.verdict, Allowed | Refused)
    return answer.verdict == Allowed()


def said(caplog: pytest.LogCaptureFixture, message: str) -> int:
    """Count the lines with this message."""
    return [record.message for record in caplog.records].count(message)


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


async def test_a_changed_policy_is_read_at_a_hang_up(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(tmp_path, policy=written(tmp_path, REFUSING)) as running:
        assert not await allowed(running)
        written(tmp_path, ALLOWING)
        assert not await allowed(running)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(caplog, "settings read") == 1)
        assert await allowed(running)
        metrics = (await ask(running, get("/metrics"))).body
    assert b'openim_bridge_reloads_total{outcome="taken"} 1.0' in metrics


async def test_a_policy_with_mistakes_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(tmp_path, policy=written(tmp_path, REFUSING)) as running:
        written(tmp_path, "[commands.BeforeAddFreind]\nallow = true")
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(caplog, "settings kept as they were") == 1)
        assert not await allowed(running)
        metrics = (await ask(running, get("/metrics"))).body
        written(tmp_path, ALLOWING)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(caplog, "settings read") == 1)
        assert await allowed(running)
    (line,) = [each for each in caplog.records if each.message == "settings kept as they were"]
    assert "BeforeAddFreind is not a callback" in vars(line)["problems"][0]
    assert b'openim_bridge_reloads_total{outcome="refused"} 1.0' in metrics


async def test_a_limit_that_stays_the_same_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with bridge(tmp_path, policy=written(tmp_path, LIMITED)) as running:
        assert [await allowed(running, SEND) for _ in range(2)] == [True, False]
        written(tmp_path, LIMITED + REFUSING)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(caplog, "settings read") == 1)
        assert not await allowed(running, SEND)
        written(tmp_path, LIMITED.replace("3600", "60"))
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: said(caplog, "settings read") == 2)
        assert await allowed(running, SEND)


async def test_all_workers_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_WORKERS", "2")
    monkeypatch.setenv("BRIDGE_POLICY", written(tmp_path, REFUSING))
    async with receiver(tmp_path, NOWHERE) as process:
        await until(lambda: listening(process) == 2)
        written(tmp_path, ALLOWING)
        process.process.send_signal(signal.SIGHUP)
        await until(lambda: process.log.count('"message":"settings read"') == 2)
        async with openim.process(await process.url()) as sender:
            answers = [await sender.post(*openim.sample(ADD)) for _ in range(3)]
        process.process.terminate()
        assert await process.end() == 0
    assert [answer.verdict for answer in answers] == [Allowed()] * 3
