"""TLS to RabbitMQ: verified, with host name, and with a certificate of our own if asked for."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme
from yarl import URL

from bridge.broker import BrokerUnreachable, connect
from bridge.loading import BadSettings, load
from bridge.management import NoManagement, management
from bridge.settings import Receiver
from bridge.tls import server_context
from consumers.settings import Worker
from tests import raw
from tests.brokers import OwnBroker, RabbitMQ
from tests.certificates import Files, mutual_listener, written
from tests.commands import BRIDGE, CONSUMERS, ran, started
from tests.line import Line
from tests.running import bridge


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """Whom RabbitMQ and we trust."""
    return trustme.CA()


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    """A certificate of our own."""
    return written(tmp_path, authority, "receiver")


@pytest.fixture(scope="module")
def tls_port(spare_broker: RabbitMQ, authority: trustme.CA) -> Iterator[int]:
    """Where RabbitMQ speaks TLS, as `localhost`, with those who have a certificate."""
    with mutual_listener(spare_broker, authority, authority.issue_cert("localhost")) as port:
        yield port


@pytest.fixture
def url(own_broker: OwnBroker, tls_port: int) -> URL:
    return (
        URL(own_broker.amqp_url).with_scheme("amqps").with_host("localhost").with_port(tls_port)
    )


def settings_of(url: URL, files: Files, prefix: str = "BRIDGE") -> dict[str, str]:
    return {
        f"{prefix}_AMQP_URL": str(url),
        f"{prefix}_AMQP_CA": files.ca,
        f"{prefix}_AMQP_CERTIFICATE": files.certificate,
        f"{prefix}_AMQP_KEY": files.key,
    }


async def test_callbacks_go_the_whole_way_over_tls(
    tmp_path: Path, url: URL, files: Files
) -> None:
    async with (
        bridge(
            tmp_path,
            str(url),
            amqp_ca=files.ca,
            amqp_certificate=files.certificate,
            amqp_key=files.key,
        ) as running,
        started(
            CONSUMERS,
            "work",
            folder=tmp_path,
            **settings_of(url, files, "CONSUMERS"),
        ) as worker,
    ):
        await running.connected()
        await worker.says('"message":"working"')
        await raw.ask(running, raw.posted("callbackAfterAddFriendAgreeCommand"))
        await running.drained()
    assert "broker unavailable" not in worker.err


async def test_commands_go_by_the_same_files(tmp_path: Path, url: URL, files: Files) -> None:
    ours = settings_of(url, files) | settings_of(url, files, "CONSUMERS")
    for program, *words in (
        (BRIDGE, "topology", "apply", "--yes"),
        (BRIDGE, "topology", "verify"),
        (BRIDGE, "topology", "plan"),
        (CONSUMERS, "topology", "plan"),
        (CONSUMERS, "topology", "apply", "--yes"),
        (BRIDGE, "replay", "--to", "openim.work.friend_verification", "--dry-run"),
    ):
        command = await ran(program, *words, folder=tmp_path, **ours)
        assert "is not trusted" not in command.err
        assert command.process.returncode in {0, 5}
    command = await ran(BRIDGE, "why", "nobody", folder=tmp_path, **ours)
    assert "nobody was never received" in command.err


async def why_not(url: URL, files: Files, **changed: str) -> str:
    """Say why there is no connection."""
    variables = settings_of(url, files) | {f"BRIDGE_{k.upper()}": v for k, v in changed.items()}
    settings = load(Receiver, variables)
    with pytest.raises(BrokerUnreachable) as caught:
        async with connect(settings.broker_url, name="test", timeout=10):
            pass
    return str(caught.value)


async def test_a_stranger_s_certificate_is_not_trusted(
    tmp_path: Path, url: URL, files: Files
) -> None:
    other = written(tmp_path, trustme.CA(), "x", prefix="other-")
    why = await why_not(url, files, amqp_ca=other.ca)
    assert "is not trusted: self-signed certificate in certificate chain" in why


async def test_without_an_authority_those_of_the_system_count(url: URL, files: Files) -> None:
    assert "is not trusted" in await why_not(url, files, amqp_ca="")


async def test_a_certificate_for_another_host_is_not_trusted(url: URL, files: Files) -> None:
    why = await why_not(url.with_host("127.0.0.1"), files)
    assert "is not trusted: " in why
    assert "127.0.0.1" in why.partition("is not trusted")[2]


async def test_rabbitmq_may_ask_for_a_certificate_of_ours(url: URL, files: Files) -> None:
    why = await why_not(url, files, amqp_certificate="", amqp_key="")
    assert "is not trusted" not in why


@pytest.mark.parametrize("kind", [Receiver, Worker])
def test_files_need_a_url_with_tls(kind: type[Receiver | Worker], tmp_path: Path) -> None:
    prefix = kind.table.upper()
    files = written(tmp_path, trustme.CA(), "x")
    with pytest.raises(BadSettings) as caught:
        load(kind, {f"{prefix}_AMQP_CA": files.ca})
    assert caught.value.problems == [
        f"{prefix}_AMQP_URL must begin with amqps:, or what {prefix}_AMQP_CA says has no effect"
    ]


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    variables = {"BRIDGE_AMQP_URL": "amqps://h/", "BRIDGE_AMQP_CA": str(tmp_path / "none")}
    with pytest.raises(BadSettings) as caught:
        load(Receiver, variables)
    assert "BRIDGE_AMQP_CA, BRIDGE_AMQP_CERTIFICATE or" in caught.value.problems[0]
    assert "No such file" in caught.value.problems[0]


@asynccontextmanager
async def https(target: URL, files: Files) -> AsyncIterator[URL]:
    """Speak TLS in front of RabbitMQ's own management API."""
    line = Line(target)
    tls = server_context(files.certificate, files.key)
    server = await asyncio.start_server(line.serve, "127.0.0.1", 0, ssl=tls)
    port = server.sockets[0].getsockname()[1]
    try:
        yield URL.build(scheme="https", host="localhost", port=port)
    finally:
        line.cut()
        server.close()


async def asked(management_url: URL, amqp: Receiver) -> int:
    """Ask the management API how many queues there are."""
    async with management(str(management_url), amqp.broker_url, 10) as api:
        return len(await api.queues())


async def test_the_management_api_is_verified_too(
    tmp_path: Path, authority: trustme.CA, own_broker: OwnBroker, spare_broker: RabbitMQ
) -> None:
    files = written(tmp_path, authority, "localhost")
    amqps = str(URL(own_broker.amqp_url).with_scheme("amqps"))
    async with https(URL(spare_broker.management_url), files) as url:
        assert await asked(url, Receiver(amqp_url=amqps, amqp_ca=files.ca)) == 0
        with pytest.raises(NoManagement, match="certificate verify failed"):
            await asked(url, Receiver(amqp_url=amqps))
        with pytest.raises(NoManagement, match=r"127\.0\.0\.1"):
            await asked(url.with_host("127.0.0.1"), Receiver(amqp_url=amqps, amqp_ca=files.ca))
