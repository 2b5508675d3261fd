"""The page Set-up: webhooks.yml, a sample, and what was seen of each callback."""

import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any

from yarl import URL

from bridge import openim
from bridge.contract import COMMANDS, EVENTS
from bridge.openim import Answer
from consumers.console import explaining
from consumers.console.access import Role
from consumers.console.index import Wanted
from consumers.console.rendering import Shown
from consumers.console.sources import Asked, Sources

SAMPLE = "callbackAfterAddFriendAgreeCommand"
"""The callback that is sent unless another is chosen: our own worker handles it."""

_AN_ID = re.compile(r"(user|send|recv|group)ID$", re.IGNORECASE)

PREFIX = "console-sample-"
"""What the operation id of a sample begins with."""


def in_full(command: str) -> str:
    """Give a callback command as OpenIM sends it, from its short form too."""
    command = command.strip()
    if not command or command in COMMANDS:
        return command
    for known in COMMANDS:
        if known.lower() in {command.lower(), f"callback{command}command".lower()}:
            return known
    return command


def moment(text: str) -> float | None:
    """Read a time in UTC, as a browser writes it; None for nothing.

    Raises:
        ValueError: it is none.

    """
    if not text:
        return None
    at = datetime.fromisoformat(text)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


async def page(sources: Sources, asked: Asked) -> Shown:
    """Show how to begin."""
    url = sources.settings.callback_url
    seen, totals = await sources.index.commands(), sources.receivers.totals()
    commands = [
        {
            "command": event.command,
            "subject": event.subject,
            "section": event.config_key,
            "count": max(seen.get(event.command, (0, 0))[0], totals.get(event.command, 0)),
            "last_ms": seen.get(event.command, (0, 0))[1],
        }
        for event in EVENTS
    ]
    operation = asked.query.get("sample", "")
    return {
        "url": url if asked.session.may(Role.ADMIN) else _masked(url),
        "masked": not asked.session.may(Role.ADMIN),
        "commands": commands,
        "never": sum(not each["count"] for each in commands),
        "chosen": SAMPLE,
        "sample": await _followed(sources, operation) if operation else None,
    }


def _masked(url: str) -> str:
    """Give a URL without its path, the only secret that OpenIM can send."""
    return str(URL(url).origin()) + "/…"


async def _followed(sources: Sources, operation: str) -> dict[str, Any]:
    """Say how far a sample has come."""
    rows = await sources.index.events(Wanted(text=operation), 1)
    if not rows:
        return {"event": None, "reached": [], "operation": operation}
    attempts = await sources.index.attempts(rows[0]["message_id"])
    reached = explaining.explained(rows[0], attempts, sources.rabbitmq)
    return {"event": rows[0], "reached": reached, "operation": operation}


async def send(url: str, command: str) -> tuple[str, Answer]:
    """Send a sample as OpenIM would; give its operation id, and what came of it.

    Its users are nobody's: what ends in an id is called after its field.
    """
    command, body = openim.sample(command)
    fields = json.loads(body)
    for name, value in fields.items():
        if isinstance(value, str) and _AN_ID.search(name):
            fields[name] = f"sample-{name}"
    operation = PREFIX + secrets.token_hex(6)
    async with openim.process(url) as process:
        answer = await process.post(command, json.dumps(fields).encode(), operation)
    return operation, answer
