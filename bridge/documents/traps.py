"""What surprises those who read a callback, in sentences: said of it, or following from it."""

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from msgspec import inspect

from bridge.contract import AfterAddFriendAgree, Event
from bridge.contract.event import wire_name
from bridge.documents import words
from bridge.documents.schemas import options


def of(event: type[Event]) -> list[str]:
    """Give the traps of a callback."""
    return [*words.details(event), *_names(event), *_values(event), *_operation(event)]


def _names(event: type[Event]) -> Iterator[str]:
    yield from _commands(event)
    odd = [
        name
        for attribute, name in zip(
            event.__struct_fields__, event.__struct_encode_fields__, strict=True
        )
        if name != wire_name(attribute)
    ]
    if odd:
        yield f"Spelled otherwise than in other callbacks: {_listed(odd)}."
    others = [
        f"`{alias}` for `{name}`"
        for alias, name in event.aliases.items()
        if name in event.__struct_encode_fields__
    ]
    if others:
        yield f"Some releases and documents of OpenIM write {', '.join(others)}."


def _commands(event: type[Event]) -> Iterator[str]:
    if "Before" in event.command and event.phase == "after":
        yield "It is an after callback, whatever its name says."
    if event is AfterAddFriendAgree:
        yield (
            "OpenIM's page on agreements shows it as `callbackAfterAddFriendCommand`; sent so,"
            " it has this routing key and that `type`."
        )
    if event.old_commands:
        yield (
            f"In old releases of OpenIM it is called {_listed(event.old_commands)}: the same"
            " routing key, but that `type`."
        )


def _values(event: type[Event]) -> Iterator[str]:
    fields = msgspec.structs.fields(event)
    lists = [field.encode_name for field in fields if _is_list(field.type)]
    if lists:
        yield f"May be `null`, where others would send an empty list: {_listed(lists)}."
    documents = [field.encode_name for field in fields if _holds_json(field.type)]
    if documents:
        yield f"A string that holds a JSON document of its own: {_listed(documents)}."


def _operation(event: type[Event]) -> Iterator[str]:
    if "operationID" not in event.__struct_encode_fields__:
        yield "The body has no `operationID`: it is the AMQP property `correlation_id`."


def _is_list(annotation: object) -> bool:
    return any(isinstance(each, inspect.ListType) for each in options(annotation))


def _holds_json(annotation: object) -> bool:
    schema: dict[str, Any] = msgspec.json.schema(annotation)
    return "contentMediaType" in schema


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
