"""Reads rules: for which callbacks a verdict is, and for whom."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bridge.contract import Before
from bridge.loading import why
from bridge.policy import tables
from bridge.policy.checking import Checking, Mistake
from bridge.policy.conditions import Lists, condition, kind_at
from bridge.policy.deciding import RULE, Condition, Limited, LimitKey, Rule
from bridge.policy.limits import Limit
from bridge.policy.operators import Values
from bridge.policy.paths import reader
from bridge.policy.tables import MOST_ENTRIES, Table
from bridge.policy.verdicts import event_named, verdict


class RuleReader:
    """Reads the rules of one file.

    Args:
        lists: What they may compare with.
        kept: Limits of an earlier reading, to go on with where nothing has changed.
        checking: Where problems go.

    Attributes:
        limits: Those of the rules that were read.

    """

    def __init__(
        self, lists: Lists, kept: Mapping[LimitKey, Limit], checking: Checking
    ) -> None:
        self._lists = lists
        self._kept = kept
        self._checking = checking
        self.limits: dict[LimitKey, Limit] = {}

    def read(self, table: Table, where: str) -> dict[type[Before], Rule]:
        """Give the rule of a table, as it is for each of its callbacks."""
        values = self._checking.sound(tables.Rule, table, where)
        if values is None:
            return {}
        if not values.keys() & {"where", "limit"}:
            self._checking.note(f"{where}has neither where nor limit, so it would always apply")
        named = [event_named(name, where, self._checking) for name in values["commands"]]
        events = [event for event in named if event is not None]
        conditions = self._conditions(values.get("where", []), events, where)
        limited = self._limited(values, events, f"{where}limit: ")
        name, checking = values["name"], self._checking
        verdicts = {
            event: verdict(values, event, where, checking, source=RULE, name=name)
            for event in events
        }
        return {
            event: Rule(conditions=conditions, limited=limited, verdict=each)
            for event, each in verdicts.items()
            if each is not None
        }

    def _conditions(
        self, given: Sequence[Table], events: Sequence[type[Before]], where: str
    ) -> tuple[Condition, ...]:
        conditions = []
        for number, table in enumerate(given, 1):
            here = f"{where}where {number}: "
            values = self._checking.sound(tables.Condition, table, here)
            try:
                if values is not None:
                    conditions.append(condition(values, events, self._lists))
            except Mistake as mistake:
                self._checking.note(f"{here}{mistake}")
        return tuple(conditions)

    def _limited(
        self, values: Mapping[str, Any], events: Sequence[type[Before]], where: str
    ) -> Limited | None:
        if "limit" not in values:
            return None
        limit = self._checking.sound(tables.Limit, values["limit"], where)
        if limit is None:
            return None
        try:
            for event in events:
                kind_at(limit["per"], (str,), event)
        except Mistake as mistake:
            self._checking.note(f"{where}per: {mistake}")
        key: LimitKey = (values["name"], tables.Limit(**limit))
        self.limits[key] = self._kept.get(key, Limit(limit["most"], limit["seconds"]))
        return Limited(reader(limit["per"]), self.limits[key])


def entries(table: object, where: str, folder: Path, checking: Checking) -> Values:
    """Give the entries of a list; those of a file have no blanks around them."""
    values = checking.sound(tables.Entries, table, where)
    if values is None:
        return ()
    if len(values) != 1:
        checking.note(f"{where}must have either entries or file")
        return ()
    if "entries" in values:
        listed: list[str] = values["entries"]
        return listed
    try:
        text = (folder / values["file"]).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        checking.note(f"{where}file={values['file']!r} cannot be read: {why(error)}")
        return ()
    lines = [line.strip() for line in text.splitlines()]
    found = [line for line in lines if line and not line.startswith("#")]
    if len(found) > MOST_ENTRIES:
        checking.note(f"{where}file has {len(found):,} entries, more than {MOST_ENTRIES:,}")
    return found
