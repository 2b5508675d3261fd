"""Reads a policy from its file, and says all that is wrong with it at once."""

import tomllib
from collections import defaultdict
from pathlib import Path

from bridge.contract import Before, Event
from bridge.loading import BadSettings, why
from bridge.policy.checking import Checking
from bridge.policy.deciding import ALLOWED, POLICY, Decision, Policy, Question, Rule, Ruling
from bridge.policy.rules import RuleReader, entries
from bridge.policy.tables import File, Table, Verdict
from bridge.policy.verdicts import event_named, verdict


def read(path: str, earlier: Policy | None = None) -> Policy:
    """Read a policy; without a path, the one that allows everything.

    Args:
        path: Of its file.
        earlier: The policy so far: limits that stay the same go on.

    Raises:
        BadSettings: with every problem that was found.

    """
    if not path:
        return Policy()
    checking = Checking(path)
    policy = _policy(path, earlier or Policy(), checking)
    if checking.problems:
        raise BadSettings(checking.problems)
    return policy


def _policy(path: str, earlier: Policy, checking: Checking) -> Policy:
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        checking.note(f"cannot be read: {why(error)}")
        return earlier
    file = checking.values(File, tables, "")
    folder = Path(path).parent
    lists = {
        name: entries(table, f"[lists.{name}] ", folder, checking)
        for name, table in file.get("lists", {}).items()
    }
    reader = RuleReader(lists, earlier.limits, checking)
    rules = _rules(file.get("rules", []), reader, checking)
    decisions = _decisions(file.get("commands", {}), checking)
    rulings: dict[type[Event], Ruling] = {
        event: Ruling(rules=tuple(rules[event]), otherwise=decisions.get(event, ALLOWED))
        for event in {*rules, *decisions}
    }
    return Policy(rulings, reader.limits)


def _rules(
    tables: list[Table], reader: RuleReader, checking: Checking
) -> defaultdict[type[Before], list[Rule]]:
    """Give the rules about each callback, in their order."""
    rules: defaultdict[type[Before], list[Rule]] = defaultdict(list)
    names: set[str] = set()
    for number, table in enumerate(tables, 1):
        name = str(table.get("name", number))
        where = f"[[rules]] {name}: "
        if name in names:
            checking.note(f"{where}there is another rule of this name")
        names.add(name)
        for event, rule in reader.read(table, where).items():
            rules[event].append(rule)
    return rules


def _decisions(tables: Table, checking: Checking) -> dict[type[Before], Decision | Question]:
    """Give what each callback is answered if no rule applies."""
    decisions: dict[type[Before], Decision | Question] = {}
    for name, table in tables.items():
        where = f"[commands.{name}] "
        event = event_named(name, where, checking)
        if event in decisions:
            checking.note(f"{where}is there twice, under its long name and its short one")
        values = checking.sound(Verdict, table, where)
        if event is not None and values is not None:
            said = verdict(values, event, where, checking, source=POLICY)
            if said is not None:
                decisions[event] = said
    return decisions
