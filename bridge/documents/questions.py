"""What decision handlers are asked, and answer, in AsyncAPI: request and reply."""

from typing import Any

from bridge.contract import CHANGES, Before
from bridge.documents import answers, words
from bridge.documents.answers import ASKED
from bridge.documents.envelope import (
    ANSWER_PROPERTIES,
    BINDING,
    HEADERS,
    QUESTION_PROPERTIES,
    Part,
    schema,
)
from bridge.documents.schemas import Schema
from bridge.questions import queue_name, topology

ABOUT = """\
Where the policy says `ask`, the receiver asks a decision handler while OpenIM waits: the
channels `Ask…`. To be one,

- declare the queue, durable and with exactly its `x-arguments`; consume it, and ack. It goes
  with its last consumer.
- Publish the answer to the default exchange, with the question's `reply_to` as the routing key
  and the same `correlation_id`. In AMQP these are properties, not headers.
- An answer after `x-deadline-ms` is dropped. The clocks of both sides must agree.
- If no answer comes in time, OpenIM gets what `refuse` of the policy's `ask` says, or goes on
  where there is none; after `failed`, or an answer that its schema does not allow, at once.
- A question that was not acked may come again, to another decision handler.
"""

HEADERS_OF_QUESTIONS = tuple(
    part for part in HEADERS if part.on == "questions" or part.name == "traceparent"
)
HEADERS_OF_ANSWERS = tuple(part for part in HEADERS if part.on == "answers")


def channels() -> dict[str, Any]:
    """Give the queue of each question, and the channel of all answers, by name."""
    messages = [answers.name(event) for event in ASKED]
    return {f"Ask{event.__name__}": _channel(event) for event in ASKED} | {
        "Answers": {
            "address": None,
            "title": "Answers",
            "summary": "What decision handlers answer, each to the `reply_to` of its question.",
            "messages": {name: _reference("components", "messages", name) for name in messages},
        }
    }


def operations() -> dict[str, Any]:
    """Give the asking of each question, by name."""
    return {f"ask{event.__name__}": _operation(event) for event in ASKED}


def messages() -> dict[str, Any]:
    """Give the question about each callback and the answer to it, by name."""
    questions = {f"Question{event.__name__}": _question(event) for event in ASKED}
    return questions | {answers.name(event): _answer(event) for event in ASKED}


def schemas() -> dict[str, Schema]:
    """Give the schemas of headers and properties, by name."""
    parts: dict[str, tuple[Part, ...]] = {
        "HeadersQuestion": HEADERS_OF_QUESTIONS,
        "HeadersAnswer": HEADERS_OF_ANSWERS,
        "PropertiesQuestion": QUESTION_PROPERTIES,
        "PropertiesAnswer": ANSWER_PROPERTIES,
    }
    return {name: schema(each) for name, each in parts.items()}


def _channel(event: type[Before]) -> dict[str, Any]:
    name = f"Question{event.__name__}"
    (queue,) = topology([event]).queues
    return {
        "address": queue_name(event),
        "title": f"Ask{event.__name__}",
        "summary": words.summary(event),
        "messages": {name: _reference("components", "messages", name)},
        "bindings": {
            "amqp": {
                "is": "queue",
                "queue": {
                    "name": queue.name,
                    "durable": True,
                    "exclusive": False,
                    "autoDelete": False,
                    "vhost": "/",
                    "x-arguments": dict(queue.arguments),
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(event: type[Before]) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": _reference("channels", f"Ask{event.__name__}"),
        "reply": {
            "address": {
                "location": "$message.header#/reply_to",
                "description": "The AMQP property `reply_to`.",
            },
            "channel": _reference("channels", "Answers"),
            "messages": [_reference("channels", "Answers", "messages", answers.name(event))],
        },
        "bindings": {"amqp": {"deliveryMode": 1, "mandatory": True, "bindingVersion": BINDING}},
    }


_CORRELATION = {
    "location": "$message.header#/correlation_id",
    "description": "The AMQP property `correlation_id`.",
}


def _question(event: type[Before]) -> dict[str, Any]:
    return {
        "name": event.command,
        "title": f"Question{event.__name__}",
        "summary": words.summary(event),
        "contentType": "application/json",
        "correlationId": _CORRELATION,
        "headers": _reference("components", "schemas", "HeadersQuestion"),
        "payload": _reference("components", "schemas", event.__name__),
        "bindings": {"amqp": {"messageType": event.command, "bindingVersion": BINDING}},
        "x-amqp-properties": _reference("components", "schemas", "PropertiesQuestion"),
    }


def _answer(event: type[Before]) -> dict[str, Any]:
    changeable = ", ".join(f"`{name}`" for name in changes(event))
    return {
        "name": answers.name(event),
        "title": answers.name(event),
        "summary": f"It may change {changeable}." if changeable else "It can change nothing.",
        "contentType": "application/json",
        "correlationId": _CORRELATION,
        "headers": _reference("components", "schemas", "HeadersAnswer"),
        "payload": _reference("components", "schemas", answers.name(event)),
        "examples": [
            {"name": "allow", "payload": {"allow": True}},
            {"name": "refuse", "payload": {"refuse": {"code": 20001, "message": "Not today"}}},
        ],
        "x-amqp-properties": _reference("components", "schemas", "PropertiesAnswer"),
    }


def changes(event: type[Before]) -> tuple[str, ...]:
    """Name the fields that an answer may change."""
    return CHANGES[event].__struct_encode_fields__ if event in CHANGES else ()


def _reference(*path: str) -> dict[str, str]:
    return {"$ref": "/".join(("#", *path))}
