"""`openim-bridge doctor`: what it says of a set-up that is broken, by what is really there."""

import asyncio
import json
import os
import re
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pamqp.frame
import pytest
import trustme
from pamqp.commands import Connection
from private_services import free_port, install
from yarl import URL

from bridge.broker import connect
from bridge.doctor import checks, machine
from bridge.inspection import wanted
from bridge.topology import BRIDGE, RECEIVED, Exchange, Topology
from tests.brokers import Address, OwnBroker
from tests.commands import BRIDGE as PROGRAM
from tests.commands import ran
from tests.line import line_to
from tests.running import NOWHERE, bridge, eventually, settings
from tests.test_topology import put_policy
from tests.test_webhooks_yml import edited

Findings = Mapping[str, Mapping[str, str]]


async def examined(folder: Path, *words: str, **variables: str) -> tuple[int | None, Findings]:
    """Give the exit code of `doctor`, and what it found."""
    command = await ran(PROGRAM, "doctor", "--json", *words, folder=folder, **variables)
    assert command.err == ""
    lines = [json.loads(line) for line in command.out.splitlines()]
    return command.process.returncode, {line["check"]: line for line in lines}


def states(found: Findings, *names: str) -> list[str]:
    return [found[name]["state"] for name in names]


def explained(finding: Mapping[str, str]) -> bool:
    """Whether a finding says what it means and what to do."""
    return bool(finding["means"] and finding["remedy"])


async def declared(amqp_url: str, *, also: Topology = BRIDGE) -> None:
    """Have RabbitMQ have what a receiver makes."""
    async with connect(amqp_url, name="test", timeout=20) as broker:
        await broker.declare(also)


async def test_all_is_well_beside_a_receiver_that_runs(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    file = tmp_path / "webhooks.yml"
    async with bridge(tmp_path, amqp_url) as running:
        await running.connected()
        file.write_text(edited(("127.0.0.1:10006", f"127.0.0.1:{running.port}")))
        code, found = await examined(
            tmp_path,
            f"--webhooks-yml={file}",
            BRIDGE_AMQP_URL=amqp_url,
            BRIDGE_PORT=str(running.port),
            BRIDGE_MANAGEMENT_URL=broker.management_url,
        )
    assert [
        name for name, each in found.items() if each["state"] not in {"ok", "warning"}
    ] == []
    assert code == 0
    assert states(found, "journal", "login", "topology", "rights", "receiver") == ["ok"] * 5
    assert "with their bindings" in found["topology"]["found"]
    assert re.fullmatch(r"RabbitMQ \d+\.\d+\.\d+", found["RabbitMQ"]["found"])


async def test_people_get_a_table_with_what_it_means_and_what_to_do(tmp_path: Path) -> None:
    command = await ran(PROGRAM, "doctor", folder=tmp_path, BRIDGE_AMQP_URL=NOWHERE)
    assert command.process.returncode == 1
    assert "TCP           failed    nobody listens at 127.0.0.1:1:" in command.out
    assert "\n                        It means: callbacks are answered" in command.out
    assert "\n                        Do: start RabbitMQ" in command.out
    assert "login         not tried needs RabbitMQ" in command.out
    assert "nothing" not in command.out + command.err  # the password in NOWHERE


async def test_bad_settings_are_all_named(tmp_path: Path) -> None:
    code, found = await examined(tmp_path, BRIDGE_WINDOW="0", BRIDGE_PATH="hunter2")
    assert (code, list(found), states(found, "configuration")) == (
        1,
        ["configuration"],
        ["failed"],
    )
    assert {"BRIDGE_WINDOW='0'", "BRIDGE_PATH=***"} <= set(
        re.findall(r"BRIDGE_\w+=\S+", found["configuration"]["found"])
    )


@pytest.mark.broker
async def test_a_wrong_password_is_named(amqp_url: str, tmp_path: Path) -> None:
    url = str(URL(amqp_url).with_password("hunter2"))
    code, found = await examined(tmp_path, BRIDGE_AMQP_URL=url)
    assert (code, *states(found, "RabbitMQ", "login", "virtual host")) == (
        *(1, "ok", "failed", "not tried"),
    )
    assert "or the password" in found["login"]["found"]
    assert "BRIDGE_AMQP_URL" in found["login"]["remedy"]
    assert explained(found["login"])
    assert "hunter2" not in str(found)


@pytest.mark.broker
async def test_a_wrong_virtual_host_is_named(amqp_url: str, tmp_path: Path) -> None:
    code, found = await examined(tmp_path, BRIDGE_AMQP_URL=amqp_url + "x")
    name = URL(amqp_url).path[1:] + "x"
    assert (code, *states(found, "login", "virtual host", "topology")) == (
        *(1, "ok", "failed", "not tried"),
    )
    assert found["virtual host"]["found"] == f"there is no virtual host '{name}'"
    assert f"rabbitmqctl add_vhost {name}" in found["virtual host"]["remedy"]
    assert explained(found["virtual host"])


async def test_a_wrong_port_is_named(tmp_path: Path) -> None:
    url = f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    code, found = await examined(tmp_path, BRIDGE_AMQP_URL=url)
    assert (code, *states(found, "DNS", "TCP", "TLS")) == (1, "ok", "failed", "not tried")
    assert found["TCP"]["found"].startswith("nobody listens at 127.0.0.1:")
    assert "5672" in found["TCP"]["remedy"]


async def test_a_port_of_something_else_is_named(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        url = f"amqp://guest:guest@127.0.0.1:{running.port}/"
        code, found = await examined(tmp_path, BRIDGE_AMQP_URL=url)
    assert (code, *states(found, "TCP", "RabbitMQ", "login")) == (
        *(1, "ok", "failed", "not tried"),
    )
    assert "is no AMQP" in found["RabbitMQ"]["found"]
    assert "correct the port" in found["RabbitMQ"]["remedy"]


async def test_a_host_that_nobody_knows_is_named(tmp_path: Path) -> None:
    code, found = await examined(tmp_path, BRIDGE_AMQP_URL="amqp://a:b@rabbit.invalid/")
    assert (code, *states(found, "DNS", "TCP", "login")) == (
        *(1, "failed", "not tried", "not tried"),
    )
    assert found["DNS"]["found"].startswith("no address is known of rabbit.invalid")
    assert explained(found["DNS"])


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """A certificate authority, whose own certificate is in the file ca.pem."""
    made = trustme.CA()
    made.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    return made


def server_context(authority: trustme.CA, name: str, lasts: timedelta) -> ssl.SSLContext:
    """Give what a server shows a certificate by."""
    now = datetime.now(UTC)
    certificate = authority.issue_cert(
        name, not_before=now - timedelta(days=60), not_after=now + lasts
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


@pytest.mark.parametrize(
    ("name", "days", "state", "says"),
    [
        ("127.0.0.1", -1, "failed", "has expired"),
        ("rabbit.example", 60, "failed", "is for another host"),
        ("127.0.0.1", 10, "warning", "ends in 9 days"),
        ("127.0.0.1", 60, "ok", "for 59 days more"),
    ],
)
@pytest.mark.broker
async def test_a_certificate_is_judged(  # noqa: PLR0913, PLR0917  # the cases
    amqp_url: str,
    tmp_path: Path,
    authority: trustme.CA,
    name: str,
    days: int,
    state: str,
    says: str,
) -> None:
    tls = server_context(authority, name, timedelta(days=days))
    async with line_to(amqp_url, tls) as line:
        url = f"{line.url}?cafile={tmp_path / 'ca.pem'}"
        _, found = await examined(tmp_path, BRIDGE_AMQP_URL=url)
    assert found["TLS"]["state"] == state
    assert says in found["TLS"]["found"]
    assert found["login"]["state"] == ("not tried" if state == "failed" else "ok")


async def test_a_certificate_of_a_ca_that_nobody_named_is_not_trusted(
    tmp_path: Path, authority: trustme.CA
) -> None:
    tls = server_context(authority, "127.0.0.1", timedelta(days=60))
    async with line_to(NOWHERE, tls) as line:
        code, found = await examined(tmp_path, BRIDGE_AMQP_URL=line.url)
    assert (code, *states(found, "TLS")) == (1, "failed")
    assert "is not trusted" in found["TLS"]["found"]
    assert "BRIDGE_AMQP_CA" in found["TLS"]["remedy"]


async def test_a_missing_topology_is_named(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    code, found = await examined(
        tmp_path, BRIDGE_AMQP_URL=amqp_url, BRIDGE_MANAGEMENT_URL=broker.management_url
    )
    assert (code, *states(found, "virtual host", "topology", "rights")) == (
        *(1, "ok", "failed", "not tried"),
    )
    assert "exchange openim.received is missing" in found["topology"]["found"]
    assert "topology apply" in found["topology"]["remedy"]


@pytest.mark.broker
async def test_what_is_missing_is_found_without_the_management_api(
    amqp_url: str, tmp_path: Path
) -> None:
    async with connect(amqp_url, name="test", timeout=20) as there:
        await there.declare(Topology(exchanges=BRIDGE.exchanges[:2]))
    _, found = await examined(
        tmp_path,
        BRIDGE_AMQP_URL=amqp_url,
        BRIDGE_MANAGEMENT_URL=f"http://127.0.0.1:{free_port()}",
    )
    assert found["topology"]["state"] == "failed"
    assert found["topology"]["found"].startswith("exchange openim.received is missing")
    assert found["both clocks"]["state"] == "not tried"


async def test_what_is_there_otherwise_is_named(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    other = Exchange(name=RECEIVED, kind="direct")
    await declared(amqp_url, also=Topology(exchanges=(other,)))
    _, found = await examined(
        tmp_path, BRIDGE_AMQP_URL=amqp_url, BRIDGE_MANAGEMENT_URL=broker.management_url
    )
    assert "exchange openim.received has type=direct, wanted type=topic" in str(found)


async def test_a_policy_that_loses_messages_is_named(
    broker: Address, amqp_url: str, tmp_path: Path
) -> None:
    await declared(amqp_url)
    await put_policy(broker, amqp_url, "unrouted", {"max-length": 1})

    async def look() -> Findings:
        urls = {
            "BRIDGE_AMQP_URL": amqp_url,
            "BRIDGE_MANAGEMENT_URL": broker.management_url,
        }
        return (await examined(tmp_path, **urls))[1]

    found = await eventually(look, lambda found: "a policy has" in found["topology"]["found"])
    assert found["topology"]["found"].startswith(
        "queue openim.unrouted a policy has max-length=1"
    )
    assert "drops callbacks" in found["topology"]["means"]
    assert "list_policies" in found["topology"]["remedy"]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[Path]:
    """Give a disk with these options of tmpfs."""
    folder.mkdir()
    made = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(made, check=False, capture_output=True).returncode:  # noqa: S603
        pytest.skip("mounts a disk: run it as root")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)  # noqa: S603, S607


async def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=1m") as disk:
        code, found = await examined(tmp_path, BRIDGE_JOURNAL_PATH=str(disk / "journal"))
    assert (code, *states(found, "disk space", "disk speed")) == (1, "failed", "not tried")
    assert "is full: 1.0 MiB are free" in found["disk space"]["found"]
    assert found["disk space"]["means"].startswith("once the segment that is being written is")
    assert explained(found["disk space"])


async def test_a_disk_without_room_for_files_is_named(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=64m,nr_inodes=4") as disk:
        code, found = await examined(tmp_path, BRIDGE_JOURNAL_PATH=str(disk / "journal"))
    assert (code, *states(found, "disk space", "disk speed")) == (1, "failed", "not tried")
    assert "has room for 3 more files only" in found["disk space"]["found"]
    assert "remove files" in found["disk space"]["remedy"]


def test_only_a_disk_that_counts_its_files_can_lack_room_for_them() -> None:
    counts = [(0, 0), (100, 15), (100, 16)]
    disks = [
        os.statvfs_result((4096, 4096, 1, 1, 1, files, free, free, 0, 255))
        for files, free in counts
    ]
    assert [machine.lacks_files(disk) for disk in disks] == [False, True, False]


@asynccontextmanager
async def slow_syncs(milliseconds: int) -> AsyncIterator[tuple[str, ...]]:
    """Give what runs a program on a disk whose syncs take so long."""
    if os.geteuid() != 0:
        pytest.skip("delays system calls of a process: run it as root")
    if shutil.which("strace") is None:
        await asyncio.to_thread(install, "strace")
    delay = f"inject=fdatasync:delay_exit={1000 * milliseconds}"
    yield ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync", "-e", delay)


@pytest.mark.parametrize(
    ("milliseconds", "state", "says"),
    [(50, "warning", r"at most (40|[123]?\d) callbacks"), (1200, "failed", "are refused")],
)
async def test_a_slow_disk_is_named(
    tmp_path: Path, milliseconds: int, state: str, says: str
) -> None:
    async with slow_syncs(milliseconds) as slowly:
        command = await ran(
            *((*slowly, *PROGRAM), "doctor", "--json"),
            folder=tmp_path,
            BRIDGE_REPLY_TIMEOUT="1",
        )
    lines = map(json.loads, command.out.splitlines())
    (found,) = (line for line in lines if line["check"] == "disk speed")
    assert found["state"] == state
    assert re.search(says, found["means"])
    assert "SSD" in found["remedy"]


def webhooks(folder: Path, *edits: tuple[str, str]) -> str:
    """Write OpenIM's file; give the option that names it."""
    (folder / "webhooks.yml").write_text(edited(*edits))
    return f"--webhooks-yml={folder / 'webhooks.yml'}"


async def test_a_url_of_openim_with_another_path_is_named(tmp_path: Path) -> None:
    option = webhooks(tmp_path, ("callbackExample", "elsewhere"))
    code, found = await examined(tmp_path, option)
    assert (code, *states(found, "webhooks.yml")) == (1, "failed")
    assert "line 1: url has another path" in found["webhooks.yml"]["found"]
    assert explained(found["webhooks.yml"])


async def test_a_url_of_openim_that_leads_elsewhere_is_named(tmp_path: Path) -> None:
    port = free_port()
    option = webhooks(tmp_path, (":10006/", f":{port}/"))
    code, found = await examined(tmp_path, option)
    assert (code, *states(found, "webhooks.yml")) == (1, "failed")
    assert f"leads to 127.0.0.1:{port}" in found["webhooks.yml"]["found"]


@asynccontextmanager
async def greeting(version: str) -> AsyncIterator[str]:
    """Give the URL of a server that says it is a RabbitMQ of this version, and no more."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        start = Connection.Start(server_properties={"product": "RabbitMQ", "version": version})
        writer.write(pamqp.frame.marshal(start, 0))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        yield f"amqp://guest:guest@127.0.0.1:{server.sockets[0].getsockname()[1]}/"


async def test_a_rabbitmq_that_is_too_old_is_named(tmp_path: Path) -> None:
    async with greeting("3.9.29") as url:
        code, found = await examined(tmp_path, BRIDGE_AMQP_URL=url)
    assert (code, *states(found, "RabbitMQ", "login")) == (1, "failed", "not tried")
    assert found["RabbitMQ"]["found"] == "RabbitMQ 3.9.29 is too old"
    assert "3.10" in found["RabbitMQ"]["remedy"]


async def test_a_rabbitmq_that_falls_silent_is_named(amqp_url: str, tmp_path: Path) -> None:
    async with line_to(amqp_url) as line:
        line.silence()
        _, found = await examined(
            tmp_path, BRIDGE_AMQP_URL=line.url, BRIDGE_CONNECT_TIMEOUT="0.5"
        )
    assert states(found, "TCP", "RabbitMQ") == ["ok", "failed"]
    assert "does not answer within 0.5 s" in found["RabbitMQ"]["found"]


async def test_a_rabbitmq_that_takes_no_messages_is_named(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    await declared(own_broker.amqp_url)
    await own_broker.control("set_vm_memory_high_watermark", "0.000001")

    async def look() -> Findings:
        return (await examined(tmp_path, BRIDGE_AMQP_URL=own_broker.amqp_url))[1]

    try:
        found = await eventually(look, lambda found: found["alarms"]["state"] == "failed")
    finally:
        await own_broker.control("set_vm_memory_high_watermark", "0.6")
    assert "low on memory" in found["alarms"]["found"]
    assert found["rights"]["state"] == "not tried"


async def test_a_user_without_the_right_to_publish_is_named(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    url = URL(own_broker.amqp_url)
    await declared(own_broker.amqp_url, also=wanted(settings(tmp_path)))
    await own_broker.control("add_user", "reader", "reads")
    await own_broker.control("set_permissions", "-p", url.path[1:], "reader", "", "", ".*")
    try:
        reader = str(url.with_user("reader").with_password("reads"))
        code, found = await examined(tmp_path, BRIDGE_AMQP_URL=reader)
    finally:
        await own_broker.control("delete_user", "reader")
    assert (code, *states(found, "topology", "rights")) == (1, "ok", "failed")
    assert "'openim.received'" in found["rights"]["found"]
    assert "were not seen" in found["topology"]["found"]


async def test_a_user_who_may_not_enter_is_told_from_a_host_that_is_missing(
    own_broker: OwnBroker, tmp_path: Path
) -> None:
    await own_broker.control("add_user", "stranger", "knocks")
    try:
        url = URL(own_broker.amqp_url).with_user("stranger").with_password("knocks")
        _, found = await examined(tmp_path, BRIDGE_AMQP_URL=str(url))
    finally:
        await own_broker.control("delete_user", "stranger")
    assert "is not let into" in found["virtual host"]["found"]


COMMAND = "callbackAfterUserOnlineCommand"


async def stored(folder: Path, count: int) -> Path:
    """Have a receiver store callbacks; give the segment that they are in."""
    async with bridge(folder) as running:
        await running.openim.post_all([(COMMAND, b"{}")] * count, lambda _: None)
    (segment,) = (folder / "journal" / "0").glob("0*")
    return segment


async def test_a_damaged_journal_is_named(tmp_path: Path) -> None:
    segment = await stored(tmp_path, 2)
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    code, found = await examined(tmp_path)
    assert (code, *states(found, "journal")) == (1, "failed")
    assert f"{segment.name} and 0 other places are damaged" in found["journal"]["found"]
    assert explained(found["journal"])
    assert segment.read_bytes() == data


async def test_a_journal_that_cannot_be_read_is_not_to_be_moved(tmp_path: Path) -> None:
    (tmp_path / "journal" / "0" / f"{1:020}").mkdir(parents=True)
    code, found = await examined(tmp_path)
    assert (code, *states(found, "journal")) == (1, "failed")
    assert "cannot be read" in found["journal"]["found"]
    assert "10001" in found["journal"]["remedy"]
    assert "move" not in found["journal"]["remedy"]


async def test_a_receiver_without_rabbitmq_keeps_callbacks_while_there_is_room(
    tmp_path: Path,
) -> None:
    async with bridge(tmp_path) as running:
        _, found = await examined(tmp_path, BRIDGE_PORT=str(running.port))
    assert states(found, "receiver") == ["warning"]
    assert "as long as there is room, 0 by now" in found["receiver"]["means"]


async def test_a_write_that_was_cut_off_is_no_damage(tmp_path: Path) -> None:
    segment = await stored(tmp_path, 2)
    data = bytearray(segment.read_bytes().rstrip(b"\0"))
    data[-1] ^= 1
    segment.write_bytes(data)
    _, found = await examined(tmp_path)
    assert states(found, "journal") == ["ok"]
    assert found["journal"]["found"] == "sound, 1 callbacks wait in it"


async def test_a_message_that_was_set_aside_is_named(tmp_path: Path) -> None:
    kept = tmp_path / "journal" / "0" / "set-aside"
    kept.mkdir(parents=True)
    (kept / f"{7:020}").write_bytes(b"payload")
    _, found = await examined(tmp_path)
    assert states(found, "journal") == ["warning"]
    assert "1 files were set aside" in found["journal"]["found"]


async def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code, found = await examined(tmp_path, BRIDGE_JOURNAL_PATH=str(tmp_path / "file" / "x"))
    assert (code, states(found, "disk speed")) == (1, ["failed"])
    assert f"{tmp_path / 'file'} cannot be written to" in found["disk speed"]["found"]


async def test_what_cannot_be_read_does_not_end_the_looking(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    async def denied() -> str:
        return await asyncio.to_thread((tmp_path / "file" / "x").read_text)

    async def fine() -> str:
        return "fine"

    wanted = [checks.Check(name="disk", look=denied), checks.Check(name="RabbitMQ", look=fine)]
    found = [each async for each in checks.examined(wanted)]
    assert [(each.check, each.state) for each in found] == [
        ("disk", "failed"),
        ("RabbitMQ", "ok"),
    ]
    assert "Not a directory" in found[0].found
