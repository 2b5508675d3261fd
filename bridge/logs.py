"""Log lines: a constant phrase, and facts as fields.

A callback's body is never among the facts: bodies are people's conversations. A password
in a URL is masked, whoever let it slip into a line.
"""

import json
import logging
import re
import sys
import time
from datetime import UTC, datetime
from typing import Any

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_PASSWORD = re.compile(r'(://[^\s/:@"]*:)[^\s/"]*@')


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


def _masked(line: str) -> str:
    return _PASSWORD.sub(r"\1***@", line)


def printable(text: str) -> str:
    """Show control characters instead of obeying them."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`; a fact cannot take the place of what every line has."""
        line = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        # Not orjson, which refuses what is not UTF-8: a log line must not fail.
        everything = {**line, **_facts(record), **line}
        return _masked(json.dumps(everything, default=str, separators=(",", ":")))


class TextFormatter(logging.Formatter):
    """One line for people, and a traceback indented below it."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = "".join(
            f"  {key}={printable(str(value))}" for key, value in _facts(record).items()
        )
        line = f"{moment} {record.levelname.lower():7} {printable(record.getMessage())}{facts}"
        if record.exc_info:
            # Indented, so that no exception's text can pass for a line of its own.
            for part in self.formatException(record.exc_info).splitlines():
                line += f"\n    {printable(part)}"
        return _masked(line)


def set_up(form: str, level: str) -> None:
    """Send log lines to standard error.

    Args:
        form: `json` or `text`.
        level: The least level to show, such as `info`.

    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # We report the troubles of broker and collector in our own words, once; the libraries
    # would add a traceback for each.
    for library in ("aiormq", "aio_pika", "aiohttp.server", "opentelemetry"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


class Sampled:
    """Lets a line through once in a while, and counts those in between.

    Anybody who can reach the port can cause some lines, so these must be bounded. It
    remembers each kind for ever: kinds are a few words of ours, never what somebody sent.
    """

    def __init__(self, interval: float = 10.0) -> None:
        self._interval = interval
        self._next: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def admit(self, kind: str) -> int | None:
        """Say how many lines of this kind were held back since the last, or None to hold."""
        now = time.monotonic()
        if now < self._next.get(kind, 0.0):
            self._suppressed[kind] = self._suppressed.get(kind, 0) + 1
            return None
        self._next[kind] = now + self._interval
        return self._suppressed.pop(kind, 0)
