"""What the contract says of itself: the sentences of its classes and of their fields.

The sentences stand in the code once, as docstrings. They name fields as Python does, and are
given here in the words of JSON, for readers who see only that.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise

from msgspec import Struct

from bridge.contract import Event


@cache
def of_fields(kind: type[Struct]) -> Mapping[str, str]:
    """Give what is said of a class's fields, by their names in JSON."""
    names = _wire_names(kind)
    said: dict[str, str] = {}
    for each in reversed(kind.__mro__[: kind.__mro__.index(Struct)]):
        said |= _strings(each.__module__).get(each.__name__, {})
    return {
        names[attribute]: _in_json_words(text, names)
        for attribute, text in said.items()
        if attribute in names
    }


def summary(kind: type[Struct]) -> str:
    """Give the first sentence about a class."""
    return _paragraphs(kind)[0]


def whole(kind: type[Struct]) -> str:
    """Give all that is said of a class itself."""
    return _in_json_words(" ".join(_paragraphs(kind)), _wire_names(kind))


def details(kind: type[Struct]) -> Iterator[str]:
    """Give what else is said of a callback, that of its kind first."""
    names = _wire_names(kind)
    for each in reversed(kind.__mro__):
        if issubclass(each, Event) and each is not Event:
            yield from (_in_json_words(text, names) for text in _paragraphs(each)[1:])


def _wire_names(kind: type[Struct]) -> dict[str, str]:
    return dict(zip(kind.__struct_fields__, kind.__struct_encode_fields__, strict=True))


def _paragraphs(kind: type[Struct]) -> list[str]:
    text = inspect.cleandoc(vars(kind).get("__doc__") or kind.__name__)
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _in_json_words(text: str, names: Mapping[str, str]) -> str:
    plain = " ".join(text.split())
    spelled = re.sub(r"`(\w+)`", lambda found: f"`{names.get(found[1], found[1])}`", plain)
    return re.sub(r"\bNone\b", "`null`", spelled)


@cache
def _strings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Give the strings beneath the fields of a module's classes, by class and field."""
    tree = ast.parse(inspect.getsource(sys.modules[module]))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    return {each.name: dict(_beneath(each.body)) for each in classes}


def _beneath(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for statement, following in pairwise(body):
        match statement, following:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, text
            case _:
                pass
