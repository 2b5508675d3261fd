"""Reads from a table what a callback is answered."""

from dataclasses import replace
from typing import Any

import msgspec

from bridge.contract import CHANGES, COMMANDS, EVENTS, Allow, Before, Refuse, Reply
from bridge.loading import types_of
from bridge.policy.checking import Checking
from bridge.policy.deciding import Decision, Question
from bridge.policy.tables import Ask, Refusal, Table, Verdict

BEFORE = [event.__name__ for event in EVENTS if issubclass(event, Before)]
"""The callbacks that are decided about, by their short names."""

_KEYS = list(types_of(Verdict))


def event_named(name: str, where: str, checking: Checking) -> type[Before] | None:
    """Give the before callback of this name, long or short; None if there is none."""
    short = name.removeprefix("callback").removesuffix("Command")
    event = COMMANDS.get(name) or COMMANDS.get(f"callback{name}Command")
    if event is None:
        checking.unknown(short, where, "callback", BEFORE)
    elif not issubclass(event, Before):
        checking.note(f"{where}{name} only reports: there is nothing to decide")
    else:
        return event
    return None


def verdict(  # noqa: PLR0913  # a table, its place and its name
    values: dict[str, Any],
    event: type[Before],
    where: str,
    checking: Checking,
    *,
    source: str,
    name: str = "",
) -> Decision | Question | None:
    """Give what a table says of a callback; None if it says nothing that OpenIM could take.

    Args:
        values: Of the table, each as `Verdict` has it.
        event: What is answered.
        where: The table's place.
        checking: Where problems go.
        source: Where the verdict comes from.
        name: Which of several of that source.

    """
    if [key for key in _KEYS if key in values] == ["ask"]:
        question = _question(values["ask"], f"{where}ask: ", checking)
        origin = Decision(reply=Allow(), source=source, name=name).origin
        return question and replace(question, origin=origin)
    answer = _reply(values, event, where, checking)
    return None if answer is None else Decision(reply=answer, source=source, name=name)


def _reply(
    values: dict[str, Any], event: type[Before], where: str, checking: Checking
) -> Reply | None:
    match [name for name in _KEYS if name in values]:
        case ["allow"]:
            return Allow()
        case ["refuse"]:
            return _refusal(values["refuse"], f"{where}refuse: ", checking)
        case ["change"]:
            return _change(values["change"], event, f"{where}change: ", checking)
        case names:
            instead = f", not {' and '.join(names)}" if names else ""
            checking.note(f"{where}must have one of {', '.join(_KEYS)}{instead}")
            return None


def _question(table: Table, where: str, checking: Checking) -> Question | None:
    values = checking.sound(Ask, table, where)
    if values is None:
        return None
    within = values.get("within", Ask().within)
    if "refuse" not in values:
        return Question(within=within, otherwise=Allow())
    refusal = _refusal(values["refuse"], f"{where}refuse: ", checking)
    return None if refusal is None else Question(within=within, otherwise=refusal)


def _refusal(table: Table, where: str, checking: Checking) -> Refuse | None:
    refusal = checking.sound(Refusal, table, where)
    return None if refusal is None else Refuse(**refusal)


def _change(table: Table, event: type[Before], where: str, checking: Checking) -> Reply | None:
    if event not in CHANGES:
        checking.note(f"{where}OpenIM lets nothing be changed at {event.__name__}")
        return None
    kind = CHANGES[event]
    strange = [name for name in table if name not in kind.__struct_encode_fields__]
    for name in strange:
        checking.unknown(name, where, "field", list(kind.__struct_encode_fields__))
    if not table:
        checking.note(f"{where}names no field")
    try:
        return msgspec.convert(table, kind) if table and not strange else None
    except ValueError as error:
        checking.note(f"{where}{error}")
        return None
