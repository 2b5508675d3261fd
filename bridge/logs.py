"""Log lines: a constant phrase, and facts as fields.

A callback's body is never among the facts: bodies are people's conversations.
"""

import logging
import sys
import time
from datetime import UTC, datetime
from typing import Any

import orjson

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


def _moment(created: float) -> str:
    return datetime.fromtimestamp(created, UTC).isoformat(timespec="milliseconds")


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    return {key: value for key, value in vars(record).items() if key not in _OWN}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, for machines."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        line = {
            "time": _moment(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **_facts(record),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


class TextFormatter(logging.Formatter):
    """One line for people; a fact's control characters are shown, not obeyed."""

    def format(self, record: logging.LogRecord) -> str:
        """Render `record`."""
        moment = time.strftime("%H:%M:%S", time.localtime(record.created))
        facts = "".join(f"  {key}={_shown(value)}" for key, value in _facts(record).items())
        line = f"{moment} {record.levelname.lower():7} {record.getMessage()}{facts}"
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


def _shown(value: object) -> str:
    text = str(value)
    return text if text.isprintable() else ascii(text)


def set_up(form: str, level: str) -> None:
    """Send log lines to standard error.

    Args:
        form: `json` or `text`.
        level: The least level to show, such as `info`.

    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # We report the broker's troubles in our own words, once; the libraries would add
    # a traceback for each.
    for library in ("aiormq", "aio_pika", "aiohttp.server"):
        logging.getLogger(library).setLevel(logging.CRITICAL)


class Sampled:
    """Lets a line through once in a while, and counts those in between.

    Anybody who can reach the port can cause some lines, so these must be bounded.
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
