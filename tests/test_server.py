"""The receiver's process: how it starts, and how it stops."""

import asyncio
import json
import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bridge import server
from bridge.contract import ALLOW
from tests.raw import Caller, Reply, calling, get, request
from tests.running import DEADLINE, Bridge, bridge, settings, until


async def _not_ready(caller: Caller) -> Reply:
    """Ask until the receiver takes no more callbacks."""
    while (reply := await caller.ask(get("/readyz"))).status == 200:
        pass
    return reply


async def test_a_stop_answers_what_still_comes_and_asks_to_close(tmp_path: Path) -> None:
    started: asyncio.Future[Bridge] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()

    async def run() -> None:
        async with bridge(tmp_path, grace_period=DEADLINE) as running:
            started.set_result(running)
            await stop.wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run())
        running = await started
        async with calling(running) as caller, calling(running) as prober:
            open_still = await caller.ask(request())
            stop.set()
            ready = await _not_ready(prober)
            reply = await caller.ask(request())
            assert await caller.hung_up_on() == b""
    assert (ready.status, json.loads(ready.body)) == (503, {"ready": False})
    assert "connection" not in open_still.headers
    assert (reply.status, reply.body, reply.headers["connection"]) == (200, ALLOW, "close")


async def _start_and_stop(folder: Path, turns: int) -> None:
    async with server.running(settings(folder)):
        for _ in range(turns):
            await asyncio.sleep(0)


# In one of these turns of the loop the connection to the broker is refused.
@pytest.mark.parametrize("turns", range(8))
async def test_a_stop_while_connecting_fails_is_a_stop(tmp_path: Path, turns: int) -> None:
    async with asyncio.timeout(DEADLINE):
        await _start_and_stop(tmp_path, turns)


@pytest.fixture
def hard_limit() -> Iterator[int]:
    """How many files a process may open at most; it may open fewer now."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1] - 1, before[1]))
    yield before[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_process_takes_all_the_files_it_may_have(
    tmp_path: Path, hard_limit: int
) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve(settings(tmp_path)))
        await until(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)[0] == hard_limit)
        os.kill(os.getpid(), signal.SIGTERM)
