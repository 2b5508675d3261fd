"""JSON Schemas of the bodies, made from the classes of the contract.

They say what `bridge.contract.decode` takes: other fields may be there, an alias may stand for
a field, and fields that releases of OpenIM leave out are not required.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct, inspect

from bridge.contract import EVENTS, AfterAddFriend, AfterAddFriendAgree, Event
from bridge.documents import words

Schema: TypeAlias = dict[str, Any]

DRAFT = "https://json-schema.org/draft/2020-12/schema"

ANOTHER_SPELLING = "Another spelling of"
"""What the description of an alias begins with."""

ABOUT = (
    "The bodies of OpenIM's callbacks, as openim-bridge publishes them. $defs has a schema for"
    " each callback, under the name of its class: AfterAddFriend for"
    " callbackAfterAddFriendCommand. The AMQP property `type` says which callback a message is."
    " A body that OpenIM sent otherwise is published too, so be ready for one that does not"
    " match. Fields that are not here may be there."
)


def document() -> Schema:
    """Give one document with the schemas of all callbacks."""
    references = [{"$ref": f"#/$defs/{event.__name__}"} for event in EVENTS]
    return {
        "$schema": DRAFT,
        "title": "Callbacks of OpenIM",
        "description": ABOUT,
        "anyOf": references,
        "$defs": definitions("#/$defs/{name}"),
    }


def definitions(reference: str) -> dict[str, Schema]:
    """Give the schemas of all callbacks and of what is in them, by class.

    Args:
        reference: How one refers to another, with `{name}` in it.

    """
    _, schemas = msgspec.json.schema_components(EVENTS, ref_template=reference)
    for kind in kinds():
        _describe(kind, schemas[kind.__name__])
    for event in EVENTS:
        _open(event, schemas[event.__name__])
    return dict(sorted(schemas.items()))


@cache
def kinds() -> tuple[type[Struct], ...]:
    """Give the classes of all callbacks, and of the entries of their lists."""
    entries = {kind for event in EVENTS for kind in _entries(event)}
    return (*EVENTS, *sorted(entries, key=lambda kind: kind.__name__))


def _entries(event: type[Event]) -> Iterator[type[Struct]]:
    for field in msgspec.structs.fields(event):
        for each in options(field.type):
            items = options(each.item_type) if isinstance(each, inspect.ListType) else ()
            yield from (item.cls for item in items if isinstance(item, inspect.StructType))


def options(annotation: object) -> tuple[inspect.Type, ...]:
    """Give what a value may be: the parts of a union, or the one type."""
    described = (
        annotation if isinstance(annotation, inspect.Type) else inspect.type_info(annotation)
    )
    return described.types if isinstance(described, inspect.UnionType) else (described,)


def _describe(kind: type[Struct], schema: Schema) -> None:
    schema["description"] = words.summary(kind)
    for name, text in words.of_fields(kind).items():
        schema["properties"][name]["description"] = text


def _open(event: type[Event], schema: Schema) -> None:
    """Add what a body may have beside its fields: its command, and other spellings."""
    properties: dict[str, Schema] = schema["properties"]
    spellings = {alias: name for alias, name in event.aliases.items() if name in properties}
    for alias, name in spellings.items():
        meant = {key: value for key, value in properties[name].items() if key != "default"}
        properties[alias] = meant | {"description": f"{ANOTHER_SPELLING} `{name}`."}
    schema["properties"] = {"callbackCommand": _command(event), **properties}
    required: list[str] = schema.pop("required", [])
    schema["required"] = [name for name in required if name not in spellings.values()]
    either = [_either(name, spellings) for name in required if name in spellings.values()]
    schema |= {"allOf": either} if either else {}


def _either(name: str, spellings: Mapping[str, str]) -> Schema:
    """Require a field, in whatever spelling."""
    others = (alias for alias, meant in spellings.items() if meant == name)
    return {"anyOf": [{"required": [each]} for each in (name, *others)]}


def _command(event: type[Event]) -> Schema:
    return {
        "type": "string",
        "enum": list(commands(event)),
        "description": "The callback, as the AMQP property `type` says too.",
    }


def commands(event: type[Event]) -> tuple[str, ...]:
    """Give the commands under which a callback may come."""
    # As OpenIM's page on agreements shows it, see `contract.event_type`.
    shown = (AfterAddFriend.command,) if event is AfterAddFriendAgree else ()
    return (event.command, *event.old_commands, *shown)
