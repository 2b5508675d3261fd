"""Where a rule looks: a field of a callback's body, or what is inside it.

sendID          a field
users.userID    a field of each entry of a list
content.text    a field of the JSON document that a text holds
content.*       every text in that document, at any depth; the text itself if it is none
"""

from collections.abc import Callable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, TypeAlias, Union, get_args, get_origin

import msgspec
import orjson
from msgspec import Struct

from bridge.contract import Event
from bridge.loading import unknown
from bridge.policy.checking import Mistake

Found: TypeAlias = Sequence[object]
Read: TypeAlias = Callable[[Mapping[str, object]], Found]
"""Gives what stands at a path in the JSON fields of a body; nothing where it is missing."""

EVERY = "*"

_COMPARED = (str, int, float)


def reader(path: str) -> Read:
    """Give the function that reads a path."""
    name, *rest = path.split(".")
    if not rest:

        def one(fields: Mapping[str, object]) -> Found:
            value = fields.get(name)
            return (value,) if type(value) is str else _flat([value])

        return one
    if rest == [EVERY]:
        return lambda fields: _texts(fields.get(name))

    def read(fields: Mapping[str, object]) -> Found:
        found: list[object] = [fields.get(name)]
        for step in rest:
            found = [inner for each in found for inner in _inside(each, step)]
        return _flat(found)

    return read


def _flat(found: list[object]) -> Found:
    """Replace lists by their entries, and leave out what no rule compares: null, objects."""
    flat: list[object] = []
    for each in found:
        if isinstance(each, _COMPARED):
            flat.append(each)
        elif isinstance(each, list):
            flat.extend(entry for entry in each if isinstance(entry, _COMPARED))
    return flat


def _inside(value: object, step: str) -> Found:
    if step == EVERY:
        return _texts(value)
    if isinstance(value, str):
        value = _document(value)
    inside = value if isinstance(value, list) else [value]
    return [each.get(step) for each in inside if isinstance(each, dict)]


def _texts(value: object) -> list[str]:
    """Give every text in a value, those in documents that are texts themselves too."""
    # Not recursive: anybody may nest. The list grows while it is gone through.
    found, waiting = [], [value]
    for each in waiting:
        if isinstance(each, str):
            document = _document(each)
            if document is None:
                found.append(each)
            else:
                waiting.append(document)
        elif isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list):
            waiting += each
    return found


def _document(text: str) -> dict[str, object] | list[object] | None:
    """Read the JSON object or list that a text holds; None if it holds none."""
    if not text.startswith(("{", "[")):
        return None
    try:
        document: dict[str, object] | list[object] = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return document


def kind_of(event: type[Event], path: str) -> type:
    """Give the type of what stands at a path: str, int or bool, or object if nobody knows.

    Raises:
        Mistake: nothing can stand there.

    """
    steps = path.split(".")
    if "" in steps:
        raise Mistake(f"{path!r} has a blank name in it")
    if EVERY in steps[:-1]:
        raise Mistake(f"nothing is inside of {EVERY}, which is every text")
    kind: type = event
    seen = event.__name__
    for step in steps:
        kind = _kind_inside(kind, step, seen)
        seen = f"{seen}.{step}"
        if kind is object:
            break
    if issubclass(kind, Struct):
        inside = kind.__struct_encode_fields__[0]
        raise Mistake(f"{path} holds several values; name one, such as {path}.{inside}")
    return kind


def _kind_inside(kind: type, step: str, seen: str) -> type:
    if issubclass(kind, Struct):
        fields = {each.encode_name: each.type for each in msgspec.structs.fields(kind)}
        if step not in fields:
            raise Mistake(f"in {seen}, " + unknown(step, "field", list(fields)))
        return _plain(fields[step])
    if kind is not str:
        raise Mistake(f"{seen} is no text that something could be in")
    return str if step == EVERY else object


def _plain(annotated: Any) -> type:  # noqa: ANN401  # as typing has it
    """Strip what says that a value may be null, has bounds, or comes in a list."""
    origin, parts = get_origin(annotated), get_args(annotated)
    if origin is Annotated or origin is list:
        return _plain(parts[0])
    if origin in {Union, UnionType}:
        return _plain(next(part for part in parts if part is not type(None)))
    plain: type = annotated
    return plain
