"""The printed consumers talk to RabbitMQ alone, where the line is TLS."""

import asyncio
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from bridge.cli.subscribe import LANGUAGES, snippet
from bridge.subscriptions import Wanted
from tests.commands import started
from tests.test_snippets import TOOLS, built, language

__all__ = ["language"]

KEEP = {
    "java": (
        *("keytool", "-importcert", "-noprompt", "-file", "ca.pem"),
        *("-keystore", "trusted", "-storepass", "changeit"),
    )
}
"""Puts an authority where the language looks for it, if that is no file of its own."""

TRUSTING = {
    "python": {"SSL_CERT_FILE": "ca.pem"},
    # Node 18 tries only the first address of a name, which may be ::1.
    "node": {"NODE_EXTRA_CA_CERTS": "ca.pem", "NODE_OPTIONS": "--dns-result-order=ipv4first"},
    "go": {"SSL_CERT_FILE": "ca.pem"},
    "java": {
        "JAVA_TOOL_OPTIONS": "-Djavax.net.ssl.trustStore=trusted"
        " -Djavax.net.ssl.trustStorePassword=changeit"
    },
}
"""Has consumers trust an authority, as the documents say."""

GREETING = b"AMQP\0\0\x09\x01"

pytestmark = pytest.mark.timeout(600)


@asynccontextmanager
async def pretending(identity: trustme.LeafCert) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Listen as RabbitMQ would, by this certificate; give the port, and what clients say."""
    heard: list[bytes] = []

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(8))
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    identity.configure_cert(context)
    async with await asyncio.start_server(greet, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1], heard


def one_queue(language: str) -> str:
    """Give a consumer as it is printed."""
    wanted = Wanted(name="shop", patterns=("#",), partitions=0, length=1, size=1)
    return f"----- {LANGUAGES[language]}\n{snippet(language, wanted)}\n"


async def told(language: str, folder: Path, identity: trustme.LeafCert) -> list[bytes]:
    """Run a consumer against whoever has this certificate; give what it says there."""
    async with (
        pretending(identity) as (port, heard),
        started(
            TOOLS[language].run,
            folder=folder,
            AMQP_URL=f"amqps://a:b@localhost:{port}/%2F",
            **TRUSTING[language],
        ) as command,
    ):
        assert await command.ended() == 1
    return heard


async def test_a_printed_consumer_talks_to_whom_it_trusts_and_to_nobody_else(
    tmp_path: Path, language: str
) -> None:
    authority, stranger = trustme.CA(), trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    await built(language, tmp_path, one_queue(language))
    await asyncio.to_thread(
        subprocess.run, KEEP.get(language, ["true"]), cwd=tmp_path, check=True
    )
    assert await told(language, tmp_path, authority.issue_cert("localhost")) == [GREETING]
    assert await told(language, tmp_path, authority.issue_cert("another")) == []
    assert await told(language, tmp_path, stranger.issue_cert("localhost")) == []
