"""A consumer in another language, written from the documents alone."""

import asyncio
import json
import shutil
from pathlib import Path

import orjson
import pytest

from bridge import openim
from bridge.contract import EVENTS
from tests.brokers import Address
from tests.commands import SOURCE, started
from tests.running import bridge, until
from tests.test_snippets import BUILDING, TOOLS, language, subscribed

__all__ = ["language"]

PROGRAM = SOURCE / "tests" / "consumer_from_documents.js"


async def fetched(folder: Path) -> None:
    """Put the program and the libraries that it needs into `folder`."""
    shutil.copy(PROGRAM, folder)
    process = await asyncio.create_subprocess_exec(
        *TOOLS["node"].build,
        "ajv@8",
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), BUILDING)
    assert process.returncode == 0, said.decode()


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("language")
@pytest.mark.parametrize("language", ["node"], indirect=True)
async def test_the_documents_are_enough_to_read_every_callback(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    team = await subscribed(broker, amqp_url, tmp_path)
    await fetched(tmp_path)
    document = SOURCE / "docs" / "asyncapi.json"
    async with bridge(tmp_path, amqp_url) as running:
        for command in openim.commands():
            await running.openim.post(*openim.sample(command))
        async with started(
            ("node", PROGRAM.name),
            *(str(document), team.queue),
            folder=tmp_path,
            AMQP_URL=team.url,
        ) as consumer:
            await until(lambda: consumer.out.count("\n") >= 52 or bool(consumer.err))
    assert consumer.err == ""
    read = [json.loads(line) for line in consumer.out.splitlines()]
    assert {each["message"]: each["type"] for each in read} == {
        event.__name__: event.command for event in EVENTS
    }
    samples = {event.command: orjson.loads(openim.sample(event.command)[1]) for event in EVENTS}
    assert {each["type"]: each["body"] for each in read} == samples
