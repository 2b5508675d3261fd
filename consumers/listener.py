"""Where a worker says over HTTP how it is, to supervisors and to Prometheus."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict

import orjson
from aiohttp import web

from bridge.metrics import CONTENT_TYPE
from consumers.worker import Worker

log = logging.getLogger(__name__)

FAREWELL = 1.0
"""Seconds in which an answer that is under way may end at a stop."""


@asynccontextmanager
async def listening(worker: Worker, host: str, port: int) -> AsyncIterator[int]:
    """Answer during the block; give the port.

    Raises:
        OSError: the port cannot be listened on.

    """

    async def live(_request: web.Request) -> web.Response:
        return _json({"alive": True})

    async def ready(request: web.Request) -> web.Response:
        ready = not worker.reason and not worker.stopping
        checks = _checks(worker) if "verbose" in request.query_string else {}
        return _json({"ready": ready} | checks, 200 if ready else 503)

    async def metrics(_request: web.Request) -> web.Response:
        kind = {"Content-Type": CONTENT_TYPE}
        return web.Response(body=worker.metrics.render(), headers=kind)

    application = web.Application()
    application.router.add_get("/livez", live)
    application.router.add_get("/readyz", ready)
    application.router.add_get("/metrics", metrics)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=FAREWELL)
    await runner.setup()
    try:
        yield await _bound(runner, host, port)
    finally:
        await runner.cleanup()


async def _bound(runner: web.AppRunner, host: str, port: int) -> int:
    try:
        await web.TCPSite(runner, host, port).start()
    except OSError as error:
        raise OSError(
            error.errno,
            f"cannot listen on {host} port {port}: {error.strerror}; choose others with"
            " CONSUMERS_HOST and CONSUMERS_PORT, where port 0 lets the system choose",
        ) from error
    chosen = int(runner.addresses[0][1])
    log.info("listening", extra={"port": chosen})
    return chosen


def _checks(worker: Worker) -> dict[str, object]:
    return {
        "broker": {"connected": not worker.reason, "reason": worker.reason},
        "subscriptions": {
            work.handlers.subscription: asdict(work.state) for work in worker.works
        },
        "decisions": [decisions.name for decisions in worker.decisions],
        "stopping": worker.stopping,
    }


def _json(answer: dict[str, object], status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(answer), status=status, content_type="application/json"
    )
