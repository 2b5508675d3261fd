"""What the documents say exists, and what exists is documented."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from bridge import commands
from bridge.cli import main as bridge_cli
from bridge.contract import EVENTS
from bridge.loading import is_secret, types_of
from bridge.settings import Receiver
from consumers.cli import main as consumers_cli
from consumers.settings import Console, FriendsApi, Worker
from tests.reference import (
    REFERENCE,
    SECTIONS,
    all_commands,
    sections,
    written_anew,
)
from tests.test_message import example, headers

ROOT = REFERENCE.parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])
TEXT = REFERENCE.read_text(encoding="utf-8")
EVERYTHING = "\n".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
PROGRAMS = {"openim-bridge": bridge_cli.main, "openim-consumers": consumers_cli.main}
OUTDATED = "docs/reference.md is out of date: run `python -m tests.reference`"


def part(heading: str) -> str:
    """Give what stands under a heading of the reference."""
    return re.split(r"^## ", TEXT.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]


def column(text: str, number: int) -> list[str]:
    """Give the code in a column of the tables in `text`."""
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row[number].strip("|` ") for row in rows if "`" in row[number]]


def links() -> Iterator[tuple[str, str]]:
    """Give the links of all documents to files and headings."""
    for path in DOCUMENTS:
        found = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
        yield from ((path.name, link) for link in found if "://" not in link)


def anchors(path: Path) -> set[str]:
    """Give the anchors of a document's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in found]
    return {heading.replace(" ", "-") for heading in plain}


def constants(folder: str) -> set[str]:
    """Give all text constants in the code of a package that does things."""
    trees = [
        ast.parse(path.read_text(encoding="utf-8"))
        for path in ROOT.glob(f"{folder}/**/*.py")
        if path.parent.name != "documents"
    ]
    nodes = [
        node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Constant)
    ]
    return {node.value for node in nodes if isinstance(node.value, str)}


def rejections() -> set[tuple[str, str]]:
    """Give status and reason of every `Rejected` in the code; 4xx where it is computed."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in ROOT.glob("bridge/*.py")]
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    made = [
        call for call in calls if isinstance(call.func, ast.Name) and call.func.id == "Rejected"
    ]
    return {(ast.unparse(call.args[0]), ast.literal_eval(call.args[1])) for call in made}


def variables() -> set[str]:
    """Give every variable that may be set."""
    names = {"BRIDGE_CONFIG", "CONSUMERS_CONFIG", "FRIENDS_API_CONFIG", "CONSOLE_CONFIG"}
    for kind in (Receiver, Worker, FriendsApi, Console):
        for name, type_ in types_of(kind).items():
            variable = f"{kind.table}_{name}".upper()
            names |= {variable, f"{variable}_FILE"} if is_secret(type_) else {variable}
    return names


@pytest.mark.parametrize("name", SECTIONS)
def test_the_reference_says_what_the_code_says(name: str) -> None:
    assert dict(sections(TEXT)).get(name) == SECTIONS[name](), OUTDATED


def test_the_reference_can_be_written_anew() -> None:
    outdated = TEXT.replace("| `BRIDGE_PORT` |", "| `BRIDGE_PROT` |")
    assert outdated != TEXT
    assert written_anew(outdated) == TEXT


def test_every_callback_is_documented() -> None:
    documented = column(part("Callbacks and routing keys"), 0)
    assert documented[: len(EVENTS)] == [event.command for event in EVENTS]


def test_every_reason_to_reject_is_documented_and_no_other() -> None:
    rows = [line.split(" | ") for line in part("HTTP").splitlines() if line.startswith("| ")]
    documented = {
        row[1].strip("`"): row[0].strip("| ") for row in rows if row[1].startswith("`")
    }
    made = rejections()
    assert set(documented) == {reason for _, reason in made}
    stated = {(status, reason) for status, reason in made if status.isdecimal()}
    assert stated <= {(status, reason) for reason, status in documented.items()}


def test_every_header_is_documented_and_no_other() -> None:
    ours = {
        name
        for name in constants("bridge") | constants("consumers")
        if re.fullmatch(r"x-[a-z-]+", name)
    }
    arguments = {
        *("x-dead-letter-exchange", "x-max-length", "x-overflow", "x-priority", "x-queue-type")
    }
    documented = column(part("Messages").partition("| header |")[2], 0)
    assert sorted(documented) == sorted(
        (ours - arguments) | set(headers(example())) | {"traceparent", "x-stream-offset"}
    )


def test_every_property_is_documented() -> None:
    documented = column(part("Messages").partition("| header |")[0], 0)
    assert documented == [
        "message_id",
        "type",
        "correlation_id",
        "timestamp",
        "content_type",
        "delivery_mode",
        "app_id",
    ]


def test_every_exit_code_is_documented_and_no_other() -> None:
    codes = {
        0,
        *(commands.FAILED, click.UsageError.exit_code, commands.BAD_SETTINGS),
        *(commands.UNREACHABLE, commands.PARTLY, commands.INTERRUPTED),
    }
    documented = re.findall(r"^\| (\d+) \| ", part("Commands"), re.MULTILINE)
    assert {int(code) for code in documented} == codes


def test_only_variables_that_exist_are_mentioned() -> None:
    mentioned = re.findall(
        r"\b(?:BRIDGE|CONSUMERS|FRIENDS_API|CONSOLE)_[A-Z_]*[A-Z]\b", EVERYTHING
    )
    assert set(mentioned) <= variables()


@pytest.mark.parametrize("program", PROGRAMS)
def test_only_commands_and_options_that_exist_are_mentioned(program: str) -> None:
    known = {
        f"{before} {command.name}": command
        for before, command in all_commands(program, PROGRAMS[program])
    }
    options = {
        (name, option)
        for name, command in known.items()
        for parameter in command.params
        for option in parameter.opts
    }
    groups = [name for name, each in known.items() if isinstance(each, click.Group)]
    befores = "|".join([*groups, program])
    words = r"(?: +[^\s`|]+)*"
    calls = re.findall(rf"((?:{befores}) [a-z-]+)({words})", EVERYTHING)
    used = {(name, o) for name, rest in calls for o in re.findall(r" (--?[a-z][a-z-]*)", rest)}
    assert {name for name, _ in calls} <= set(known)
    assert used <= options


def test_only_metrics_that_exist_are_mentioned() -> None:
    known = set(column(SECTIONS["metrics"](), 0))
    mentioned = re.findall(r"\bopenim_bridge_[a-z_]+[a-z]\b", EVERYTHING)
    assert {re.sub("_(bucket|count|sum)$", "", name) for name in mentioned} <= known


def test_only_tests_that_exist_are_mentioned() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("tests/**/*.py"))
    mentioned = set(re.findall(r"`(test_\w+)`", EVERYTHING))
    assert mentioned <= set(re.findall(r"def (test_\w+)", code))


def test_only_files_that_exist_are_mentioned() -> None:
    mentioned = re.findall(
        r"`((?:bridge|consumers|tests|deploy|docs|benchmarks|requirements)/[\w./-]*)`",
        EVERYTHING,
    )
    assert [path for path in mentioned if not (ROOT / path).exists()] == []


@pytest.mark.parametrize(("document", "link"), list(links()))
def test_links_lead_somewhere(document: str, link: str) -> None:
    (here,) = (path for path in DOCUMENTS if path.name == document)
    file, _, anchor = link.partition("#")
    target = here.parent / file if file else here
    assert target.exists()
    assert not anchor or anchor in anchors(target)
