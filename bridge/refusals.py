"""What a request gets that is not taken: an answer that lets OpenIM go on, and a log line."""

import logging
from http import HTTPStatus

from aiohttp import web

from bridge import contract
from bridge.logs import Sampled
from bridge.message import ids_of
from bridge.metrics import Metrics
from bridge.policy import FALLBACK
from bridge.request import LONGEST_ID, Callback, Rejected, clean

log = logging.getLogger(__name__)


class Refusals:
    """Counts and logs what is refused, and answers it."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._lines = Sampled()

    def answer(
        self,
        request: web.BaseRequest,
        rejected: Rejected,
        caller: str,
        error: BaseException | None = None,
    ) -> web.Response:
        """Report a refusal, and give the answer to it."""
        operation_id = clean(request.headers.get("operationID", ""), LONGEST_ID)
        self.report(rejected, caller, error, operation_id=operation_id)
        response = problem(rejected.status, str(rejected))
        if rejected.status == HTTPStatus.METHOD_NOT_ALLOWED:
            response.headers["Allow"] = "POST"
        if rejected.status == HTTPStatus.UNAUTHORIZED:
            response.headers["WWW-Authenticate"] = "Basic"
        if not request.content.is_eof():
            response.force_close()
        return response

    def report(
        self,
        rejected: Rejected,
        caller: str,
        error: BaseException | None = None,
        *,
        operation_id: str = "",
        message: bytes = b"",
    ) -> None:
        """Count a request that was answered with an error, and log a sample of them.

        Args:
            rejected: Why.
            caller: Who called.
            error: Of ours, if it is one.
            operation_id: OpenIM's, of a request that became no message.
            message: What it became otherwise.

        """
        self._metrics.rejected.labels(rejected.reason).inc()
        reason = rejected.reason
        if (more := self._lines.admit(reason)) is not None:
            facts = {"reason": reason, "detail": str(rejected), "peer": caller, "more": more}
            ids = ids_of(message) if message else {"operation_id": operation_id}
            level = logging.ERROR if error else logging.WARNING
            log.log(level, "request rejected", exc_info=error, extra=ids | facts)

    def undecided(self, callback: Callback, problem: str, message_id: str) -> None:
        """Log a sample of the before callbacks that got an answer for want of a decision."""
        if (more := self._lines.admit(FALLBACK)) is not None:
            facts = {
                "message_id": message_id,
                "command": callback.command,
                "operation_id": clean(callback.operation_id, LONGEST_ID),
                "detail": problem,
                "more": more,
            }
            log.warning("no decision", extra=facts)


def broken(status: int) -> Rejected:
    """Say of a request that aiohttp could not parse it, or that we failed at it."""
    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
        return Rejected(status, "http", "this is no HTTP we understand")
    return Rejected(status, "internal", "our fault, see our log")


def too_slow() -> Rejected:
    """Say that neither disk nor RabbitMQ answered in time."""
    return Rejected(503, "slow_disk", "the disk did not answer in time")


def problem(status: int, message: str) -> web.Response:
    """Answer with an error, in the form that OpenIM reads and lets its operation go on."""
    return as_json(contract.problem(4000 + status, message), status)


def as_json(body: bytes, status: int = 200) -> web.Response:
    """Answer with JSON."""
    return web.Response(body=body, status=status, content_type="application/json")
