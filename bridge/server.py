"""The receiver's process: HTTP server, journal and forwarder, started and stopped together."""

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bridge import policy, slots, workers
from bridge.adoption import adopt
from bridge.asking import Asking
from bridge.connection import Server
from bridge.forwarder import Forwarder
from bridge.journal import Journal
from bridge.loading import BadSettings
from bridge.metrics import Metrics
from bridge.receiver import Receiver
from bridge.settings import Receiver as Settings
from bridge.waiting import hang_up_signal, stop_signal

log = logging.getLogger(__name__)

FAREWELL = 0.2
"""Seconds in which a receiver that has failed tells those who are waiting."""


@asynccontextmanager
async def listening(
    server: Server, receiver: Receiver, given: socket.socket | None
) -> AsyncIterator[int]:
    """Take requests; give the port.

    At the end of the block nobody is let in any more, and who is in gets answers that ask
    for the connection to be closed. Closing it ourselves could cut off a callback that is
    on its way, and OpenIM would not send it again. A receiver that has failed does not wait:
    it could only refuse, and the sooner it is gone the sooner another starts.
    """
    settings = receiver.settings
    patience = FAREWELL
    (own,) = [given] if given else workers.sockets(settings.host, settings.port, 1)
    listener = await asyncio.get_running_loop().create_server(server, sock=own)
    try:
        yield own.getsockname()[1]
        patience = settings.grace_period
    finally:
        receiver.draining = True
        listener.close()
        await _within(patience, lambda: not server.connections)
        receiver.asking.give_up()
        receiver.keep_news()
        await server.shutdown(timeout=1)


async def _within(seconds: float, condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds, `seconds` at most."""
    deadline = asyncio.get_running_loop().time() + seconds
    while not condition() and asyncio.get_running_loop().time() < deadline:  # noqa: ASYNC110
        await asyncio.sleep(0.02)


@dataclass(frozen=True, kw_only=True)
class Running:
    """A receiver that takes requests."""

    port: int
    journal: Journal
    forwarder: Forwarder
    receiver: Receiver
    server: Server


@asynccontextmanager
async def running(
    settings: Settings, worker: workers.Worker | None = None
) -> AsyncIterator[Running]:
    """Receive and forward during the block, and stop in good order at its end.

    Raises:
        BadSettings: the policy cannot be used.
        JournalBroken: the journal cannot be used.
        OSError: the port cannot be listened on; or, cancelling the block, the disk failed.

    """
    # First: what is changed while it is read is read again.
    hung_up = hang_up_signal() if settings.policy else asyncio.Event()
    decisions = policy.read(settings.policy)
    with slots.taken(Path(settings.journal_path), settings.journal_quota) as journal:
        metrics = Metrics(journal)
        forwarder = Forwarder(journal, settings, metrics)
        metrics.watch(lambda: forwarder.link.connected)
        asking = Asking(settings, metrics)
        receiver = Receiver(settings, journal, forwarder, metrics, decisions, asking, worker)
        _use(receiver, decisions)
        server = Server(receiver)
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(journal.run()),
                    tasks.create_task(forwarder.run()),
                    tasks.create_task(asking.run()),
                    tasks.create_task(adopt(settings, metrics)),
                    tasks.create_task(_keep_to(settings.policy, receiver, hung_up)),
                ]
                async with (
                    workers.telling(worker, metrics.render),
                    listening(server, receiver, worker.listener if worker else None) as port,
                ):
                    _note_listening(port, receiver)
                    yield Running(
                        port=port,
                        journal=journal,
                        forwarder=forwarder,
                        receiver=receiver,
                        server=server,
                    )
                    log.info("stopping", extra={"waiting": journal.depth})
                await _flush(journal, forwarder, settings.grace_period)
                for task in background:
                    task.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        log.info("stopped", extra={"waiting": journal.depth})


def _note_listening(port: int, receiver: Receiver) -> None:
    waiting, secrets = receiver.journal.depth, receiver.callers.secrets
    log.info("listening", extra={"port": port, "waiting": waiting, "secrets": secrets})


def _use(receiver: Receiver, decisions: policy.Policy) -> None:
    receiver.policy = decisions
    if decisions.asks:
        receiver.asking.wanted.set()


async def _keep_to(path: str, receiver: Receiver, hung_up: asyncio.Event) -> None:
    """Read the policy again whenever it is asked for; one with mistakes changes nothing."""
    while True:
        await hung_up.wait()
        hung_up.clear()
        try:
            _use(receiver, await asyncio.to_thread(policy.read, path, receiver.policy))
        except BadSettings as error:
            receiver.metrics.policy_reads.labels("refused").inc()
            log.error("policy kept as it was", extra={"problems": error.problems})  # noqa: TRY400
        else:
            receiver.metrics.policy_reads.labels("taken").inc()
            log.info("policy read", extra={"callbacks": len(receiver.policy.rulings)})


async def serve(settings: Settings, worker: workers.Worker | None = None) -> None:
    """Receive and forward until SIGTERM or SIGINT, alone or as one of several workers."""
    stop = stop_signal()
    _open_many_files()
    async with running(settings, worker):
        await stop.wait()


def _open_many_files() -> None:
    """Take all the files that the system allows: each of OpenIM's processes has 100 sockets."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    # macOS says that there is no limit, and has one.
    with suppress(ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _flush(journal: Journal, forwarder: Forwarder, seconds: float) -> None:
    """Let what is stored reach RabbitMQ if it is there; the journal keeps the rest."""
    await _within(seconds, lambda: journal.depth == 0 or not forwarder.link.connected)
