"""A request as its caller made it, within limits: anybody may send anything.

What cannot be taken is `Rejected`; nothing of the request is ever quoted.
"""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from bridge import contract, traceparent

LONGEST_ID = 128
"""Characters of an operation id that are kept: any client chooses it, at any length."""

LONGEST_QUERY = 2048


class Rejected(Exception):
    """A request that gets an error for an answer.

    Attributes:
        status: HTTP status, for people and proxies; OpenIM does not look at it.
        reason: One of `bridge.metrics.REASONS`.
        keep: The body, if it may have been meant for us and must not be lost.

    """

    def __init__(
        self, status: int, reason: str, message: str, keep: bytes | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.keep = keep


Kept: TypeAlias = Callable[[Rejected | None], None]
"""Called when a message is on disk or in RabbitMQ, or with why it is in neither."""


class Callback(NamedTuple):
    """What a request says, as its sender chose it."""

    command: str
    body: bytes
    query: str
    operation_id: str
    traceparent: str


def fields_in(command: str, body: bytes) -> dict[str, object]:
    """Give the JSON fields of a body that is what its path says."""
    try:
        fields = contract.fields_of(body)
    except contract.MalformedCallback as error:
        raise Rejected(400, "malformed", str(error), body) from error
    if fields.get("callbackCommand", command) != command:
        raise Rejected(400, "command", "path and body name different commands", body)
    return fields


def further_headers(callback: Callback) -> dict[str, str]:
    """Give what else of a request travels with its message, as AMQP headers."""
    headers = {}
    if callback.query:
        headers["x-query"] = clean(callback.query, LONGEST_QUERY)
    if given := traceparent.checked(callback.traceparent):
        headers["traceparent"] = given
    return headers


def clean(text: str, longest: int) -> str:
    """Keep what can stand in a header or a log line: printable, and not too long."""
    cut = text[:longest]
    return cut if cut.isascii() and cut.isprintable() else ascii(cut)[1:-1][:longest]
