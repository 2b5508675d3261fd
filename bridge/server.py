"""The receiver's process: HTTP server, journal and forwarder, started and stopped together."""

import asyncio
import logging
import resource
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bridge import policy, slots, workers
from bridge.adoption import adopt
from bridge.asking import Asking
from bridge.connection import Server
from bridge.forwarder import Forwarder
from bridge.journal import Journal
from bridge.metrics import Metrics
from bridge.receiver import Receiver
from bridge.reloading import ReadAgain, keep_up
from bridge.settings import Receiver as Settings
from bridge.tls import HANDSHAKE, Certificate
from bridge.tracing import opened as tracing
from bridge.waiting import hang_up_signal, stop_signal

if TYPE_CHECKING:
    from bridge.spans import Spans

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
    tls = receiver.certificate
    listener = await asyncio.get_running_loop().create_server(
        server,
        sock=own,
        ssl=tls.context if tls else None,
        ssl_handshake_timeout=HANDSHAKE if tls else None,
    )
    try:
        yield own.getsockname()[1]
        patience = receiver.settings.grace_period
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
    settings: Settings,
    worker: workers.Worker | None = None,
    read_again: ReadAgain | None = None,
) -> AsyncIterator[Running]:
    """Receive and forward during the block, and stop in good order at its end.

    Args:
        settings: To begin with.
        worker: Which of several this is, if there are several.
        read_again: Reads the settings again at SIGHUP; else only the policy is read.

    Raises:
        BadSettings: the policy cannot be used.
        JournalBroken: the journal cannot be used.
        OSError: the port cannot be listened on; or, cancelling the block, the disk failed.

    """
    # First: what is changed while it is read is read again.
    hung_up = hang_up_signal()
    decisions = policy.read(settings.policy)
    async with AsyncExitStack() as stack:
        spans = await stack.enter_async_context(tracing(settings.tracing, "openim-bridge"))
        place = slots.taken(Path(settings.journal_path), settings.journal_quota)
        journal = stack.enter_context(place)
        receiver = _made(settings, journal, decisions, worker, spans)
        server = Server(receiver)
        try:
            async with asyncio.TaskGroup() as tasks:
                works = _works(receiver, read_again, hung_up)
                background = [tasks.create_task(work) for work in works]
                async with (
                    workers.telling(worker, receiver.metrics.render),
                    listening(server, receiver, worker.listener if worker else None) as port,
                ):
                    _note_listening(port, receiver)
                    yield Running(
                        port=port,
                        journal=journal,
                        forwarder=receiver.forwarder,
                        receiver=receiver,
                        server=server,
                    )
                    log.info("stopping", extra={"waiting": journal.depth})
                await _flush(journal, receiver.forwarder, receiver.settings.grace_period)
                for task in background:
                    task.cancel()
        except ExceptionGroup as group:
            raise group.exceptions[0] from group
        log.info("stopped", extra={"waiting": journal.depth})


def _made(
    settings: Settings,
    journal: Journal,
    decisions: policy.Policy,
    worker: workers.Worker | None,
    spans: "Spans | None",
) -> Receiver:
    metrics = Metrics(journal, spans)
    forwarder = Forwarder(journal, settings, metrics, spans)
    metrics.watch(lambda: forwarder.link.connected)
    certificate = None
    if settings.tls_certificate:
        certificate = Certificate(settings.tls_certificate, settings.tls_key)
        metrics.watch_certificate(certificate.good_until)
    asking = Asking(settings, metrics)
    return Receiver(
        *(settings, journal, forwarder, metrics, decisions, asking),
        *(worker, certificate, spans),
    )


def _works(
    receiver: Receiver, read_again: ReadAgain | None, hung_up: asyncio.Event
) -> list[Coroutine[Any, Any, None]]:
    """Give what goes on for as long as callbacks are taken."""
    return [
        receiver.journal.run(),
        receiver.forwarder.run(),
        receiver.asking.run(),
        adopt(lambda: receiver.settings, receiver.metrics),
        keep_up(receiver, read_again, hung_up),
    ]


def _note_listening(port: int, receiver: Receiver) -> None:
    waiting, secrets = receiver.journal.depth, receiver.callers.secrets
    log.info("listening", extra={"port": port, "waiting": waiting, "secrets": secrets})


async def serve(
    settings: Settings,
    worker: workers.Worker | None = None,
    read_again: ReadAgain | None = None,
) -> None:
    """Receive and forward until SIGTERM or SIGINT, alone or as one of several workers."""
    stop = stop_signal()
    _open_many_files()
    async with running(settings, worker, read_again):
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
