"""How dead letters are shown: as lines for people, as JSON for machines."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias

from bridge.logs import printable
from consumers.dead_letters import Group, Letter, short

Facts: TypeAlias = Mapping[str, Any]


def in_short(letter: Letter) -> Facts:
    """Give what tells a letter from others."""
    return {
        "subscription": letter.subscription,
        "message_id": letter.delivery.message_id,
        "command": letter.delivery.command,
        "attempt": letter.attempt,
        "replays": letter.replays,
        "failed": letter.failed,
        "error": letter.error,
    }


def in_full(letter: Letter, *, with_body: bool) -> Facts:
    """Give all that is known of a letter."""
    body = {"body": letter.delivery.body.decode(errors="replace")} if with_body else {}
    return {
        **in_short(letter),
        "routing_key": letter.routing_key,
        "operation_id": letter.delivery.operation_id,
        "headers": letter.delivery.headers,
        "bytes": len(letter.delivery.body),
        **body,
    }


def group(group: Group) -> Facts:
    """Give what alike letters have in common."""
    return {
        "subscription": group.subscription,
        "count": group.count,
        "oldest": group.oldest,
        "newest": group.newest,
        "error": group.error,
        "commands": sorted(group.commands),
    }


def as_text(facts: Facts) -> str:
    """Give one line for people."""
    return printable("  ".join(_words(name, value) for name, value in facts.items()))


def as_lines(facts: Facts) -> str:
    """Give a line for each fact, and for each header."""
    # Indented, so that no header can pass for a fact of ours.
    headers = {f"  {name}": value for name, value in facts.get("headers", {}).items()}
    own = {name: value for name, value in facts.items() if name not in ("headers", "body")}
    body = {name: facts[name] for name in ("body",) if name in facts}
    return "\n".join(
        printable(f"{name + ':':22} {_plain(value)}")
        for name, value in {**own, "headers": "", **headers, **body}.items()
    )


def _words(name: str, value: object) -> str:
    match name, value:
        case "commands", list():
            return ", ".join(map(short, value))
        case "command", str():
            return short(value)
        case "count", int():
            return f"{value:6,}"
        case (("attempt" | "replays"), int()):
            return f"{name} {value}"
        case _:
            return _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}Z"
    return str(value)
