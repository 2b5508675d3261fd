"""What a message says beside its body: AMQP properties and headers, as data."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

On: TypeAlias = Literal[
    "callbacks", "before", "malformed", "copies", "replays", "questions", "answers"
]
"""Messages that have a header: all callbacks, before callbacks, unreadable bodies, deliveries
that come again, replayed ones, questions to decision handlers, and their answers."""

JsonType: TypeAlias = Literal["string", "integer", "array"]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A property or header."""

    name: str
    text: str
    """What it is, in Markdown without links."""

    example: str | int = ""
    kind: JsonType = "string"
    on: On = "callbacks"
    always: bool = False
    """Whether every such message has it."""


ID = "0195c1a2-7d3e-7abc-8def-0123456789ab"

BINDING = "0.3.0"
"""Version of AsyncAPI's binding for AMQP 0-9-1."""

PROPERTIES = (
    Part(
        name="message_id",
        text="UUIDv7 minted at receipt; every copy of one callback has the same",
        example=ID,
        always=True,
    ),
    Part(
        name="type",
        text="the callback, as its path named it",
        example="callbackAfterAddFriendCommand",
        always=True,
    ),
    Part(
        name="correlation_id",
        text="OpenIM's `operationID`, up to 128 characters; neither trusted nor unique",
        example="op-1719800000000-7f",
        always=True,
    ),
    Part(
        name="timestamp",
        text="receipt, UTC, in whole seconds",
        example=1735689600,
        kind="integer",
        always=True,
    ),
    Part(
        name="content_type",
        text="`application/json`",
        example="application/json",
        always=True,
    ),
    Part(name="delivery_mode", text="2, persistent", example=2, kind="integer", always=True),
    Part(name="app_id", text="`openim-bridge`", example="openim-bridge", always=True),
)
"""The AMQP properties of every callback."""

QUESTION_PROPERTIES = (
    Part(
        name="reply_to",
        text="the routing key that the answer takes, by the default exchange",
        always=True,
    ),
    Part(name="correlation_id", text="which question it is; the answer says so", always=True),
    Part(name="message_id", text="that of the callback, which is published later", always=True),
    Part(name="type", text="the callback, as its path named it", always=True),
    Part(name="content_type", text="`application/json`", always=True),
    Part(name="delivery_mode", text="1, transient", kind="integer", always=True),
    Part(
        name="expiration",
        text="milliseconds after which RabbitMQ drops it, if nobody has taken it",
        always=True,
    ),
)
"""The AMQP properties of a question to a decision handler."""

ANSWER_PROPERTIES = (
    Part(name="correlation_id", text="that of the question", always=True),
    Part(name="content_type", text="`application/json`"),
)
"""The AMQP properties that an answer should have."""

HEADERS = (
    Part(
        name="ce-specversion",
        text="`1.0`: the headers are a CloudEvent in binary mode",
        example="1.0",
        always=True,
    ),
    Part(name="ce-id", text="as `message_id`", example=ID, always=True),
    Part(name="ce-source", text="`/openim`", example="/openim", always=True),
    Part(
        name="ce-type",
        text="as `type`",
        example="callbackAfterAddFriendCommand",
        always=True,
    ),
    Part(
        name="ce-time",
        text="receipt, UTC, to the millisecond",
        example="2025-01-01T00:00:00.042Z",
        always=True,
    ),
    Part(
        name="ce-partitionkey",
        text="the ordering key; the `operationID` or the callback where there is none",
        example="user_a,user_b",
    ),
    Part(
        name="x-received-ms",
        text="receipt, in milliseconds since 1970",
        example=1735689600042,
        kind="integer",
        always=True,
    ),
    Part(
        name="x-fingerprint",
        text="SHA-256 of `operationID`, callback and body, to tell repetitions",
        example="4e07408562bedb8b60ce05c1decfe3ad16b72230967de01f640b7e4729b49fce",
        always=True,
    ),
    Part(name="x-query", text="the query of the request, if it had one"),
    Part(
        name="x-deadline-ms",
        text="of a question: when its answer comes too late, in milliseconds since 1970",
        kind="integer",
        on="questions",
        always=True,
    ),
    Part(
        name="x-operation-id",
        text="of a question: OpenIM's trace id",
        on="questions",
        always=True,
    ),
    Part(name="x-handler", text="of an answer: who gives it", on="answers"),
    Part(
        name="x-verdict",
        text="of a before callback: what OpenIM was answered: `allow`, `refuse` or `change`",
        example="allow",
        on="before",
    ),
    Part(
        name="x-verdict-source",
        text="of a before callback: who decided, as `source` in the metrics says",
        example="default",
        on="before",
    ),
    Part(
        name="x-decision-ms",
        text="of a before callback: how many milliseconds deciding took",
        example="0.02",
        on="before",
    ),
    Part(
        name="x-reason",
        text="why a `malformed` body could not be read",
        example="the body is not JSON",
        on="malformed",
        always=True,
    ),
    Part(
        name="traceparent",
        text="the trace it belongs to: the receiver's span where traces are made, else as the"
        " request had it; a question has it too",
    ),
    Part(
        name="x-delivery-count",
        text="by RabbitMQ: how many times it got the message back unsettled",
        kind="integer",
        on="copies",
    ),
    Part(
        name="x-attempt",
        text="on copies: which attempt comes next, in the dead letters the last",
        kind="integer",
        on="copies",
    ),
    Part(name="x-last-error", text="on copies: why the last attempt failed", on="copies"),
    Part(name="x-first-failure", text="on copies: when the first attempt failed", on="copies"),
    Part(name="x-last-failure", text="on copies: when the last attempt failed", on="copies"),
    Part(
        name="x-routing-key",
        text="on copies: the routing key that the message came with",
        on="copies",
    ),
    Part(
        name="x-death",
        text="by RabbitMQ: the queues that it left, the last first",
        kind="array",
        on="copies",
    ),
    Part(
        name="x-replays",
        text="on replayed dead letters: how many times",
        kind="integer",
        on="replays",
    ),
    Part(name="x-replayed", text="on replayed copies: when", on="replays"),
    Part(
        name="x-stream-offset",
        text="on replayed copies, by RabbitMQ: where in the archive it was",
        kind="integer",
        on="replays",
    ),
)
"""The headers. A value is cut after 2 KiB, and all together are within 8 KiB."""


def schema(parts: Iterable[Part]) -> dict[str, Any]:
    """Give the JSON Schema of properties or headers."""
    every = list(parts)
    return {
        "type": "object",
        "properties": {
            part.name: {"type": part.kind, "description": part.text} for part in every
        },
        "required": [part.name for part in every if part.always],
    }
