"""Reads a policy from its file, and says all that is wrong with it at once."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from bridge.contract import CHANGES, COMMANDS, EVENTS, Allow, Before, Event, Refuse, Reply
from bridge.loading import LONGEST_SHOWN, BadSettings, allowed, checked, types_of, unknown, why
from bridge.policy.deciding import POLICY, Decision, Policy
from bridge.policy.tables import File, Refusal, Table, Verdict

BEFORE: Mapping[str, type[Before]] = {
    event.__name__: event for event in EVENTS if issubclass(event, Before)
}
"""The callbacks that are decided about, by their short names."""


def read(path: str) -> Policy:
    """Read a policy; without a path, the one that allows everything.

    Raises:
        BadSettings: with every problem that was found.

    """
    if not path:
        return Policy()
    reading = _Reading(path)
    policy = reading.policy()
    if reading.problems:
        raise BadSettings(reading.problems)
    return policy


class _Reading:
    """One file that is read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.problems: list[str] = []

    def policy(self) -> Policy:
        try:
            tables = tomllib.loads(Path(self._path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            self._note(f"cannot be read: {why(error)}")
            return Policy()
        file = self._checked(File, tables, "")
        return Policy(self._commands(file.get("commands", {})))

    def _note(self, problem: str) -> None:
        self.problems.append(f"{self._path}: {problem}")

    def _checked(self, kind: type[Struct], table: object, where: str) -> dict[str, Any]:
        """Give those values of a table that are as `kind` says; note what is wrong."""
        if not isinstance(table, dict):
            self._note(f"{where}must be a table")
            return {}
        types = types_of(kind)
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in types:
                self._note(where + unknown(name, "key", list(types)))
                continue
            try:
                values[name] = checked(value, types[name], strict=True)
            except ValueError:
                shown = repr(value)[:LONGEST_SHOWN]
                self._note(f"{where}{name}={shown} is not allowed: {allowed(types[name])}")
        for field in msgspec.structs.fields(kind):
            if field.required and field.name not in table:
                self._note(f"{where}{field.name} is missing: {allowed(types[field.name])}")
        return values

    def _commands(self, tables: Table) -> dict[type[Event], Decision]:
        decisions: dict[type[Event], Decision] = {}
        for name, table in tables.items():
            where = f"[commands.{name}] "
            event = self._event(name, where)
            if event in decisions:
                self._note(f"{where}is there twice, under its long name and its short one")
            reply = self._reply(table, event, where)
            if event is not None and reply is not None:
                decisions[event] = Decision(reply=reply, source=POLICY)
        return decisions

    def _event(self, name: str, where: str) -> type[Before] | None:
        """Give the before callback of this name, long or short."""
        short = name.removeprefix("callback").removesuffix("Command")
        event = (
            BEFORE.get(short) or COMMANDS.get(name) or COMMANDS.get(f"callback{name}Command")
        )
        if event is None:
            self._note(where + unknown(short, "callback", list(BEFORE)))
        elif not issubclass(event, Before):
            self._note(f"{where}only reports: there is nothing to decide")
        else:
            return event
        return None

    def _reply(self, table: object, event: type[Before] | None, where: str) -> Reply | None:
        """Give what a table says to answer; None if something about it is wrong."""
        known = len(self.problems)
        verdict = self._checked(Verdict, table, where)
        match [*verdict]:
            case ["allow"]:
                return Allow()
            case ["refuse"]:
                refusal = self._checked(Refusal, verdict["refuse"], f"{where}refuse: ")
                return Refuse(**refusal) if len(self.problems) == known else None
            case ["change"]:
                return self._change(verdict["change"], event, f"{where}change: ")
            case names if len(self.problems) == known:
                instead = f", not {' and '.join(names)}" if names else ""
                self._note(f"{where}must have one of {', '.join(types_of(Verdict))}{instead}")
        return None

    def _change(self, table: Table, event: type[Before] | None, where: str) -> Reply | None:
        if event is None:
            return None
        if event not in CHANGES:
            self._note(f"{where}OpenIM lets nothing be changed at {event.__name__}")
            return None
        kind = CHANGES[event]
        strange = [name for name in table if name not in kind.__struct_encode_fields__]
        for name in strange:
            self._note(where + unknown(name, "field", list(kind.__struct_encode_fields__)))
        if not table:
            self._note(f"{where}names no field")
        try:
            return msgspec.convert(table, kind) if table and not strange else None
        except ValueError as error:
            self._note(f"{where}{error}")
            return None
