"""What is published, for those who consume it: AsyncAPI 3, made from the contract."""

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any

import orjson

from bridge import openim
from bridge.contract import EVENTS, MALFORMED, Before, Event
from bridge.documents import answers, questions, schemas, traps, words
from bridge.documents.envelope import BINDING, HEADERS, PROPERTIES, On, schema
from bridge.documents.schemas import Schema
from bridge.topology import CALLBACKS

ABOUT = """\
Every callback of OpenIM, published to RabbitMQ.

Bind a queue of yours to the topic exchange `openim.callbacks`, or let `openim-bridge subscribe`
make one. A routing key is `<subject>.<before or after>.<name>.<partition>`: bind with `*` in
place of the partition, or with `<subject>.<before or after>.#` for all of one kind.

- The body is OpenIM's, byte for byte. The property `type` says which callback it is.
- Each message arrives at least once, always with the same `message_id`: forget the copies.
- Fields that are not described may be there. A body that OpenIM sent otherwise than described
  is published all the same.
- What the bridge does not know arrives as `unknown.<callback>.<partition>`, a body that is no
  JSON object as `malformed`.

"""


REFERENCE = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    """Give the document."""
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "OpenIM bridge",
            "version": version("openim-bridge"),
            "description": ABOUT + questions.ABOUT,
            "license": {"name": "Apache-2.0"},
            "tags": [{"name": subject} for subject in subjects()],
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": {
                "host": "127.0.0.1:5672",
                "protocol": "amqp",
                "protocolVersion": "0.9.1",
                "description": "The RabbitMQ that the receiver publishes to.",
                "security": [{"$ref": "#/components/securitySchemes/login"}],
            }
        },
        "channels": {name: channel for name, channel, _ in _channels()} | questions.channels(),
        "operations": {f"publish{name}": _operation(name) for name, _, _ in _channels()}
        | questions.operations(),
        "components": {
            "messages": {name: message for name, _, message in _channels()}
            | questions.messages(),
            "schemas": schemas.definitions(REFERENCE)
            | answers.definitions(REFERENCE)
            | {f"Headers{each.capitalize()}": _headers(on) for each, on in _KINDS.items()}
            | {"Properties": schema(PROPERTIES)}
            | questions.schemas(),
            "parameters": {
                "partition": {
                    "description": "The partition of the ordering key. Bind with `*` for it.",
                    "examples": ["p00", "p07"],
                },
                "command": {"description": "The callback, as its path named it."},
            },
            "securitySchemes": {"login": {"type": "userPassword"}},
        },
    }


def subjects() -> list[str]:
    """Give the first words of routing keys, in their order."""
    return list(dict.fromkeys(event.subject for event in EVENTS))


def example(event: type[Event]) -> dict[str, Any]:
    """Give a recorded body."""
    fields: dict[str, Any] = orjson.loads(openim.sample(event.command)[1])
    return fields


_KINDS: dict[str, tuple[On, ...]] = {
    "after": ("callbacks", "copies", "replays"),
    "before": ("callbacks", "before", "copies", "replays"),
    "malformed": ("callbacks", "malformed", "copies", "replays"),
}
"""What headers messages have, by their kind."""


def _channels() -> Iterator[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Give the name of each channel, the channel, and its message."""
    for event in EVENTS:
        name = event.__name__
        address = f"{event.routing_key}.{{partition}}"
        yield name, _channel(name, address, words.summary(event)), _message(event)
    about = "A callback that this release does not know, perhaps of a newer OpenIM."
    unknown = _other("Unknown", about, {"type": "object"}, "after")
    yield "Unknown", _channel("Unknown", "unknown.{command}.{partition}", about), unknown
    about = "A body that is no JSON object, compressed, or named otherwise than its path."
    malformed = _other("Malformed", about, {}, "malformed")
    yield "Malformed", _channel("Malformed", MALFORMED, about), malformed


def _channel(name: str, address: str, summary: str) -> dict[str, Any]:
    parameters = {
        each: {"$ref": f"#/components/parameters/{each}"}
        for each in ("command", "partition")
        if f"{{{each}}}" in address
    }
    return {
        "address": address,
        "title": name,
        "summary": summary,
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        **({"parameters": parameters} if parameters else {}),
        "bindings": {
            "amqp": {
                "is": "routingKey",
                "exchange": {
                    "name": CALLBACKS,
                    "type": "topic",
                    "durable": True,
                    "autoDelete": False,
                    "vhost": "/",
                },
                "bindingVersion": BINDING,
            }
        },
    }


def _operation(name: str) -> dict[str, Any]:
    return {
        "action": "send",
        "channel": {"$ref": f"#/channels/{name}"},
        "bindings": {"amqp": {"deliveryMode": 2, "timestamp": True, "bindingVersion": BINDING}},
    }


def _message(event: type[Event]) -> dict[str, Any]:
    name = event.__name__
    return {
        "name": event.command,
        "title": name,
        "summary": words.summary(event),
        "description": _listed(traps.of(event)),
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/Headers{event.phase.capitalize()}"},
        "payload": {"$ref": f"#/components/schemas/{name}"},
        "tags": [{"name": event.subject}, {"name": event.phase}],
        "bindings": {"amqp": {"messageType": event.command, "bindingVersion": BINDING}},
        "examples": [
            {
                "name": "recorded",
                "summary": "As OpenIM sent it.",
                "headers": headers(event),
                "payload": example(event),
            }
        ],
        "x-amqp-properties": {"$ref": "#/components/schemas/Properties"},
        "x-webhooks-yml": event.config_key,
        **({"x-since": event.since} if event.since else {}),
    }


def headers(event: type[Event]) -> dict[str, Any]:
    """Give the headers that the recorded body would travel with."""
    on = _KINDS["before" if issubclass(event, Before) else "after"]
    said = {part.name: part.example for part in HEADERS if part.on in on and part.example}
    key = event.ordering_key(example(event))
    return said | {"ce-type": event.command, "ce-partitionkey": key}


def _other(name: str, about: str, payload: Schema, kind: str) -> dict[str, Any]:
    return {
        "name": name.lower(),
        "title": name,
        "summary": about,
        "contentType": "application/json",
        "headers": {"$ref": f"#/components/schemas/Headers{kind.capitalize()}"},
        "payload": payload,
        "x-amqp-properties": {"$ref": "#/components/schemas/Properties"},
    }


def _headers(on: tuple[On, ...]) -> Schema:
    return schema(part for part in HEADERS if part.on in on)


def _listed(sentences: Iterable[str]) -> str:
    return "".join(f"- {sentence}\n" for sentence in sentences)
