"""What callbacks are, for people: one HTML page without scripts, and its style sheet.

It needs nothing from elsewhere and nothing inline, so that it can be served under the
strictest content security policy, or opened from a folder.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator
from functools import cache
from html import escape
from importlib.metadata import version
from importlib.resources import files

from msgspec import structs

from bridge.contract import CHANGES, EVENTS, Before, Event
from bridge.documents import answers, asyncapi, questions, schemas, traps, words
from bridge.documents.envelope import HEADERS, PROPERTIES, QUESTION_PROPERTIES, Part
from bridge.documents.schemas import Schema
from bridge.questions import queue_name, topology

SUBJECTS = {
    "message": "Messages",
    "presence": "Presence",
    "push": "Push",
    "friend": "Friends",
    "black_list": "Black lists",
    "user": "Users",
    "group": "Groups",
    "conversation": "Conversations",
}
"""Headings, by the first word of the routing key."""


def style() -> str:
    """Give the style sheet."""
    return (files("bridge.documents") / "callbacks.css").read_text(encoding="utf-8")


@cache
def page(home: str = "#top") -> str:
    """Give the page, whose brand leads to `home`."""
    template = (files("bridge.documents") / "callbacks.html").read_text(encoding="utf-8")
    parts = {
        "home": home,
        "version": escape(version("openim-bridge")),
        "count": str(len(EVENTS)),
        "contents": "\n".join(map(_contents, SUBJECTS)),
        "properties": _parts("property", PROPERTIES),
        "headers": _parts(
            "header", (each for each in HEADERS if each.on not in {"questions", "answers"})
        ),
        "arguments": _arguments(),
        "question": _parts(
            "property or header",
            (*QUESTION_PROPERTIES, *questions.HEADERS_OF_QUESTIONS),
        ),
        "callbacks": "\n".join(map(_subject, SUBJECTS)),
    }
    for name, text in parts.items():
        template = template.replace(f"<!-- {name} -->", text)
    return template


def _arguments() -> str:
    (queue,) = topology([answers.ASKED[0]]).queues
    return ", ".join(_code(f"{name}={value}") for name, value in queue.arguments.items())


def _of(subject: str) -> list[type[Event]]:
    return [event for event in EVENTS if event.subject == subject]


def _contents(subject: str) -> str:
    links = "\n".join(
        f'<li><a href="#{event.command}">{_breakable(event)}</a></li>' for event in _of(subject)
    )
    heading = f'<a href="#{subject}">{SUBJECTS[subject]}</a>'
    return f"<li>{heading}\n<ul>\n{links}\n</ul></li>"


def _subject(subject: str) -> str:
    callbacks = "\n".join(map(_callback, _of(subject)))
    return (
        f'<section class="subject">\n<h2 id="{subject}">{SUBJECTS[subject]}</h2>\n'
        f"{callbacks}\n</section>"
    )


def _callback(event: type[Event]) -> str:
    surprises = "".join(f"<li>{_inline(each)}</li>\n" for each in traps.of(event))
    body = json.dumps(asyncapi.example(event), indent=2, ensure_ascii=False)
    return f"""\
<article>
<h3 id="{event.command}"><a href="#{event.command}">{_breakable(event)}</a>
<span class="phase {event.phase}">{event.phase}</span></h3>
<p class="summary">{_inline(words.summary(event))}</p>
<dl>
{_facts(event)}
</dl>
<ul class="traps">
{surprises}</ul>
{_fields(event)}
{_changes(event)}<h4>As OpenIM sent it</h4>
<pre tabindex="0"><code>{escape(body)}</code></pre>
</article>"""


def _facts(event: type[Event]) -> str:
    facts = {
        "Callback": _code(event.command),
        "Routing key": f"<code>{event.routing_key}.p<i>nn</i></code>",
        "In <code>webhooks.yml</code>": _code(event.config_key),
        "Since": f"OpenIM {escape(event.since)}" if event.since else "",
        "Asked about in": _code(queue_name(event)) if issubclass(event, Before) else "",
    }
    return "\n".join(
        f"<div><dt>{name}</dt><dd>{fact}</dd></div>" for name, fact in facts.items() if fact
    )


def _changes(event: type[Event]) -> str:
    """Tell what an answer may change; nothing, if it may not."""
    if not issubclass(event, Before) or event not in CHANGES:
        return ""
    schema = _definitions()[CHANGES[event].__name__]
    table = _table(("Field", "Type", "What it is"), _rows(schema, schema["properties"], ""))
    about = _inline(schema["description"])
    return f"<h4>What <code>change</code> may have: {about}</h4>\n{table}\n"


def _fields(event: type[Event]) -> str:
    definitions = _definitions()
    needed = {field.encode_name for field in structs.fields(event) if field.required}
    return _table(
        ("Field", "Type", "What it is"), _rows(definitions[event.__name__], needed, "")
    )


@cache
def _definitions() -> dict[str, Schema]:
    return schemas.definitions("{name}") | answers.changes("{name}")


def _rows(schema: Schema, needed: Collection[str], before: str) -> Iterator[tuple[str, ...]]:
    """Give a row for each field, and for each field of what is in a list."""
    for name, field in schema["properties"].items():
        said = field.get("description", "")
        if said.startswith(schemas.ANOTHER_SPELLING):
            continue
        kind, inner = _kind(field)
        within = f"{name}[]." if kind.startswith("list") else f"{name}."
        optional = "" if before or name in needed else _MAY_BE_MISSING
        yield _code(before + name), kind, f"{_inline(said)} {optional}".strip()
        if inner:
            yield from _rows(_definitions()[inner], (), within)


_MAY_BE_MISSING = '<span class="optional">may be missing</span>'


def _kind(schema: Schema) -> tuple[str, str]:
    """Give a type in words, and the class of a list's entries."""
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"]]
        inner = next((inner for _, inner in kinds if inner), "")
        return " or ".join(kind for kind, _ in kinds), inner
    if "$ref" in schema:
        return "object", schema["$ref"]
    if schema["type"] == "array":
        kind, inner = _kind(schema["items"])
        return f"list of {kind.replace(' or null', '')}s", inner
    if "contentMediaType" in schema:
        return "string of JSON", ""
    return _WIDTHS.get(schema.get("maximum", 0), str(schema["type"])), ""


_WIDTHS = {2**31 - 1: "int32", 2**63 - 1: "int64", 2**32 - 1: "uint32"}


def _parts(heading: str, parts: Iterable[Part]) -> str:
    return _table(
        (heading.capitalize(), "Type", "What it is"),
        (
            (_code(part.name), part.kind, _inline(f"{part.text[:1].upper()}{part.text[1:]}."))
            for part in parts
        ),
    )


def _table(heads: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="wide" tabindex="0"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def _breakable(event: type[Event]) -> str:
    """Give a name that may go on in another line where a word begins."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "<wbr>", event.__name__)


def _code(text: str) -> str:
    return f"<code>{escape(text)}</code>"


def _inline(text: str) -> str:
    """Give text with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text, quote=False))
