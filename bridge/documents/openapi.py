"""What the receiver takes and answers, for programs: OpenAPI 3.1, made from the contract."""

from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import orjson

from bridge.contract import ALLOW, CHANGES, EVENTS, Before, Event
from bridge.documents import answers, asyncapi, schemas, traps, words
from bridge.documents.schemas import Schema
from bridge.settings import Receiver as Settings

ABOUT = """\
OpenIM calls this, and nobody else has to. The first part of each callback's path is the setting
`BRIDGE_PATH`. A callback that is not here is taken too, if its name consists of letters.

OpenIM reads no HTTP status. Every answer is a JSON object that its decoder takes, and one that
reports a problem has `actionCode` 1, which lets the operation go on.
"""

REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True)
class Rejection:
    """What a request may get instead of being taken."""

    status: str
    reason: str
    """Label of `openim_bridge_rejected_total`."""

    when: str
    kept: bool = False
    """Whether the body is published all the same, as `malformed`."""


REJECTIONS = (
    Rejection("400", "malformed", "the body is not a JSON object", kept=True),
    Rejection("400", "command", "path and body name different callbacks", kept=True),
    Rejection("400", "cut", "the connection broke before the body was here"),
    Rejection("4xx", "http", "this is no HTTP, or a line of it is too long"),
    Rejection("401", "secret", "none of `BRIDGE_SECRETS`, or a wrong one"),
    Rejection("403", "source", "not from `BRIDGE_SOURCES`"),
    Rejection("404", "path", "another path, or a wrong secret in it"),
    Rejection("405", "method", "not a POST"),
    Rejection("408", "stalled", "head or body did not arrive within `BRIDGE_ARRIVAL_TIMEOUT`"),
    Rejection("413", "size", "the body is larger than `BRIDGE_MAX_BODY`"),
    Rejection("415", "encoding", "the body is compressed", kept=True),
    Rejection("500", "internal", "a fault of ours; the log tells"),
    Rejection("503", "full", "the journal's quota or the disk is used up"),
    Rejection(
        "503",
        "slow_disk",
        "the disk did not answer within `BRIDGE_REPLY_TIMEOUT`; it may be kept",
    ),
)
"""By status."""

PROBES = {
    "/livez": ("live", "Ask whether the process runs.", "application/json", "object"),
    "/readyz": ("ready", "Ask whether callbacks are taken.", "application/json", "object"),
    "/metrics": ("metrics", "Get the metrics, for Prometheus.", "text/plain", "string"),
}


def document() -> dict[str, Any]:
    """Give the document."""
    definitions = schemas.definitions(REFERENCE)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "OpenIM bridge: the receiver",
            "version": version("openim-bridge"),
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": f"http://127.0.0.1:{Settings().port}"}],
        "tags": [{"name": subject} for subject in asyncapi.subjects()],
        "paths": {
            **{f"{Settings().path}/{event.command}": _callback(event) for event in EVENTS},
            **{path: _probe(*probe) for path, probe in PROBES.items()},
        },
        "components": {
            "schemas": {**definitions, **_changes(), "Reply": _COMMON},
            "responses": dict(_rejected()),
            "securitySchemes": {"secret": {"type": "http", "scheme": "basic"}},
        },
    }


def response(words_of_it: str, name: str) -> dict[str, Any]:
    """Give an answer in JSON, whose schema has this name."""
    schema = {"$ref": REFERENCE.format(name=name)}
    return {"description": words_of_it, "content": {"application/json": {"schema": schema}}}


_COMMON: Schema = {
    "type": "object",
    "description": "OpenIM goes on, unless `actionCode` is 0 and `nextCode` 1.",
    "properties": {
        "actionCode": {"type": "integer", "enum": [0, 1]},
        "errCode": {"type": "integer", "minimum": 0, "maximum": 29999},
        "errMsg": {"type": "string"},
        "errDlt": {"type": "string"},
        "nextCode": {"type": "integer", "enum": [0, 1]},
    },
    "required": ["actionCode", "errCode", "errMsg", "errDlt", "nextCode"],
}


def _changes() -> dict[str, Schema]:
    """Give the schemas of changes, each beside the five fields that every reply has."""
    closed = answers.changes(REFERENCE)
    for kind in CHANGES.values():
        del closed[kind.__name__]["additionalProperties"]
    return closed


def _callback(event: type[Event]) -> dict[str, Any]:
    # By another name it may come at another path only.
    same = {"properties": {"callbackCommand": {"const": event.command}}}
    schema = {"allOf": [{"$ref": REFERENCE.format(name=event.__name__)}, same]}
    content = {"schema": schema, "example": asyncapi.example(event)}
    return {
        "post": {
            "operationId": event.__name__,
            "summary": words.summary(event),
            "description": "".join(f"- {trap}\n" for trap in traps.of(event)),
            "tags": [event.subject],
            "security": [{}, {"secret": []}],
            "parameters": [_OPERATION_ID],
            "requestBody": {"required": True, "content": {"application/json": content}},
            "responses": {"200": _taken(event), **_REJECTED},
        }
    }


_OPERATION_ID = {
    "name": "operationID",
    "in": "header",
    "description": "OpenIM's trace id; published as `correlation_id`.",
    "schema": {"type": "string"},
}


def _taken(event: type[Event]) -> dict[str, Any]:
    words_of_it = "What the policy says." if issubclass(event, Before) else "It is on disk."
    return {
        "description": words_of_it,
        "content": {
            "application/json": {"schema": _reply(event), "example": orjson.loads(ALLOW)}
        },
    }


def _reply(event: type[Event]) -> Schema:
    """Give the schema of the answer to a callback that is taken."""
    schema: Schema = {"$ref": REFERENCE.format(name="Reply")}
    more: list[Schema] = []
    if issubclass(event, Before) and event in CHANGES:
        more.append({"$ref": REFERENCE.format(name=CHANGES[event].__name__)})
    if event.echoed:
        types = schemas.definitions(REFERENCE)[event.__name__]["properties"]
        more.append({"properties": {name: types[name] for name in event.echoed}})
    # An echoed field may be null, which no change may.
    return {"allOf": [schema, {"anyOf": more} if event.echoed else more[0]]} if more else schema


_STATUSES = tuple(dict.fromkeys(each.status for each in REJECTIONS if each.status.isdecimal()))
_REJECTED = {
    status: {"$ref": f"#/components/responses/Rejected{status}"} for status in _STATUSES
}


def _rejected() -> Iterable[tuple[str, dict[str, Any]]]:
    for status in _STATUSES:
        whens = "; ".join(each.when for each in REJECTIONS if each.status == status)
        phrase = HTTPStatus(int(status)).phrase
        yield f"Rejected{status}", response(f"{phrase}: {whens}.", "Reply")


def _probe(name: str, summary: str, kind: str, schema: str) -> dict[str, Any]:
    content = {kind: {"schema": {"type": schema}}}
    return {
        "get": {
            "operationId": name,
            "summary": summary,
            "responses": {
                "200": {"description": "Yes.", "content": content},
                "503": {"description": "No.", "content": content},
            },
        }
    }
