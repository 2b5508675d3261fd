"""Questions to decision handlers: their queues, headers and answers, as they travel.

A question has OpenIM's body, and a `reply_to` and a `correlation_id` for its answer, which is
JSON, for any language:

{"allow": true}
{"refuse": {"code": 20001, "message": "…", "detail": "…"}}
{"change": {"nickName": "…"}}
{"failed": "why there is no decision"}
"""

from collections.abc import Iterable

import msgspec
from msgspec import Raw, Struct

from bridge.contract import CHANGES, Allow, BadReply, Before, Change, Event, Refuse, Reply
from bridge.topology import Topology, queue

PREFIX = "openim.questions."
"""What the names of queues begin with that hold questions."""

MOST = 10_000
"""Questions about one callback that may wait; above, the oldest go."""

GONE = 5
"""Seconds after its last handler that a queue of questions goes as well: a question to nobody
then comes back at once."""

DEADLINE = "x-deadline-ms"
"""Header of a question: when its answer comes too late, in milliseconds since 1970."""

OPERATION = "x-operation-id"
"""Header of a question: OpenIM's trace id."""

HANDLER = "x-handler"
"""Header of an answer: who gives it."""


def queue_name(event: type[Event]) -> str:
    """Name the queue of the questions about a callback."""
    return PREFIX + event.routing_key


def topology(events: Iterable[type[Event]]) -> Topology:
    """What decision handlers of these callbacks need."""
    return Topology(
        queues=tuple(
            queue(
                "classic",
                queue_name(event),
                expires=GONE * 1000,
                max_length=MOST,
                overflow="drop-head",
            )
            for event in events
        )
    )


class HandlerFailed(Exception):
    """The handler has no decision; the message says why."""


class _Answer(Struct, forbid_unknown_fields=True, omit_defaults=True):
    allow: bool = False
    refuse: Refuse | None = None
    change: Raw = Raw()
    failed: str = ""

    @property
    def given(self) -> int:
        """How many decisions it has."""
        wanted = self.allow, self.refuse is not None, bytes(self.change), self.failed
        return sum(map(bool, wanted))


def encoded(reply: Reply) -> bytes:
    """Put a decision into JSON."""
    if isinstance(reply, Refuse):
        return msgspec.json.encode(_Answer(refuse=reply))
    if isinstance(reply, Change):
        return msgspec.json.encode(_Answer(change=Raw(msgspec.json.encode(reply))))
    return msgspec.json.encode(_Answer(allow=True))


def failure(why: str) -> bytes:
    """Put into JSON that there is no decision."""
    return msgspec.json.encode(_Answer(failed=why or "it failed"))


def decoded(body: bytes, event: type[Event]) -> Reply:
    """Read an answer.

    Args:
        body: What was received.
        event: What was asked about.

    Raises:
        BadReply: it is no answer to that, or OpenIM could not take it.
        HandlerFailed: it says that there is none.

    """
    try:
        answer = msgspec.json.decode(body, type=_Answer)
        if answer.given != 1:
            raise BadReply("it must have one of allow, refuse, change and failed")
        if answer.failed:
            raise HandlerFailed(answer.failed)
        if answer.refuse is not None:
            return answer.refuse
        return Allow() if answer.allow else _change(answer.change, event)
    except (ValueError, RecursionError) as error:
        raise BadReply(str(error)) from error


def _change(given: Raw, event: type[Event]) -> Reply:
    if not issubclass(event, Before) or event not in CHANGES:
        raise BadReply(f"OpenIM lets nothing be changed at {event.__name__}")
    change: Reply = msgspec.json.decode(given, type=CHANGES[event])
    return change
