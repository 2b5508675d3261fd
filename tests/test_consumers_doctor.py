"""`openim-consumers doctor`: what it says of workers that could not work."""

import json
import os
import sqlite3
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from yarl import URL

from bridge.broker import connect
from bridge.topology import work_queue
from consumers import needs
from consumers.modules import load
from consumers.settings import Worker
from tests.brokers import OwnBroker
from tests.commands import CONSUMERS, ran
from tests.running import NOWHERE
from tests.test_doctor import Findings, explained, states

MODULE = "consumers.handlers.friend_verification"
NO_EVENT = """
from consumers.registry import Handlers

handlers = Handlers("app")

@handlers.on(dict)
async def handle(event): ...
"""
QUEUE = work_queue("friend_verification")


async def examined(folder: Path, **variables: str) -> tuple[int | None, Findings]:
    """Give the exit code of `doctor`, and what it found; RabbitMQ is away unless given."""
    given = {"CONSUMERS_AMQP_URL": NOWHERE} | variables
    command = await ran(CONSUMERS, "doctor", "--json", folder=folder, **given)
    assert command.err == ""
    lines = [json.loads(line) for line in command.out.splitlines()]
    return command.process.returncode, {line["check"]: line for line in lines}


async def declared(amqp_url: str) -> None:
    """Have RabbitMQ have what a worker makes."""
    wanted = needs.all_of(load([MODULE]).handlers, Worker())
    async with connect(amqp_url, name="test", timeout=20) as there:
        await there.declare(wanted)


def failed(found: Mapping[str, Mapping[str, str]]) -> list[str]:
    return [name for name, each in found.items() if each["state"] == "failed"]


async def test_all_is_well_where_a_worker_could_start(
    amqp_url: str, database_url: str, tmp_path: Path
) -> None:
    await declared(amqp_url)
    code, found = await examined(
        tmp_path, CONSUMERS_AMQP_URL=amqp_url, CONSUMERS_DATABASE_URL=database_url
    )
    assert (failed(found), code) == ([], 0)
    assert found["handlers"]["found"] == "friend_verification: 7 events"
    assert QUEUE in found["rights"]["found"]
    assert not os.listdir(tmp_path)  # noqa: PTH208  # a path would be read in a thread


async def test_a_wrong_password_is_named_by_the_setting_of_workers(
    amqp_url: str, tmp_path: Path
) -> None:
    url = str(URL(amqp_url).with_password("hunter2"))
    code, found = await examined(tmp_path, CONSUMERS_AMQP_URL=url)
    assert (code, *states(found, "RabbitMQ", "login", "rights")) == (
        *(1, "ok", "failed", "not tried"),
    )
    assert "CONSUMERS_AMQP_URL" in found["login"]["remedy"]
    assert "hunter2" not in str(found)


async def test_a_queue_that_the_user_may_not_read_is_named(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    url = URL(own_broker.amqp_url)
    await declared(own_broker.amqp_url)
    await own_broker.control("add_user", "writer", "writes")
    await own_broker.control(
        "set_permissions", "-p", url.path[1:], "writer", "", ".*", "^openim.work.other"
    )
    try:
        writer = str(url.with_user("writer").with_password("writes"))
        code, found = await examined(tmp_path, CONSUMERS_AMQP_URL=writer)
    finally:
        await own_broker.control("delete_user", "writer")
    assert (code, failed(found)) == (1, ["rights"])
    assert f"queue '{QUEUE}'" in found["rights"]["found"]
    assert explained(found["rights"])


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("", "the handler module app has no Handlers or Decisions in it"),
        ("import nosuch", "cannot be imported: No module named 'nosuch'"),
        ("from bridge.contract import AfterNothing", "cannot import name 'AfterNothing'"),
        ("1 / 0", "cannot be imported: ZeroDivisionError: division by zero"),
        (NO_EVENT, "<class 'dict'> is no event"),
    ],
)
async def test_handlers_that_cannot_be_loaded_are_named(
    tmp_path: Path, code: str, says: str
) -> None:
    (tmp_path / "app.py").write_text(code)
    ended, found = await examined(tmp_path, CONSUMERS_HANDLERS="app")
    assert (ended, *states(found, "handlers")) == (1, "failed")
    assert says in found["handlers"]["found"]
    assert explained(found["handlers"])


async def test_a_database_that_nobody_made_is_named(postgres_url: str, tmp_path: Path) -> None:
    nosuch = postgres_url.rpartition("/")[0] + "/nosuch"
    code, found = await examined(tmp_path, CONSUMERS_DATABASE_URL=nosuch)
    assert (code, *states(found, "database", "tables", "writing")) == (
        *(1, "failed", "not tried", "not tried"),
    )
    assert 'database "nosuch" does not exist' in found["database"]["found"]
    assert explained(found["database"])


async def test_a_folder_that_is_missing_is_named(tmp_path: Path) -> None:
    _, found = await examined(tmp_path, CONSUMERS_DATABASE_URL="sqlite:///nowhere/my.db")
    assert states(found, "database", "tables") == ["failed", "not tried"]
    assert f"there is no folder {tmp_path}/nowhere" in found["database"]["found"]


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "openim-consumers.db").write_bytes(b"no database" * 100)
    _, found = await examined(tmp_path)
    assert "file is not a database" in found["database"]["found"]


async def test_tables_of_another_version_are_named(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "openim-consumers.db") as made:
        made.execute("CREATE TABLE inbox (message_id TEXT)")
    made.close()
    _, found = await examined(tmp_path)
    assert states(found, "database", "tables", "writing") == ["ok", "failed", "not tried"]
    assert "column handler of table inbox" in found["tables"]["found"]
    assert explained(found["tables"])


@pytest.mark.database
async def test_a_user_of_the_database_who_may_not_write_is_named(
    postgres_url: str, tmp_path: Path
) -> None:
    engine = create_async_engine(postgres_url.replace("postgresql:", "postgresql+asyncpg:"))
    async with engine.begin() as transaction:
        await transaction.execute(text("CREATE USER reads PASSWORD 'reads'"))
    try:
        url = str(URL(postgres_url).with_user("reads").with_password("reads"))
        _, found = await examined(tmp_path, CONSUMERS_DATABASE_URL=url)
    finally:
        async with engine.begin() as transaction:
            await transaction.execute(text("DROP USER reads"))
        await engine.dispose()
    assert states(found, "database", "tables", "writing") == ["ok", "ok", "failed"]
    assert found["writing"]["found"] == "the user lacks CREATE on the schema public"
