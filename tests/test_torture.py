"""Whatever goes wrong, nothing that was answered is lost.

What is proven elsewhere is not repeated here; docs/torture.md says what is proven where.
"""

import asyncio
import os
import random
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import aio_pika
import pytest
from yarl import URL

from bridge import broker, openim, slots, transport
from bridge import journal as journals
from bridge.broker import BrokerUnreachable, ConnectionLost
from bridge.contract import Allowed
from bridge.message import decode
from bridge.topology import BRIDGE, CALLBACKS
from tests.brokers import OwnBroker
from tests.line import line_to
from tests.running import DEADLINE, NOWHERE, Everything, everything, until
from tests.torture import receiver as receivers
from tests.torture.faults import FAULTS, Fault
from tests.torture.nemesis import endure
from tests.torture.receiver import Receiver, mounted, unmounted
from tests.torture.rig import rig
from tests.torture.tracing import CALLS, replies_after_their_sync, traced

COMMAND = "callbackAfterUserOnlineCommand"


@pytest.fixture(scope="session")
def may_trace() -> None:
    """Skip what attaches strace to a receiver, where we may not."""
    if os.geteuid() != 0:
        pytest.skip("attaches strace to a process: run it as root")


@pytest.fixture(scope="session")
def may_mount(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Skip what has the journal on a small disk, where we may not mount one."""
    folder = tmp_path_factory.mktemp("disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:  # noqa: S603
        pytest.skip("mounts a small disk: run it as root, in no container or a privileged one")
    subprocess.run(["umount", folder], check=True)  # noqa: S603, S607


NEEDS = {"disk full": "may_mount", "disk slow": "may_trace", "disk failing": "may_trace"}

# A restart in good order takes long, and shows no more than a kill.
SHORT = [fault for fault in FAULTS if fault.name != "broker restarted"]


@pytest.mark.parametrize("fault", SHORT, ids=[fault.name.replace(" ", "-") for fault in SHORT])
async def test_what_was_answered_arrives_in_spite_of(
    own_broker: OwnBroker, tmp_path: Path, fault: Fault, request: pytest.FixtureRequest
) -> None:
    if fault.name in NEEDS:
        request.getfixturevalue(NEEDS[fault.name])
    async with rig(tmp_path, own_broker) as tortured:
        phase = await endure(tortured, fault)
    assert phase.wrong == []
    assert tortured.ledger.total.arrived > 0


def body(number: int, size: int = 0) -> bytes:
    return b'{"userID":"u","seq":%d,"filler":"%b"}\n' % (number, b"x" * size)


async def post(receiver: Receiver, *bodies: bytes) -> list[openim.Answer]:
    """Be OpenIM, one callback after the other."""
    async with openim.process(receiver.url) as process:
        return [await process.post(COMMAND, each) for each in bodies]


def taken(answer: openim.Answer) -> bool:
    return answer.status == 200 and answer.verdict == Allowed()


async def all_of(seen: Everything, bodies: set[bytes]) -> None:
    """Wait until all of these have arrived."""
    await until(lambda: bodies <= {message.body for message in seen.messages})


def written(receiver: Receiver) -> bytes:
    """Give all that its journal has written, synced or not."""
    return b"".join(path.read_bytes() for path in receiver.journal.glob("0/0*"))


# Killed at one system call


@pytest.mark.usefixtures("may_trace")
async def test_a_kill_at_the_sync_comes_before_the_reply(amqp_url: str, tmp_path: Path) -> None:
    async with everything(amqp_url) as seen, receivers.started(tmp_path, NOWHERE) as receiver:
        async with asyncio.TaskGroup() as tasks:
            async with traced(
                receiver.pid,
                tmp_path / "strace",
                "--trace=fdatasync",
                "--inject=fdatasync:delay_enter=10000000",
            ):
                posting = tasks.create_task(post(receiver, body(1)))
                await until(lambda: body(1) in written(receiver))
                receiver.signal(signal.SIGKILL)
            await receiver.ended()
        (answer,) = posting.result()
        async with receivers.started(tmp_path, amqp_url):
            await all_of(seen, {body(1)})
    assert answer.status == 0
    assert not answer.unreachable


async def test_a_kill_between_reply_and_publish_loses_nothing(
    amqp_url: str, tmp_path: Path
) -> None:
    async with everything(amqp_url) as seen, line_to(amqp_url) as line:
        line.silence()
        async with receivers.started(tmp_path, line.url) as receiver:
            answers = await post(receiver, *map(body, range(100)))
            await receiver.kill()
            assert not seen.messages
            line.resume()
            await receiver.start()
            await all_of(seen, set(map(body, range(100))))
    assert all(map(taken, answers))
    assert len({message.message_id for message in seen.messages}) == 100


@pytest.mark.usefixtures("may_trace")
async def test_a_kill_between_confirm_and_mark_means_copies_under_the_same_ids(
    amqp_url: str, tmp_path: Path
) -> None:
    async with everything(amqp_url) as seen, receivers.started(tmp_path, amqp_url) as receiver:
        mark = str(receiver.journal / "0" / "confirmed")
        async with traced(
            receiver.pid,
            tmp_path / "strace",
            f"--trace-path={mark}",
            "--trace=pwrite64",
            "--inject=pwrite64:signal=KILL",
        ):
            answers = await post(receiver, body(0))
            assert await receiver.ended() == -signal.SIGKILL
        await seen.have(1)
        await receiver.start()
        await seen.have(2)
    assert taken(answers[0])
    assert {message.body for message in seen.messages} == {body(0)}
    assert len({message.message_id for message in seen.messages}) == 1


# The order of system calls


@pytest.mark.usefixtures("may_trace")
async def test_every_reply_leaves_after_the_sync_that_covers_it(tmp_path: Path) -> None:
    async with receivers.started(tmp_path, NOWHERE) as receiver:
        async with (
            traced(receiver.pid, tmp_path / "strace", CALLS, "--string-limit=1000000") as trace,
            openim.process(receiver.url) as one,
            openim.process(receiver.url) as two,
        ):
            answers: list[openim.Answer] = []
            async with asyncio.TaskGroup() as tasks:
                for process, first in ((one, 0), (two, 100)):
                    callbacks = [(COMMAND, body(first + number)) for number in range(100)]
                    tasks.create_task(process.post_all(callbacks, answers.append))
        replies, early = replies_after_their_sync(trace.text)
    assert all(map(taken, answers))
    assert (replies, early) == (200, [])
    # No connection was closed by us in between.
    assert (one.connections, two.connections) == (openim.WORKERS, openim.WORKERS)


# The disk


@pytest.mark.usefixtures("may_trace")
async def test_nothing_is_answered_once_the_disk_has_failed(
    amqp_url: str, tmp_path: Path
) -> None:
    async with everything(amqp_url) as seen, receivers.started(tmp_path, amqp_url) as receiver:
        before = await post(receiver, *map(body, range(20)))
        async with traced(
            receiver.pid,
            tmp_path / "strace",
            "--trace=fdatasync",
            "--inject=fdatasync:error=EIO",
        ):
            after = await post(receiver, *map(body, range(20, 22)))
            assert await receiver.ended() == 1
        await receiver.start()
        await all_of(seen, set(map(body, range(20))))
    assert all(map(taken, before))
    assert not any(map(taken, after))
    assert "Input/output error" in receiver.log.read_text()


@asynccontextmanager
async def small_disk(folder: Path, size: str) -> AsyncIterator[None]:
    """Have the journal on a disk of its own; a segment of it takes 16 MB."""
    await mounted(folder / "journal", size)
    try:
        yield
    finally:
        await unmounted(folder / "journal")


@pytest.mark.usefixtures("may_mount")
async def test_a_full_disk_without_rabbitmq_refuses_until_there_is_room_and_loses_nothing(
    tmp_path: Path,
) -> None:
    bodies = [body(number, 200_000) for number in range(100)]
    async with small_disk(tmp_path, "40m"), receivers.started(tmp_path, NOWHERE) as receiver:
        others = receiver.journal / "others"
        others.write_bytes(b"x" * 20_000_000)
        answers = await post(receiver, *bodies)
        stored = sum(map(taken, answers))
        others.unlink()
        later = await post(receiver, *map(body, range(10)))
        await receiver.stop()
        shutil.copytree(receiver.journal, tmp_path / "copy")
    refused = {(answer.status, answer.verdict) for answer in answers[stored:]}
    kept = await recovered(tmp_path / "copy")
    assert 60 < stored < 90
    assert refused == {(503, Allowed())}
    assert all(map(taken, later))
    assert {decode(payload).body for payload in kept} == {
        *bodies[:stored],
        *map(body, range(10)),
    }


@pytest.mark.usefixtures("may_mount")
async def test_what_a_full_disk_holds_is_published_once_rabbitmq_is_back(
    amqp_url: str, tmp_path: Path
) -> None:
    bodies = [body(number, 200_000) for number in range(100)]
    async with (
        everything(amqp_url) as seen,
        line_to(amqp_url) as line,
        small_disk(tmp_path, "18m"),
    ):
        line.cut()
        async with receivers.started(tmp_path, line.url) as receiver:
            answers = await post(receiver, *bodies)
            with suppress(OSError), (receiver.journal / "others").open("wb", 0) as others:
                while others.write(b"x" * 4096):
                    pass
            stored = sum(map(taken, answers))
            await line.mend()
            await all_of(seen, set(bodies[:stored]))
            await receiver.stop()
    assert 60 < stored < 90
    assert not any(map(taken, answers[stored:]))


@pytest.mark.usefixtures("may_mount")
async def test_without_room_for_a_segment_rabbitmq_confirms_all_that_is_answered(
    amqp_url: str, tmp_path: Path
) -> None:
    bodies = list(map(body, range(100)))
    async with (
        everything(amqp_url) as seen,
        small_disk(tmp_path, "10m"),
        receivers.started(tmp_path, amqp_url) as receiver,
    ):
        await until(lambda: "broker connected" in receiver.log.read_text())
        answers = await post(receiver, *bodies)
        await all_of(seen, set(bodies))
        in_journal = written(receiver)
        await receiver.stop()
    assert all(map(taken, answers))
    assert in_journal == b""


# Power failures


class Moment(NamedTuple):
    """The disk as one sync left it, and what had been confirmed by then."""

    copy: Path
    confirmed: set[bytes]
    answered: set[bytes]
    """What had been answered when the next sync began."""


async def test_a_power_failure_at_any_sync_loses_nothing_that_was_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "SEGMENT_SIZE", 4096)
    folder = tmp_path / "journal"
    moments: list[Moment] = []
    answered: set[bytes] = set()
    confirmed: set[bytes] = set()
    sync = os.fdatasync

    def note(file: int) -> None:
        # What was written since the last sync may be lost, so only its copy counts.
        if moments:
            moments[-1].answered.update(answered)
        sync(file)
        copy = tmp_path / str(len(moments))
        moments.append(Moment(copy, set(confirmed), set(answered)))
        shutil.copytree(folder, copy / "0")

    monkeypatch.setattr(os, "fdatasync", note)
    await _store_and_confirm(folder, answered, confirmed)
    monkeypatch.undo()
    assert len(moments) >= 300
    found = [await recovered(moment.copy) for moment in moments]
    lost = [
        moment.answered - moment.confirmed - there
        for moment, there in zip(moments, found, strict=True)
    ]
    assert [each for each in lost if each] == []


async def _store_and_confirm(folder: Path, answered: set[bytes], confirmed: set[bytes]) -> None:
    """Store batches of all sizes, and confirm some of what is stored."""
    chance = random.Random(22)  # noqa: S311  # to be repeated
    with slots.opened(folder, 2**30) as journal:
        for batch in range(300):
            payloads = [b"%d-%d" % (batch, n) for n in range(chance.randrange(1, 9))]
            await asyncio.gather(*map(journal.store, payloads))
            answered.update(payloads)
            records = await journal.read(journal.confirmed, chance.randrange(1, 9))
            confirmed.update(record.payload for record in records)
            journal.confirm(records[-1].number)


async def recovered(path: Path) -> set[bytes]:
    """Give all that a journal holds."""
    found: set[bytes] = set()
    with slots.taken(path, 2**30) as journal:
        async with asyncio.timeout(DEADLINE):
            after = journal.confirmed
            while after < journal.newest:
                records = await journal.read(after, 1000)
                found |= {record.payload for record in records}
                after = records[-1].number
    return found


# RabbitMQ


async def test_a_full_queue_holds_up_nobody_else(amqp_url: str, tmp_path: Path) -> None:
    async with (
        everything(amqp_url) as seen,
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
        receivers.started(tmp_path, amqp_url) as receiver,
    ):
        full = await channel.declare_queue(
            "full", arguments={"x-max-length": 2, "x-overflow": "reject-publish"}
        )
        await full.bind(CALLBACKS, "friend.#")
        friends = [openim.sample("AfterAddFriend")] * 300
        async with openim.process(receiver.url) as process:
            answers = [await process.post(*friend) for friend in friends]
        others = await post(receiver, *map(body, range(50)))
        await all_of(seen, set(map(body, range(50))))
        await until(lambda: "a queue refuses" in receiver.log.read_text())
        held = await full.declare()
    assert all(map(taken, answers + others))
    assert held.message_count == 2


@pytest.mark.parametrize("before", [0, 1], ids=["never-used", "once-used"])
async def test_a_queue_that_is_down_holds_up_nobody_else(
    own_broker: OwnBroker, tmp_path: Path, before: int
) -> None:
    """RabbitMQ refuses for it, but says nothing on a channel that has used it."""
    url = own_broker.amqp_url
    async with (
        everything(url) as seen,
        await aio_pika.connect(url) as connection,
        connection.channel() as channel,
        receivers.started(tmp_path, url) as receiver,
    ):
        down = await channel.declare_queue(
            "down", durable=True, arguments={"x-queue-type": "quorum"}
        )
        await down.bind(CALLBACKS, "friend.#")
        friends = [openim.sample("AfterAddFriend")] * 300
        async with openim.process(receiver.url) as sender:
            answers = [await sender.post(*friend) for friend in friends[:before]]
            await seen.have(before)
        process = f"{URL(url).path[1:]}_down"
        await own_broker.control(
            "eval", f'ra:stop_server(quorum_queues, {{list_to_atom("{process}"), node()}}).'
        )
        async with openim.process(receiver.url) as sender:
            answers += [await sender.post(*friend) for friend in friends]
        others = await post(receiver, *map(body, range(50)))
        await all_of(seen, set(map(body, range(50))))
        await until(lambda: "a queue refuses" in receiver.log.read_text())
    assert all(map(taken, answers + others))


async def test_a_connection_that_was_lost_is_closed(amqp_url: str) -> None:
    async with line_to(amqp_url) as line:
        with suppress(ConnectionLost):
            async with broker.connect(line.url, name="test", timeout=5) as lost:
                line.cut()
                await lost.until_lost()
    assert lost._connection.is_closed  # noqa: SLF001  # nothing else tells


async def test_a_call_that_aiormq_ends_without_a_reason_is_a_lost_connection(
    amqp_url: str,
) -> None:
    async def call() -> None:
        async with broker.connect(amqp_url, name="test", timeout=10) as closed:
            calling = asyncio.ensure_future(closed.declare(BRIDGE))
            await asyncio.sleep(0)
            await closed._underlying.close(None)  # noqa: SLF001  # as when it finds it closed
            await calling

    with pytest.raises(ConnectionLost):
        await call()


async def test_a_rabbitmq_that_hangs_up_at_once_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create = transport.Transport.create

    async def slowly(
        factory: Any,  # noqa: ANN401  # as aiormq calls it
        url: URL,
        **options: Any,  # noqa: ANN401
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await create(factory, url, **options)
        await until(reader.at_eof)
        return reader, writer

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        await reader.read()
        writer.close()

    monkeypatch.setattr(transport.Transport, "create", slowly)
    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(
            BrokerUnreachable, match=f"no RabbitMQ at 127.0.0.1:{port}: it hung"
        ):
            async with broker.connect(f"amqp://127.0.0.1:{port}/", name="test", timeout=5):
                pass
