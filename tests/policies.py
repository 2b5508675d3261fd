"""Policy files for tests."""

import json
from pathlib import Path
from typing import Any

import pytest

from bridge import policy
from bridge.contract import Event
from bridge.loading import BadSettings
from bridge.policy import Case, Decided, Policy


def toml(value: object) -> str:
    """Write a value as TOML does inline."""
    match value:
        case dict():
            pairs = (f"{json.dumps(name)} = {toml(each)}" for name, each in value.items())
            return f"{{{', '.join(pairs)}}}"
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case _:
            return json.dumps(value, ensure_ascii=False)


def written(folder: Path, text: str) -> str:
    """Write a policy file; give its path."""
    path = folder / "policy.toml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def policy_of(folder: Path, text: str) -> Policy:
    """Read a policy with this text."""
    return policy.read(written(folder, text))


def commands(**verdicts: dict[str, Any]) -> str:
    """Give the text of a policy that answers these callbacks so."""
    return "".join(
        f"[commands.{name}]\n" + "".join(f"{key} = {toml(each)}\n" for key, each in of.items())
        for name, of in verdicts.items()
    )


def rules(*tables: dict[str, Any]) -> str:
    """Give the text of a policy with these rules."""
    return "".join(
        "[[rules]]\n" + "".join(f"{key} = {toml(each)}\n" for key, each in table.items())
        for table in tables
    )


def problems(folder: Path, text: str) -> list[str]:
    """Give what is wrong with a policy, without the name of its file."""
    path = written(folder, text)
    with pytest.raises(BadSettings) as caught:
        policy.read(path)
    assert all(problem.startswith(f"{path}: ") for problem in caught.value.problems)
    return [problem.removeprefix(f"{path}: ") for problem in caught.value.problems]


def decide(policy: Policy, event: type[Event], fields: dict[str, Any]) -> Decided:
    """Give a decision that the policy makes without asking."""
    decided = policy.decide(Case(event, fields))
    assert isinstance(decided, Decided)
    return decided
