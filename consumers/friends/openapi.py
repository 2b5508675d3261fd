"""The description of the API, for programs: OpenAPI 3.1, made from its routes."""

from collections.abc import Iterator
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec
from msgspec import Struct

from bridge.documents.openapi import REFERENCE, response
from consumers.friends.routes import ROUTES, STREAM, Description, Ready, Route, Trouble
from consumers.friends.verifications import Verification

ABOUT = (
    "Friend verification messages, friends and black lists, as OpenIM's callbacks told of them."
    " For the App's backend: the token is no business of a browser, whose EventSource could not"
    " send it either."
)

EVENTS = (
    "Server-sent events, for as long as the client reads: their `event` is the message's kind,"
    " their `data` a `Verification`, their `id` what to send as `Last-Event-ID` to go on behind"
    " it after the stream has ended. Without that header, it begins now; with 0, at the"
    " beginning. After some silence comes a comment with an `id`."
)

LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "The `id` of the last event that was seen, or `last_event_id` of a list.",
    "schema": {"type": "string", "pattern": "^[0-9]{1,18}$"},
}


@cache
def described() -> Description:
    """Give the description."""
    answers = {route.answer for route in ROUTES if route.answer} | {Trouble, Verification}
    _, schemas = msgspec.json.schema_components(
        sorted(answers, key=lambda each: each.__name__),
        ref_template=REFERENCE,
    )
    return Description(
        openapi="3.1.0",
        info={"title": "Friends", "version": version("openim-bridge"), "description": ABOUT},
        paths={route.path: {"get": _operation(route)} for route in ROUTES},
        components={
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    )


def _operation(route: Route) -> dict[str, Any]:
    return {
        "operationId": route.name,
        "summary": route.summary,
        "security": [] if route.open else [{"token": []}],
        "parameters": list(_parameters(route)),
        "responses": dict(_responses(route)),
    }


def _parameters(route: Route) -> Iterator[dict[str, Any]]:
    if route.media == STREAM:
        yield LAST_EVENT_ID
    names = {field.encode_name: field for field in msgspec.structs.fields(route.query)}
    for name, field in names.items():
        schema = msgspec.json.schema(field.type)
        schema.pop("title", None)
        if isinstance(field.default, int):
            schema["default"] = field.default
        in_path = f"{{{name}}}" in route.path
        yield {
            "name": name,
            "in": "path" if in_path else "query",
            "required": field.required,
            "description": schema.pop("description"),
            "schema": schema,
        }


def _responses(route: Route) -> Iterator[tuple[str, dict[str, Any]]]:
    if route.answer is None:
        about = EVENTS if route.media == STREAM else "Prometheus' text format."
        content: dict[str, Any] = {route.media: {"schema": {"type": "string"}}}
        yield "200", {"description": about, "content": content}
    else:
        yield "200", response(_sentence(route.answer), route.answer.__name__)
    if route.answer is Ready:
        yield "503", response("The database cannot be read.", Ready.__name__)
    for status in sorted({400, *((401, 503) if not route.open else ()), *route.problems}):
        yield str(status), response(HTTPStatus(status).phrase, Trouble.__name__)


def _sentence(answer: type[Struct]) -> str:
    return (answer.__doc__ or "").splitlines()[0]
