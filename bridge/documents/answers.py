"""JSON Schemas of what decision handlers answer, made from the classes of the contract.

An answer has one key. What `bridge.questions.decoded` takes beside that is no part of what is
promised.
"""

from collections.abc import Iterator
from functools import cache

import msgspec
from msgspec import Struct, inspect

from bridge.contract import CHANGES, EVENTS, Before, Refuse
from bridge.documents import words
from bridge.documents.schemas import Schema, options

ASKED = tuple(event for event in EVENTS if issubclass(event, Before))
"""What decision handlers may be asked about."""


def name(event: type[Before]) -> str:
    """Name the schema of the answers to a question."""
    return f"Answer{event.__name__}"


def definitions(reference: str) -> dict[str, Schema]:
    """Give the schemas of the answers to each question, and of what is in them.

    Args:
        reference: How one refers to another, with `{name}` in it.

    """
    answers = {name(event): _answer(event, reference) for event in ASKED}
    return dict(_shared(reference)) | changes(reference) | answers


def changes(reference: str) -> dict[str, Schema]:
    """Give the schemas of all that may be changed, by class."""
    _, schemas = msgspec.json.schema_components(CHANGES.values(), ref_template=reference)
    for kind in _kinds():
        _describe(kind, schemas[kind.__name__])
    return dict(sorted(schemas.items()))


def _shared(reference: str) -> Iterator[tuple[str, Schema]]:
    """Give what may be answered to every question."""
    _, schemas = msgspec.json.schema_components([Refuse], ref_template=reference)
    refusal = schemas["Refuse"]
    _describe(Refuse, refusal)
    yield "Allow", _only("allow", {"const": True}) | {"description": "OpenIM goes on."}
    yield "Refuse", _only("refuse", refusal)
    failed = {"type": "string", "minLength": 1, "description": "Why, for the log."}
    about = "There is no decision: OpenIM is answered what the policy's `ask` says."
    yield "Failed", _only("failed", failed) | {"description": about}


def _answer(event: type[Before], reference: str) -> Schema:
    shared = [{"$ref": reference.format(name=each)} for each, _ in _shared(reference)]
    more = []
    if event in CHANGES:
        change = {"$ref": reference.format(name=CHANGES[event].__name__)}
        more = [_only("change", change)]
    return {"oneOf": [*shared, *more]}


def _only(key: str, schema: Schema) -> Schema:
    return {
        "type": "object",
        "properties": {key: schema},
        "required": [key],
        "additionalProperties": False,
    }


@cache
def _kinds() -> tuple[type[Struct], ...]:
    """Give the classes of changes, and of what is in them."""
    return tuple(dict.fromkeys(each for kind in CHANGES.values() for each in _within(kind)))


def _within(kind: type[Struct]) -> Iterator[type[Struct]]:
    yield kind
    for field in msgspec.structs.fields(kind):
        for each in options(field.type):
            items = options(each.item_type) if isinstance(each, inspect.ListType) else (each,)
            yield from (item.cls for item in items if isinstance(item, inspect.StructType))


def _describe(kind: type[Struct], schema: Schema) -> None:
    schema["description"] = words.whole(kind)
    for field, text in words.of_fields(kind).items():
        schema["properties"][field]["description"] = text
