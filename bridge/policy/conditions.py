"""Reads what must hold for a rule to apply."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from bridge.contract import Event
from bridge.loading import unknown
from bridge.policy.checking import Mistake
from bridge.policy.deciding import Condition
from bridge.policy.operators import OPERATORS, Operator, Values
from bridge.policy.paths import kind_of, reader

Lists: TypeAlias = Mapping[str, Values]
"""The lists of a file, by their names."""

_NAMES = {str: "text", int: "a number", float: "a number", bool: "true or false"}


def condition(
    values: Mapping[str, Any], events: Sequence[type[Event]], lists: Lists
) -> Condition:
    """Give the condition that a table says.

    Args:
        values: Of the table, each as `tables.Condition` has it.
        events: The callbacks that it is about.
        lists: What it may compare with.

    Raises:
        Mistake: it could never hold, or makes no sense.

    """
    path, operator = values["field"], OPERATORS[values["op"]]
    kinds = {kind_at(path, operator.finds, event) for event in events}
    compared = (
        _listed(values, operator, lists) if "list" in values else _given(values, operator)
    )
    if operator.same:
        for each in compared:
            _check_same(path, kinds, each)
    return Condition(reader(path), operator.make(compared))


def kind_at(path: str, finds: Sequence[type], event: type[Event]) -> type:
    """Give the type of what stands at a path, which must be one of `finds` or unknown.

    Raises:
        Mistake: it is another, or nothing can stand there.

    """
    kind = kind_of(event, path)
    if kind is not object and kind not in finds:
        raise Mistake(f"{path} is {_NAMES[kind]}, not {_named(finds)}")
    return kind


def _given(values: Mapping[str, Any], operator: Operator) -> Values:
    if "value" not in values:
        raise Mistake("value or list is missing: what to compare with")
    given = values["value"] if isinstance(values["value"], list) else [values["value"]]
    if len(given) != 1 and not operator.several:
        raise Mistake(f"{values['op']} compares with one value")
    for each in given:
        if type(each) not in operator.takes:
            raise Mistake(
                f"{values['op']} compares with {_named(operator.takes)}, not {each!r}"
            )
    return given


def _listed(values: Mapping[str, Any], operator: Operator, lists: Lists) -> Values:
    name = values["list"]
    if "value" in values:
        raise Mistake("value and list are both there; keep one of them")
    if name not in lists:
        raise Mistake(unknown(name, "list", list(lists)))
    if str not in operator.takes:
        raise Mistake(f"{values['op']} compares with {_named(operator.takes)}, not with a list")
    return lists[name]


def _check_same(path: str, kinds: set[type], value: object) -> None:
    for kind in kinds - {object, type(value)}:
        raise Mistake(f"{path} is {_NAMES[kind]}, and never {value!r}")


def _named(kinds: Sequence[type]) -> str:
    return " or ".join(dict.fromkeys(_NAMES[kind] for kind in kinds))
