"""Several processes on one port, and a parent that keeps their number."""

import asyncio
import os
import re
import signal
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families
from yarl import URL

from bridge import openim
from bridge.contract import Allowed
from bridge.workers import together
from tests.running import NOWHERE, everything, until
from tests.test_kill import COMMAND, Process, body, receiver


@pytest.fixture(autouse=True)
def _three_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BRIDGE_WORKERS", "3")


def children(process: Process) -> list[int]:
    pid = process.process.pid
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def listening(process: Process) -> int:
    return process.log.count('"message":"listening"')


async def test_workers_share_a_port_and_have_a_journal_each(tmp_path: Path) -> None:
    async with receiver(tmp_path, NOWHERE) as process:
        await until(lambda: listening(process) == 3)
        assert len(set(children(process))) == 3
        for slot in ("0", "1", "2"):
            assert (tmp_path / "journal" / slot / "lock").exists()
        process.process.terminate()
        assert await process.end() == 0
    assert process.log.count('"message":"stopped"') == 3


async def test_a_worker_that_dies_is_replaced_and_nothing_is_lost(
    amqp_url: str, tmp_path: Path
) -> None:
    answered: set[bytes] = set()

    async def send(url: str, first: int) -> None:
        async with openim.process(url) as sender:
            for number in range(first, first + 200):
                answer = await sender.post(COMMAND, body(number))
                if answer.verdict == Allowed():
                    answered.add(body(number))

    async with everything(amqp_url) as seen, receiver(tmp_path, amqp_url) as process:
        url = await process.url()
        await until(lambda: listening(process) == 3)
        sending = asyncio.gather(*(send(url, 1000 * number) for number in range(6)))
        await until(lambda: len(answered) > 300)
        os.kill(children(process)[0], signal.SIGKILL)
        await sending
        await until(lambda: listening(process) == 4)
        await until(lambda: answered <= {message.body for message in seen.messages})
        assert len(children(process)) == 3
    # A killed worker takes the callbacks with it that it was about to answer, and no more.
    assert len(answered) > 1150


async def test_metrics_are_those_of_all_workers(tmp_path: Path) -> None:
    async with receiver(tmp_path, NOWHERE) as process:
        url = await process.url()
        await until(lambda: listening(process) == 3)
        for number in range(12):
            async with openim.process(url) as sender:
                await sender.post(COMMAND, body(number))
        async with (
            aiohttp.ClientSession() as session,
            session.get(URL(url).with_path("/metrics")) as response,
        ):
            text = await response.text()
    series = r"openim_bridge_callbacks_total\{worker=\"\d\",command=\"" + COMMAND
    assert sum(map(float, re.findall(series + r"\"\} (\S+)", text))) == 12
    replies = r"openim_bridge_reply_seconds_count\{worker=\"(\d)\"\} (\S+)"
    counts = dict(re.findall(replies, text))
    assert (set(counts), sum(map(float, counts.values()))) == ({"0", "1", "2"}, 12)
    names = [family.name for family in text_string_to_metric_families(text)]
    assert len(names) == len(set(names))
    assert text.count("# TYPE openim_bridge_journal_depth gauge") == 1


async def test_workers_do_not_outlive_their_parent(tmp_path: Path) -> None:
    async with receiver(tmp_path, NOWHERE) as process:
        await until(lambda: listening(process) == 3)
        workers = children(process)
        process.process.kill()
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert len(workers) == 3


def test_a_worker_that_does_not_tell_changes_no_series_of_the_others() -> None:
    head = b"# HELP a_total So many.\n# TYPE a_total counter\n"
    first, third = b'a_total{b="c"} 2.0\n', b"a_total 1.0\n"
    alone = together([b"", head + third])
    assert alone == head + b'a_total{worker="1"} 1.0\n'
    both = together([head + first, head + third])
    assert both == head + b'a_total{worker="0",b="c"} 2.0\na_total{worker="1"} 1.0\n'
