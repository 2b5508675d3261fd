"""What every test may ask for: brokers and databases, all of them real."""

import contextlib
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings
from private_services import CannotStart
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine

from consumers import database
from consumers.database import Database
from tests.brokers import (
    Address,
    OwnBroker,
    RabbitMQ,
    new_virtual_host,
    postgres,
    rabbitmq,
    remove_virtual_host,
    started,
    virtual_host,
)

_SHARED = pytest.StashKey[dict[str, object]]()


class _Worker(Protocol):
    """What pytest-xdist, which has no types, tells of a worker."""

    config: pytest.Config
    workerinput: dict[str, object]


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers, which tests get by what they ask for; time no property."""
    # A busy machine is slow; and in a fresh checkout Hypothesis first reads all sources.
    settings.register_profile(
        "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow]
    )
    settings.load_profile("patient")
    config.addinivalue_line("markers", "broker: uses a real RabbitMQ")
    config.addinivalue_line("markers", "database: uses a real PostgreSQL")
    config.addinivalue_line("markers", "browser: uses a real Chromium")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses a broker."""
    for item in items:
        if {"broker", "spare_broker"} & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.broker)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """With NO_SKIPS, as in CI, take a test that was skipped for one that failed."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("NO_SKIPS") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: _Worker) -> None:
    """Start one broker and one PostgreSQL for all workers of pytest-xdist."""
    shared = node.config.stash.get(_SHARED, None)
    if shared is None:
        node.config.stash[_SHARED] = shared = {}
        running = ExitStack()
        node.config.add_cleanup(running.close)
        # A worker that is given none tries by itself, and says what is missing.
        with contextlib.suppress(CannotStart):
            server = running.enter_context(rabbitmq())
            shared["broker"] = [
                server.amqp_url,
                server.management_url,
                server.metrics_url,
            ]
            shared["postgres"] = running.enter_context(postgres())
    node.workerinput.update(shared)


@pytest.fixture(scope="session")
def broker(request: pytest.FixtureRequest) -> Iterator[Address]:
    """The RabbitMQ that all tests share."""
    given: dict[str, list[str]] = getattr(request.config, "workerinput", {})
    if "broker" in given:
        yield Address(*given["broker"])
        return
    with started(rabbitmq()) as server:
        yield Address(server.amqp_url, server.management_url, server.metrics_url)


@pytest.fixture
async def amqp_url(broker: Address) -> AsyncIterator[str]:
    """An empty virtual host on the shared broker, gone afterwards."""
    async with virtual_host(broker) as url:
        yield url


@pytest.fixture(scope="session")
def spare_broker() -> Iterator[RabbitMQ]:
    """The RabbitMQ that only one test at a time uses, through `own_broker`."""
    with started(rabbitmq()) as server:
        yield server


@pytest.fixture
async def own_broker(spare_broker: RabbitMQ) -> AsyncIterator[OwnBroker]:
    """A broker to stop, start, kill, pause and resume."""
    name = await new_virtual_host(spare_broker)
    own = OwnBroker(spare_broker, spare_broker.amqp_url + name)
    try:
        yield own
    finally:
        await own.restore()
        # RabbitMQ 3.10 loses all that moves its dead letters if queues go while their
        # leaders are elected, as they are after a start.
        if not own.restarted:
            await remove_virtual_host(spare_broker, name)


@pytest.fixture(scope="session")
def postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The PostgreSQL that all tests share, as its superuser."""
    given: dict[str, str] = getattr(request.config, "workerinput", {})
    if "postgres" in given:
        yield given["postgres"]
        return
    with started(postgres()) as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.database)])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """An empty database of each kind, gone afterwards."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'consumers.db'}"
        return
    server: str = request.getfixturevalue("postgres_url")
    name = f"test_{uuid.uuid4().hex}"
    administer = create_async_engine(
        server.replace("postgresql:", "postgresql+asyncpg:"), isolation_level="AUTOCOMMIT"
    )
    async with contextlib.AsyncExitStack() as afterwards:
        afterwards.push_async_callback(administer.dispose)
        connection = await afterwards.enter_async_context(administer.connect())
        await connection.execute(text(f"CREATE DATABASE {name}"))
        yield server.rpartition("/")[0] + f"/{name}"
        await connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def opened(database_url: str) -> AsyncIterator[Database]:
    """A database of each kind, open and with its tables."""
    async with database.opened(database_url) as opened:
        await opened.create_tables()
        yield opened
