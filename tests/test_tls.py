"""HTTPS on the receiver: which certificates it takes, and how it changes them."""

import asyncio
import json
import logging
import os
import shutil
import signal
import ssl
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from bridge import tls
from bridge.contract import ALLOW
from bridge.loading import BadSettings, load
from bridge.settings import Receiver
from tests.certificates import Files, written
from tests.raw import Caller, calling, chunked, get, request
from tests.running import Bridge, bridge, until

SOON = datetime(2049, 12, 31, 12, 0, tzinfo=UTC)
LATER = datetime(2051, 1, 2, 3, 4, 5, tzinfo=UTC)


async def over_tls(running: Bridge, files: Files) -> Caller:
    """Connect, trusting the authority of `files` only."""
    context = files.client()
    streams = await asyncio.open_connection(
        "127.0.0.1", running.port, ssl=context, server_hostname="localhost"
    )
    return Caller(*streams)


def shown(caller: Caller) -> str:
    """Give the serial number of the certificate that the receiver has shown."""
    return str(caller.writer.get_extra_info("peercert")["serialNumber"])


def files_of(files: Files) -> dict[str, str]:
    return {"tls_certificate": files.certificate, "tls_key": files.key}


@pytest.mark.parametrize("data", [request(), chunked(b"{}", b"")], ids=["plain", "aiohttp"])
async def test_callbacks_are_taken_over_tls(tmp_path: Path, data: bytes) -> None:
    files = written(tmp_path, trustme.CA(), "localhost")
    async with bridge(tmp_path, **files_of(files)) as running:
        caller = await over_tls(running, files)
        replies = [(await caller.ask(data)).body for _ in range(3)]
        caller.leave()
    assert replies == [ALLOW] * 3


async def test_plain_http_gets_no_answer_where_tls_is_spoken(tmp_path: Path) -> None:
    files = written(tmp_path, trustme.CA(), "localhost")
    async with bridge(tmp_path, **files_of(files)) as running, calling(running) as caller:
        caller.send(request())
        assert b"HTTP" not in await caller.hung_up_on()
        assert running.running.journal.newest == 0


async def test_go_is_not_offered_http_2(tmp_path: Path) -> None:
    files = written(tmp_path, trustme.CA(), "localhost")
    context = files.client()
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with bridge(tmp_path, **files_of(files)) as running:
        _, writer = await asyncio.open_connection(
            "127.0.0.1", running.port, ssl=context, server_hostname="localhost"
        )
        chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
        writer.transport.abort()
    assert chosen == "http/1.1"


async def test_a_new_certificate_is_shown_to_new_callers_and_disturbs_no_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ca = trustme.CA()
    files = written(tmp_path, ca, "localhost", expires=SOON)
    async with bridge(tmp_path, **files_of(files)) as running:
        before = await over_tls(running, files)
        assert (await before.ask(request())).body == ALLOW
        written(tmp_path, ca, "localhost", expires=LATER)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "settings read" in caplog.messages)
        after = await over_tls(running, files)
        assert (await before.ask(request())).body == ALLOW
        assert (await after.ask(request())).body == ALLOW
        ready = json.loads((await after.ask(get("/readyz?verbose"))).body)
        metrics = (await after.ask(get("/metrics"))).body.decode()
        serials = shown(before), shown(after)
        before.leave()
        after.leave()
    assert serials[0] != serials[1]
    assert ready["tls"]["expires"] == LATER.isoformat()
    assert ready["tls"]["days"] == pytest.approx((LATER - datetime.now(UTC)).days, abs=2)
    assert f"certificate_expiry_timestamp_seconds {LATER.timestamp():.9e}"[:50] in metrics


async def test_a_certificate_that_cannot_be_used_changes_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ca = trustme.CA()
    files = written(tmp_path, ca, "localhost")
    other = written(tmp_path, ca, "localhost", prefix="other-")
    async with bridge(tmp_path, **files_of(files)) as running:
        before = await over_tls(running, files)
        await before.ask(request())
        shutil.copy(other.key, files.key)
        os.kill(os.getpid(), signal.SIGHUP)
        await until(lambda: "settings kept as they were" in caplog.messages)
        after = await over_tls(running, files)
        assert (await after.ask(request())).body == ALLOW
        assert shown(after) == shown(before)
        before.leave()
        after.leave()
    (line,) = [each for each in caplog.records if each.message == "settings kept as they were"]
    assert "key values mismatch" in vars(line)["problems"][0]


def spoil(spoiled: Callable[[Files], object], folder: Path) -> list[str]:
    """Give what is wrong with settings whose files were spoiled."""
    files = written(folder, trustme.CA(), "localhost")
    spoiled(files)
    variables = {"BRIDGE_TLS_CERTIFICATE": files.certificate, "BRIDGE_TLS_KEY": files.key}
    with pytest.raises(BadSettings) as caught:
        load(Receiver, variables)
    return caught.value.problems


@pytest.mark.parametrize(
    ("spoiled", "says"),
    [
        (lambda files: Path(files.key).unlink(), "No such file"),
        (lambda files: Path(files.certificate).write_text("zebra"), "cannot be used"),
        (lambda files: Path(files.certificate).write_text("é"), "cannot be used"),
        (lambda files: Path(files.key).write_text(""), "cannot be used"),
    ],
)
def test_files_that_cannot_be_used_stop_the_start(
    tmp_path: Path, spoiled: Callable[[Files], object], says: str
) -> None:
    (problem,) = spoil(spoiled, tmp_path)
    assert problem.startswith("BRIDGE_TLS_CERTIFICATE or BRIDGE_TLS_KEY")
    assert says in problem
    assert "zebra" not in problem


def test_a_certificate_needs_its_key() -> None:
    with pytest.raises(BadSettings) as caught:
        load(Receiver, {"BRIDGE_TLS_CERTIFICATE": "x.pem"})
    assert caught.value.problems == [
        "BRIDGE_TLS_CERTIFICATE and BRIDGE_TLS_KEY need each other; set both or none"
    ]


@pytest.mark.parametrize("expires", [SOON, LATER])
def test_the_end_of_a_certificate_is_read(tmp_path: Path, expires: datetime) -> None:
    """The form of dates in certificates changes with the year 2050."""
    files = written(tmp_path, trustme.CA(), "localhost", expires=expires)
    assert tls.expiry(files.certificate) == expires


def test_a_certificate_that_has_ended_has_no_days_left(tmp_path: Path) -> None:
    ended = datetime.now(UTC).replace(microsecond=0) - timedelta(days=3)
    files = written(tmp_path, trustme.CA(), "localhost", expires=ended)
    certificate = tls.Certificate(files.certificate, files.key)
    assert certificate.days == pytest.approx(-3, abs=0.1)


def test_old_versions_of_tls_are_not_spoken(tmp_path: Path) -> None:
    files = written(tmp_path, trustme.CA(), "localhost")
    contexts = [
        tls.server_context(files.certificate, files.key),
        tls.client_context(files.ca, "", ""),
    ]
    assert all(context.minimum_version >= ssl.TLSVersion.TLSv1_2 for context in contexts)
    assert contexts[1].check_hostname
    assert contexts[1].verify_mode is ssl.CERT_REQUIRED
