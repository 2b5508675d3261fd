"""SIGHUP: what may change does, without a failed request, or all stays as it was."""

import asyncio
import json
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from bridge import openim
from bridge.contract import Allowed
from bridge.reloading import merged
from bridge.settings import Receiver
from tests.policies import toml
from tests.running import NOWHERE, until
from tests.test_kill import COMMAND, Process, body, receiver
from tests.test_workers import children, listening

OLD, NEW = "o" * 43, "n" * 43


def test_what_can_change_is_taken_and_what_cannot_is_named() -> None:
    now = Receiver(port=1, max_body=2000, log_level="info")
    found = merged(now, Receiver(port=2, max_body=3000, log_level="debug", workers=3))
    assert found.settings == Receiver(port=1, max_body=3000, log_level="debug")
    assert set(found.changed) == {"max_body", "log_level"}
    assert set(found.waiting) == {"port", "workers"}


def test_only_what_exists_is_reloaded() -> None:
    assert Receiver.reloaded <= set(Receiver.__struct_fields__)


@dataclass
class Reloaded:
    """A receiver in a process, whose settings lie in a file."""

    process: Process
    file: Path
    count: int

    def write(self, **settings: Any) -> None:  # noqa: ANN401  # any setting
        """Write the file anew."""
        lines = [f"{name} = {toml(value)}" for name, value in settings.items()]
        self.file.write_text("\n".join(["[bridge]", *lines]), encoding="utf-8")

    def said(self, message: str) -> list[dict[str, Any]]:
        """Give the lines with a message."""
        lines = [json.loads(line) for line in self.process.log.splitlines()]
        return [line for line in lines if line["message"] == message]

    async def reload(self, message: str = "settings read") -> list[dict[str, Any]]:
        """Send SIGHUP; give the lines in which all workers say that they have heeded it."""
        before = len(self.said(message))
        self.process.process.send_signal(signal.SIGHUP)
        await until(lambda: len(self.said(message)) == before + self.count)
        return self.said(message)[before:]


@pytest.fixture(params=[1, 2], ids=["alone", "two-workers"])
async def reloaded(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Reloaded]:
    """A receiver, alone or with two workers, that asks for a secret."""
    file = tmp_path / "settings.toml"
    monkeypatch.setenv("BRIDGE_CONFIG", str(file))
    monkeypatch.setenv("BRIDGE_WORKERS", str(request.param))
    file.write_text(f'[bridge]\nsecrets = "old:{OLD}"\n', encoding="utf-8")
    async with receiver(tmp_path, NOWHERE) as process:
        await until(lambda: listening(process) == request.param)
        yield Reloaded(process, file, request.param)


@dataclass
class Load:
    """Callbacks that come all the time."""

    secret: str
    answers: list[openim.Answer] = field(default_factory=list)

    async def more(self) -> None:
        """Wait for more answers."""
        wanted = len(self.answers) + 50
        await until(lambda: len(self.answers) >= wanted)

    async def keep_on(self, url: str) -> None:
        """Send, each time with the secret that is now in `webhooks.yml`."""
        while True:
            with_secret = url.replace("://", f"://openim:{self.secret}@")
            async with openim.process(with_secret) as process:
                for number in range(20):
                    self.answers.append(await process.post(COMMAND, body(number)))


@asynccontextmanager
async def load(url: str, secret: str) -> AsyncIterator[Load]:
    """Send from three processes during the block."""
    sending = Load(secret)
    tasks = [asyncio.ensure_future(sending.keep_on(url)) for _ in range(3)]
    try:
        yield sending
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def status(url: str, secret: str, size: int = 10) -> int:
    """Send one callback of a size; give the HTTP status."""
    async with openim.process(url.replace("://", f"://openim:{secret}@")) as process:
        return (await process.post(COMMAND, b'{"a":"%s"}' % (b"z" * size))).status


async def test_a_secret_is_changed_under_load_without_a_failed_request(
    reloaded: Reloaded,
) -> None:
    url = await reloaded.process.url()
    async with load(url, OLD) as sending:
        await sending.more()
        reloaded.write(secrets=f"old:{OLD} new:{NEW}")
        lines = await reloaded.reload()
        sending.secret = NEW
        await sending.more()
        reloaded.write(secrets="new:short")
        await reloaded.reload("settings kept as they were")
        await sending.more()
        await until(lambda: len(sending.answers) > 400)
    reloaded.write(secrets=f"new:{NEW}")
    await reloaded.reload()
    assert (await status(url, OLD), await status(url, NEW)) == (401, 200)
    assert lines[0]["secrets"] == ["old", "new"]
    assert {(a.status, a.verdict) for a in sending.answers} == {(200, Allowed())}
    assert not [secret for secret in (OLD, NEW) if secret in reloaded.process.log]


async def test_limits_and_log_level_change(reloaded: Reloaded) -> None:
    url = await reloaded.process.url()
    before = await status(url, OLD, 5000)
    reloaded.write(secrets=f"old:{OLD}", max_body=2000, log_level="debug", partitions=3)
    lines = await reloaded.reload()
    assert (before, await status(url, OLD, 5000)) == (200, 413)
    assert {tuple(sorted(line["changed"])) for line in lines} == {("log_level", "max_body")}
    assert [line["restart_needed"] for line in lines] == [["partitions"]] * reloaded.count


async def test_a_mistake_anywhere_changes_nothing_and_is_said(reloaded: Reloaded) -> None:
    url = await reloaded.process.url()
    reloaded.write(secrets=f"new:{NEW}", max_body=5)
    lines = await reloaded.reload("settings kept as they were")
    assert (await status(url, OLD), await status(url, NEW)) == (200, 401)
    (problem,) = lines[0]["problems"]
    assert "max_body=5 is not allowed" in problem
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(url).with_path("/metrics")) as response,
    ):
        text = await response.text()
    refused = re.findall(r'reloads_total\{.*outcome="refused"\} (\S+)', text)
    assert refused == ["1.0"] * reloaded.count


@pytest.mark.parametrize("reloaded", [2], indirect=True)
async def test_a_worker_that_is_started_anew_has_the_settings_of_now(
    reloaded: Reloaded,
) -> None:
    url = await reloaded.process.url()
    reloaded.write(secrets=f"new:{NEW}")
    await reloaded.reload()
    first, second = children(reloaded.process)
    os.kill(first, signal.SIGKILL)
    os.kill(second, signal.SIGKILL)
    await until(lambda: listening(reloaded.process) == 4)
    answers = [(await status(url, OLD), await status(url, NEW)) for _ in range(6)]
    assert answers == [(401, 200)] * 6


@pytest.mark.parametrize("reloaded", [2], indirect=True)
async def test_a_worker_that_is_started_anew_does_not_let_everybody_call(
    reloaded: Reloaded,
) -> None:
    url = await reloaded.process.url()
    reloaded.write(secrets="")
    await reloaded.reload("settings kept as they were")
    for worker in children(reloaded.process):
        os.kill(worker, signal.SIGKILL)
    await until(lambda: listening(reloaded.process) == 4)
    answers = [(await status(url, OLD), await status(url, NEW)) for _ in range(6)]
    assert answers == [(200, 401)] * 6
