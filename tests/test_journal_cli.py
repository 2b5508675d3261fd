"""`openim-bridge journal`: what is on disk, beside a receiver and after damage."""

import asyncio
import errno
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from bridge.cli.main import main
from bridge.message import Message
from bridge.openim import Process
from bridge.topology import CALLBACKS, REFUSED
from tests.commands import BRIDGE, Command, ran
from tests.running import NOWHERE, bridge, everything
from tests.test_forwarder import poisonous
from tests.test_grammar import logging_as_before
from tests.test_worker import channel_to

__all__ = ["logging_as_before"]

COMMAND = "callbackAfterUserOnlineCommand"

CALLBACK = Message(id="m-2", routing_key="x", command=COMMAND, received_ms=1, body=b"{}")


async def send(process: Process, count: int) -> None:
    bodies = [f'{{"userID":"secret-{number}"}}'.encode() for number in range(count)]
    await process.post_all([(COMMAND, body) for body in bodies], lambda _: None)


async def journal(folder: Path, *words: str, **variables: str) -> Command:
    return await ran(BRIDGE, "journal", *words, folder=folder, **variables)


def objects(command: Command) -> list[dict[str, object]]:
    return [json.loads(line) for line in command.out.splitlines()]


def damage(segment: Path) -> bytes:
    """Change a byte of the first record, in the segment and in a copy that was kept of it."""
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    segment.with_suffix(".damaged").write_bytes(data)
    return bytes(data)


@pytest.fixture
async def segment(tmp_path: Path) -> Path:
    """A segment with three callbacks that a receiver left."""
    async with bridge(tmp_path) as running:
        await send(running.openim, 3)
    (left,) = (tmp_path / "journal" / "0").glob("0*")
    return left


async def test_a_journal_is_read_while_a_receiver_writes_it(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        await send(running.openim, 3)
        during = await journal(tmp_path, "status", "--json")
        sound = await journal(tmp_path, "verify")
        await send(running.openim, 1)
    (slot,) = objects(during)
    (left,) = objects(await journal(tmp_path, "status", "--json"))
    assert (slot["in_use"], slot["waiting"], slot["damaged_bytes"]) == (True, 3, 0)
    assert (left["in_use"], left["waiting"]) == (False, 4)
    assert sound.out == "sound: 3 records\n"


@pytest.mark.usefixtures("segment")
async def test_callbacks_are_shown_and_their_bodies_only_if_asked_for(tmp_path: Path) -> None:
    plain = await journal(tmp_path, "dump", "--json")
    text = await journal(tmp_path, "dump")
    bodies = await journal(tmp_path, "dump", "--json", "--body")
    shown = objects(plain)
    assert [each["number"] for each in shown] == [1, 2, 3]
    assert {each["command"] for each in shown} == {COMMAND}
    assert "secret" not in "".join(str({**each, "ordering_key": ""}) for each in shown)
    assert text.out.count(COMMAND) == 3
    assert {each["body"] for each in objects(bodies)} == {
        f'{{"userID":"secret-{number}"}}' for number in range(3)
    }


async def test_damage_is_named_and_what_is_sound_beside_it_is_shown(
    tmp_path: Path, segment: Path
) -> None:
    data = damage(segment)
    verified = await journal(tmp_path, "verify", "--json")
    dumped = await journal(tmp_path, "dump", "--json", f"{segment}.damaged")
    (place,) = objects(verified)
    assert verified.process.returncode == 1
    assert (place["segment"], place["offset"]) == (*(str(segment.relative_to(tmp_path)), 8),)
    assert [each["number"] for each in objects(dumped)] == [2, 3]
    assert "could not be read" in dumped.err
    assert await asyncio.to_thread(segment.read_bytes) == data


async def test_what_was_set_aside_is_shown(tmp_path: Path) -> None:
    kept = tmp_path / "journal" / "0" / "set-aside"
    kept.mkdir(parents=True)
    (kept / f"{7:020}").write_bytes(b"\0")
    command = await journal(tmp_path, "dump", "--json", str(kept / f"{7:020}"))
    assert objects(command) == [{"number": 7, "unreadable_bytes": 1}]


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder for what a journal sets aside."""
    folder = tmp_path / "journal" / "0" / "set-aside"
    folder.mkdir(parents=True)
    return folder


def keep(folder: Path, **messages: bytes) -> None:
    """Keep messages as if they had been set aside; `n2` is number 2."""
    for name, message in messages.items():
        (folder / f"{int(name[1:]):020}").write_bytes(message)


def left(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.iterdir())


async def test_what_was_set_aside_is_published_and_what_cannot_be_stays(
    amqp_url: str, tmp_path: Path, kept: Path
) -> None:
    good = CALLBACK.encode()
    keep(kept, n1=poisonous(), n2=good, n3=b"no message")
    async with everything(amqp_url) as seen:
        command = await journal(tmp_path, "publish", "--json", BRIDGE_AMQP_URL=amqp_url)
        (message,) = await seen.have(1)
    (said,) = objects(command)
    one, three = command.err.splitlines()
    assert (message.message_id, message.type, message.body) == ("m-2", COMMAND, b"{}")
    assert said["message_id"] == "m-2"
    assert said["published"] == f"journal/0/set-aside/{2:020}"
    assert left(kept) == [1, 3]
    assert f"/set-aside/{1:020} was not published: RabbitMQ closed the connection" in one
    assert three.endswith(f"/{3:020} was not published: 10 bytes that are no message")
    assert command.process.returncode == 1


async def test_what_a_full_queue_refuses_is_published_to_wait_in_rabbitmq(
    amqp_url: str, tmp_path: Path, kept: Path
) -> None:
    keep(kept, n2=CALLBACK.encode())
    async with everything(amqp_url) as seen, channel_to(amqp_url) as channel:
        full = await channel.declare_queue(
            "full", arguments={"x-max-length": 0, "x-overflow": "reject-publish"}
        )
        await full.bind(CALLBACKS, "#")
        path = kept / f"{2:020}"
        command = await journal(tmp_path, "publish", str(path), BRIDGE_AMQP_URL=amqp_url)
        await seen.have(1)
        refused = await channel.declare_queue(REFUSED, passive=True)
        assert refused.declaration_result.message_count == 1
    assert command.out == f"{path}: published, m-2\n"
    assert (command.process.returncode, left(kept)) == (0, [])


async def test_without_rabbitmq_all_stays(tmp_path: Path, kept: Path) -> None:
    keep(kept, n2=CALLBACK.encode())
    command = await journal(tmp_path, "publish", BRIDGE_AMQP_URL=NOWHERE)
    assert (command.process.returncode, left(kept)) == (4, [2])
    assert command.err.startswith("error: no RabbitMQ at 127.0.0.1:1")


async def test_only_what_was_set_aside_is_published(
    tmp_path: Path, kept: Path, segment: Path
) -> None:
    for path in (segment, kept / f"{7:020}"):
        command = await journal(tmp_path, "publish", str(path), BRIDGE_AMQP_URL=NOWHERE)
        assert command.process.returncode == 1
        assert f"error: {path} was not published: " in command.err
    assert await asyncio.to_thread(segment.exists)


async def test_a_file_is_known_by_its_name_alone_in_its_own_folder(
    amqp_url: str, kept: Path
) -> None:
    keep(kept, n2=CALLBACK.encode())
    dumped = await journal(kept, "dump", "--json", f"{2:020}")
    published = await journal(kept, "publish", f"{2:020}", BRIDGE_AMQP_URL=amqp_url)
    assert [each["message_id"] for each in objects(dumped)] == ["m-2"]
    assert (published.process.returncode, left(kept)) == (0, [])


async def test_what_a_link_leads_to_is_published_and_removed(
    amqp_url: str, tmp_path: Path, kept: Path
) -> None:
    keep(kept, n2=CALLBACK.encode())
    (tmp_path / "look").symlink_to(kept / f"{2:020}")
    published = await journal(tmp_path, "publish", "look", BRIDGE_AMQP_URL=amqp_url)
    assert (published.process.returncode, left(kept)) == (0, [])


async def test_a_slot_may_be_named_as_the_journal(
    amqp_url: str, tmp_path: Path, kept: Path
) -> None:
    keep(kept, n2=CALLBACK.encode())
    (kept.parent / "lock").touch()
    slot = {"BRIDGE_AMQP_URL": amqp_url, "BRIDGE_JOURNAL_PATH": str(kept.parent)}
    command = await journal(tmp_path, "publish", **slot)
    assert (command.process.returncode, left(kept)) == (0, [])


@pytest.mark.usefixtures("logging_as_before")
async def test_what_is_published_and_stays_is_said_to_be_published(
    amqp_url: str, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, *, missing_ok: bool) -> None:
        raise PermissionError(errno.EACCES, f"Permission denied, {missing_ok}", str(path))

    keep(kept, n2=CALLBACK.encode())
    path = kept / f"{2:020}"
    # Here, as nothing but the disk stands in for another: root may remove all.
    monkeypatch.setattr(Path, "unlink", refused)
    words = ["journal", "publish", str(path)]
    result = await asyncio.to_thread(
        CliRunner().invoke, main, words, env={"BRIDGE_AMQP_URL": amqp_url}
    )
    assert f"{path}: published, m-2" in result.output
    assert f"{path} was published, and cannot be removed: Permission denied" in result.output
    assert (result.exit_code, left(kept)) == (1, [2])


async def test_a_time_that_no_calendar_has_hides_no_other_record(tmp_path: Path) -> None:
    stored = CALLBACK.encode()
    at = stored.index(b"x-received-msl") + len(b"x-received-msl")
    late = stored[:at] + (2**60).to_bytes(8, "big") + stored[at + 8 :]
    async with bridge(tmp_path) as running:
        for payload in (stored, late, stored):
            await running.running.journal.store(payload)
    command = await journal(tmp_path, "dump", "--json")
    assert [each.get("message_id") for each in objects(command)] == ["m-2", None, "m-2"]
    assert objects(command)[1]["unreadable_bytes"] == len(late)


async def test_what_is_confirmed_does_not_wait(amqp_url: str, tmp_path: Path) -> None:
    async with bridge(tmp_path, amqp_url) as running:
        await send(running.openim, 2)
        await running.drained()
    async with bridge(tmp_path) as running:
        await send(running.openim, 1)
    command = await journal(tmp_path, "dump", "--waiting", "--json")
    assert [each["number"] for each in objects(command)] == [3]


@pytest.mark.parametrize("command", ["status", "verify", "dump"])
async def test_a_journal_that_is_not_there_is_named(tmp_path: Path, command: str) -> None:
    missing = await journal(tmp_path, command)
    assert missing.process.returncode == 1
    assert "there is no folder journal: BRIDGE_JOURNAL_PATH says" in missing.err


async def test_a_file_that_is_none_of_a_journal_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("this is another file")
    other = await journal(tmp_path, "dump", "other")
    missing = await journal(tmp_path, "dump", "missing")
    assert (other.process.returncode, missing.process.returncode) == (3, 1)
    assert "is not a journal segment" in other.err
    assert f"there is no file {tmp_path}/missing" in missing.err
