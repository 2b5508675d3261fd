"""Being OpenIM for a while: which callbacks to send, and what came of them, in words."""

import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from yarl import URL

from bridge import openim
from bridge.contract import Allowed, MalformedCallback, Refused, fields_of
from bridge.logs import printable
from bridge.openim import Answer, Callback

LONGEST_REPLY = 200
"""Characters of a reply that are shown."""

_COMMAND = re.compile(r"callback[A-Za-z]+Command")


class CannotSend(Exception):
    """What was asked for cannot be sent; the message says why."""


class NoReceiver(Exception):
    """No connection comes about to where the callbacks should go; the message says why."""


def callback(name: str) -> Callback:
    """Find the callback that somebody means.

    Args:
        name: A command, in full or short, or the path of a file with a body.

    Raises:
        CannotSend: there is no such callback or file.

    """
    path = Path(name)
    try:
        if path.suffix == ".json" or path.is_file():
            body = path.read_bytes()
            return _command(path, body), body
        return openim.sample(name)
    except OSError as error:
        raise CannotSend(f"{name} cannot be read: {error.strerror}") from error
    except openim.UnknownSample as error:
        raise CannotSend(str(error)) from error


def _command(path: Path, body: bytes) -> str:
    """Tell the command of a file by its name, else by the body."""
    if _COMMAND.fullmatch(path.stem):
        return path.stem
    try:
        command = fields_of(body).get("callbackCommand")
    except MalformedCallback:
        command = None
    if isinstance(command, str) and _COMMAND.fullmatch(command):
        return command
    raise CannotSend(
        f"{path} does not tell its callback; name it after a command, such as"
        " callbackAfterAddFriendCommand.json"
    )


def checked(url: str) -> str:
    """Give `url` back if it could stand in OpenIM's webhooks.yml.

    Raises:
        CannotSend: it could not.

    """
    try:
        parsed = URL(url, encoded=True)
        possible = parsed.scheme in {"http", "https"} and parsed.host and parsed.port
    except ValueError:
        possible = False
    if not possible:
        raise CannotSend("the URL must be like http://127.0.0.1:10006/callbackExample")
    return url


@dataclass(kw_only=True)
class Sent:
    """What became of all that was sent so far."""

    times: openim.Times = field(default_factory=openim.Times)
    failed: int = 0
    connections: int = 0

    def add(self, answer: Answer) -> None:
        """Note one answer."""
        self.times.add(answer.milliseconds)
        self.failed += not is_well(answer)


async def send(
    url: str, callbacks: list[Callback], times: int, sent: Sent, see: Callable[[Answer], None]
) -> None:
    """Send callbacks.

    Args:
        url: As in OpenIM's webhooks.yml.
        callbacks: What to send, in this order.
        times: How often to send all of it.
        sent: Where it is noted what became of them.
        see: Called with each answer.

    Raises:
        NoReceiver: no connection came about.

    """

    def take(answer: Answer) -> None:
        sent.add(answer)
        sent.connections = process.connections
        see(answer)

    everything = itertools.chain.from_iterable(itertools.repeat(callbacks, times))
    async with openim.process(url) as process:
        first = await process.post(*next(everything))
        if first.unreachable:
            raise NoReceiver(_words(first))
        take(first)
        await process.post_all(everything, take)


def is_well(answer: Answer) -> bool:
    """Say whether OpenIM and the receiver are both content."""
    # OpenIM does not look at the HTTP status; whoever tries a receiver out wants to.
    return isinstance(answer.verdict, Allowed) and answer.status < HTTPStatus.BAD_REQUEST


def as_text(answer: Answer) -> str:
    """Give one line for people."""
    sign = "ok " if is_well(answer) else "BAD"
    return (
        f"{sign} {answer.milliseconds:8.2f} ms  {answer.status:3}  {answer.command}"
        f"  {answer.operation_id}  {_words(answer)}  {_reply(answer)}"
    ).rstrip()


def as_json(answer: Answer) -> dict[str, object]:
    """Give the same as an object."""
    return {
        "command": answer.command,
        "operation_id": answer.operation_id,
        "taken": is_well(answer),
        "verdict": _words(answer),
        "milliseconds": round(answer.milliseconds, 3),
        "status": answer.status,
        "reply": _reply(answer),
    }


def _reply(answer: Answer) -> str:
    return printable(answer.reply.decode(errors="replace")[:LONGEST_REPLY])


def _words(answer: Answer) -> str:
    if isinstance(answer.verdict, Allowed):
        return "taken" if is_well(answer) else "OpenIM goes on, but the receiver has a problem"
    if isinstance(answer.verdict, Refused):
        return f"refused with {answer.verdict.code}: {printable(answer.verdict.message)}"
    if answer.status == 0:
        return answer.verdict.reason
    return f"an error to OpenIM: {printable(answer.verdict.reason)}"


def summary(sent: Sent) -> str:
    """Give one line about all of them."""
    taken = sent.times
    return (
        f"{taken.count:,} callbacks, {sent.failed:,} failed; p50 {taken.percentile(50):.2f} ms,"
        f" p99 {taken.percentile(99):.2f} ms, max {taken.longest:.2f} ms;"
        f" {sent.connections:,} connections"
    )


def summary_as_json(sent: Sent) -> dict[str, object]:
    """Give the same as an object."""
    return {
        "callbacks": sent.times.count,
        "failed": sent.failed,
        "p50_ms": sent.times.percentile(50),
        "p99_ms": sent.times.percentile(99),
        "longest_ms": sent.times.longest,
        "connections": sent.connections,
    }
