"""Compares tables of a policy file with what may stand in them, and collects what is wrong."""

from typing import Any

import msgspec
from msgspec import Struct

from bridge.loading import LONGEST_SHOWN, allowed, checked, types_of, unknown


class Mistake(Exception):
    """Something is wrong with a value; the message says what."""


class Checking:
    """One file that is checked.

    Attributes:
        problems: What is wrong, one sentence each.

    """

    def __init__(self, path: str) -> None:
        self._path = path
        self.problems: list[str] = []

    def note(self, problem: str) -> None:
        """Note something that is wrong."""
        self.problems.append(f"{self._path}: {problem}")

    def unknown(self, name: str, where: str, what: str, known: list[str]) -> None:
        """Note a name that nobody knows."""
        self.note(where + unknown(name, what, known))

    def values(self, kind: type[Struct], table: object, where: str) -> dict[str, Any]:
        """Give those values of a table that are as `kind` says; note the others.

        Args:
            kind: A class of `bridge.policy.tables`.
            table: As it stands in the file.
            where: Its place in the file, with a space at the end.

        """
        if not isinstance(table, dict):
            self.note(f"{where}must be a table")
            return {}
        types = types_of(kind)
        values: dict[str, Any] = {}
        for name, value in table.items():
            if name not in types:
                self.unknown(name, where, "key", list(types))
                continue
            try:
                values[name] = checked(value, types[name], strict=True)
            except ValueError:
                shown = repr(value)[:LONGEST_SHOWN]
                self.note(f"{where}{name}={shown} is not allowed: {allowed(types[name])}")
        for field in msgspec.structs.fields(kind):
            if field.required and field.name not in table:
                self.note(f"{where}{field.name} is missing: {allowed(types[field.name])}")
        return values

    def sound(self, kind: type[Struct], table: object, where: str) -> dict[str, Any] | None:
        """Give the values of a table if nothing is wrong with it; note what is."""
        known = len(self.problems)
        values = self.values(kind, table, where)
        return values if len(self.problems) == known else None
