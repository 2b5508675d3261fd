"""Log lines: one each, with nothing in them that somebody smuggled in."""

import json
import logging
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge import logs
from bridge.logs import JsonFormatter, Sampled, TextFormatter, printable

FORMATTERS = [JsonFormatter(), TextFormatter()]
ANYTHING = st.text(st.characters(codec=None))

SET_UP = """
import logging
from bridge import logs

logs.set_up("json", "warning")
logging.getLogger("bridge").info("too little")
logging.getLogger("aiormq").error("said in our own words elsewhere")
logging.getLogger("bridge").warning("enough", extra={"number": 1})
"""


def record(
    message: str = "callback stored", error: BaseException | None = None, **facts: object
) -> logging.LogRecord:
    """Give what a call of a logger makes."""
    exc_info = (type(error), error, None) if error else None
    made = logging.LogRecord("bridge.x", logging.WARNING, "", 0, message, None, exc_info)
    vars(made).update(facts)
    return made


def as_json(*args: Any, **facts: Any) -> dict[str, Any]:  # noqa: ANN401  # as `record` takes
    """Give the JSON object of a line."""
    line: dict[str, Any] = json.loads(JsonFormatter().format(record(*args, **facts)))
    return line


def as_text(*args: Any, **facts: Any) -> str:  # noqa: ANN401  # as `record` takes
    """Give a line without its time."""
    return TextFormatter().format(record(*args, **facts)).partition(" ")[2]


def test_a_line_for_machines_is_one_json_object() -> None:
    before = datetime.now(UTC)
    line = as_json(depth=3, reason="r")
    moment = datetime.fromisoformat(line.pop("time"))
    assert abs((moment - before).total_seconds()) < 10
    assert line == {
        "level": "warning",
        "logger": "bridge.x",
        "message": "callback stored",
        "depth": 3,
        "reason": "r",
    }


def test_a_line_for_people_has_level_message_and_facts() -> None:
    assert as_text(depth=3, reason="no broker") == (
        "warning callback stored  depth=3  reason=no broker"
    )


def test_the_message_may_have_arguments_as_those_of_libraries_do() -> None:
    made = record("%s of %d")
    made.args = ("one", 2)
    assert "one of 2" in JsonFormatter().format(made)
    assert "one of 2" in TextFormatter().format(made)


@pytest.mark.parametrize("name", ["time", "level", "logger"])
def test_a_fact_cannot_pass_for_what_every_line_has(name: str) -> None:
    assert as_json(**{name: "forged"})[name] != "forged"


def test_an_exception_is_a_fact_for_machines() -> None:
    assert as_json("failed", ValueError("why"))["exception"] == "ValueError: why"


def test_an_exception_stands_indented_for_people() -> None:
    error = ValueError("why\n12:00:00 info    forged \x1b[2J")
    assert as_text("failed", error).splitlines() == [
        "warning failed",
        "    ValueError: why",
        "    12:00:00 info    forged \\x1b[2J",
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain, 用户 and ü", "plain, 用户 and ü"),
        ("a\nb\r\tc", "a\\nb\\r\\tc"),
        ("\x1b[2J\x00\x7f", "\\x1b[2J\\x00\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
        ("用户\n", "用户\\n"),
    ],
)
def test_control_characters_are_shown_and_not_obeyed(given: str, shown: str) -> None:
    assert printable(given) == shown


@given(ANYTHING, ANYTHING)
def test_a_line_is_one_line_whatever_the_facts_are(message: str, fact: str) -> None:
    assert as_text(message, fact=fact).isprintable()
    assert JsonFormatter().format(record(message, fact=fact)).isprintable()


@pytest.mark.parametrize(
    ("fact", "written"),
    [
        (2**70, 2**70),
        (b"\xff", "b'\\xff'"),
        ({"a": [1, None]}, {"a": [1, None]}),
        (Path("/x"), "/x"),
    ],
)
def test_any_value_can_be_a_fact(fact: object, written: object) -> None:
    assert as_json(fact=fact)["fact"] == written
    assert f"fact={fact}" in as_text(fact=fact)


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize(
    "url",
    [
        "amqp://guest:hunter2@localhost/",
        "postgresql://:hunter2@localhost/",
        "amqps://guest:hunter2@@localhost/",
        "amqps://guest:'hunter2'@localhost/",
    ],
)
def test_a_password_in_a_url_is_masked_wherever_it_stands(
    formatter: logging.Formatter, url: str
) -> None:
    made = record(f"no broker at {url}", ValueError(url), fact=url, facts=[url])
    line = formatter.format(made)
    assert "hunter2" not in line
    assert line.count(":***@localhost/") == 4


@pytest.mark.parametrize("formatter", FORMATTERS)
@pytest.mark.parametrize("text", ["http://localhost:1/a@b", "a:b@c", "mailto://a@b"])
def test_what_is_no_password_is_left_alone(formatter: logging.Formatter, text: str) -> None:
    assert text in formatter.format(record(text))


def test_set_up_shows_lines_from_its_level_on_standard_error() -> None:
    ran = subprocess.run(  # noqa: S603  # our own text
        [sys.executable, "-c", SET_UP], check=True, capture_output=True, text=True
    )
    (line,) = map(json.loads, ran.stderr.splitlines())
    assert (line["message"], line["number"], ran.stdout) == ("enough", 1, "")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock to be set; `now` is what it shows."""
    fake = SimpleNamespace(now=100.0)
    monkeypatch.setattr(logs, "time", SimpleNamespace(monotonic=lambda: fake.now))
    return fake


def test_the_first_line_of_a_kind_is_let_through(clock: SimpleNamespace) -> None:
    clock.now = 0.0
    lines = Sampled()
    assert [lines.admit("size"), lines.admit("path")] == [0, 0]


def test_lines_are_held_back_for_a_while_and_counted(clock: SimpleNamespace) -> None:
    lines = Sampled(interval=10)
    first = [lines.admit("size") for _ in range(3)]
    clock.now += 9.9
    still = lines.admit("size")
    clock.now += 0.1
    later = [lines.admit("size") for _ in range(2)]
    clock.now += 10
    assert (first, still, later) == ([0, None, None], None, [3, None])
    assert lines.admit("size") == 1


def test_each_kind_is_counted_by_itself(clock: SimpleNamespace) -> None:
    lines = Sampled(interval=10)
    held = [lines.admit("size") for _ in range(5)]
    clock.now += 10
    assert held == [0, None, None, None, None]
    assert lines.admit("path") == 0
    assert lines.admit("size") == 4
