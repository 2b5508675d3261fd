"""The documents for those who consume, against the official schemas and what is published."""

import json
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from bridge import contract, openim
from bridge.cli.main import main
from bridge.contract import EVENTS, Event, MalformedCallback
from bridge.documents import DOCUMENTS, asyncapi, page, schemas, traps, words
from bridge.encoding import Encoder
from bridge.message import decode
from bridge.request import Callback
from tests.test_message import headers

DOCS = Path(__file__).parents[1] / "docs"
OFFICIAL = Path(__file__).parent / "asyncapi" / "3.0.0.json"

ENCODER = Encoder(partitions=16)
ASYNCAPI = asyncapi.document()
REGISTRY = Registry().with_resource("urn:asyncapi", DRAFT202012.create_resource(ASYNCAPI))
BODIES = {event: openim.sample(event.command)[1] for event in EVENTS}

AGREEMENT = {"fromUserID": "a", "toUserID": "b", "handleMsg": "yes", "handleResult": 1}
"""As OpenIM's page shows it, under the command of the application."""

ANYTHING: st.SearchStrategy[object] = st.sampled_from(
    [None, "", "x", 0, 1.5, -1, 2**31, 2**63, True, [], [None], ["x"], [1], [{}], {}]
)


def published(command: str, body: bytes) -> bytes:
    """Give the message that a callback is published as."""
    callback = Callback(command, body, "?key=x", "op-1", f"00-{'a' * 32}-{'b' * 16}-01")
    fields = contract.fields_of(body)
    return ENCODER.message(callback, contract.event_type(command, fields), fields)


def channels(routing_key: str) -> list[str]:
    """Give the channels whose address a routing key is."""
    return [
        name
        for name, channel in ASYNCAPI["channels"].items()
        if channel["address"]
        and re.fullmatch(
            re.sub(r"\\{\w+\\}", "[^.]+", re.escape(channel["address"])), routing_key
        )
    ]


def part(*path: str) -> Draft202012Validator:
    """Give what checks a value against a schema in the AsyncAPI document."""
    pointer = "/".join(("urn:asyncapi#", *path))
    return Draft202012Validator({"$ref": pointer}, registry=REGISTRY)


def fits(event: type[Event], fields: Mapping[str, object]) -> bool:
    """Say whether a body is as the schema of its callback says."""
    checked: bool = part("components", "schemas", event.__name__).is_valid(fields)
    return checked


def decodes(event: type[Event], fields: Mapping[str, object]) -> bool:
    """Say whether a body can be read."""
    try:
        contract.decode(event.command, orjson.dumps(fields))
    except MalformedCallback:
        return False
    return True


# AsyncAPI


def test_asyncapi_says_that_it_is_valid() -> None:
    official = json.loads(OFFICIAL.read_text(encoding="utf-8"))
    problems = Draft7Validator(official).iter_errors(ASYNCAPI)
    assert [f"{each.json_path}: {each.message}" for each in problems] == []


@pytest.mark.parametrize("event", EVENTS)
def test_each_routing_key_that_is_published_is_in_asyncapi(event: type[Event]) -> None:
    message = decode(published(event.command, BODIES[event]))
    assert channels(message.routing_key) == [event.__name__]


@pytest.mark.parametrize("old", [old for event in EVENTS for old in event.old_commands])
def test_an_old_callback_is_published_where_asyncapi_says(old: str) -> None:
    message = decode(published(old, b"{}"))
    assert channels(message.routing_key) == [contract.COMMANDS[old].__name__]


def test_an_agreement_as_documented_is_published_where_asyncapi_says() -> None:
    message = decode(published("callbackAfterAddFriendCommand", orjson.dumps(AGREEMENT)))
    assert channels(message.routing_key) == ["AfterAddFriendAgree"]


def test_what_is_unknown_is_published_where_asyncapi_says() -> None:
    message = decode(published("callbackOfTomorrow", b"{}"))
    assert channels(message.routing_key) == ["Unknown"]


def test_what_is_unreadable_is_published_where_asyncapi_says() -> None:
    callback = Callback("callbackAfterAddFriendCommand", b"no", "", "", "")
    unreadable = decode(ENCODER.unreadable(callback, "the body is not JSON"))
    assert channels(unreadable.routing_key) == ["Malformed"]
    part("components", "schemas", "HeadersMalformed").validate(headers(unreadable))


@pytest.mark.parametrize("event", EVENTS)
def test_each_example_is_what_its_schemas_say(event: type[Event]) -> None:
    (example,) = ASYNCAPI["components"]["messages"][event.__name__]["examples"]
    of_headers = f"Headers{event.phase.capitalize()}"
    part("components", "schemas", event.__name__).validate(example["payload"])
    part("components", "schemas", of_headers).validate(example["headers"])
    assert example["payload"] == orjson.loads(BODIES[event])


@pytest.mark.parametrize("event", EVENTS)
def test_the_headers_of_a_message_are_all_in_asyncapi(event: type[Event]) -> None:
    found: dict[str, Any] = headers(decode(published(event.command, BODIES[event])))
    name = f"Headers{event.phase.capitalize()}"
    described = ASYNCAPI["components"]["schemas"][name]["properties"]
    assert set(found) <= set(described)
    part("components", "schemas", name).validate(found)


# JSON Schema


def test_the_schemas_are_schemas() -> None:
    Draft202012Validator.check_schema(schemas.document())


@pytest.mark.parametrize("event", EVENTS)
def test_a_recorded_body_is_what_its_schema_says(event: type[Event]) -> None:
    Draft202012Validator(schemas.document()).validate(orjson.loads(BODIES[event]))
    assert fits(event, orjson.loads(BODIES[event]))


@settings(max_examples=200)
@given(event=st.sampled_from(EVENTS), data=st.data())
def test_a_schema_takes_what_can_be_read_and_nothing_else(
    event: type[Event], data: st.DataObject
) -> None:
    fields = orjson.loads(BODIES[event])
    others = {name: alias for alias, name in event.aliases.items()}
    names = st.sets(st.sampled_from(sorted({*fields} - {"callbackCommand"})), max_size=3)
    changed = data.draw(st.fixed_dictionaries({}, optional=dict.fromkeys(fields, ANYTHING)))
    left_out, respelled = data.draw(names), data.draw(names)
    body = {
        others.get(name, name) if name in respelled else name: value
        for name, value in (fields | changed | {"callbackCommand": event.command}).items()
        if name not in left_out
    }
    assert fits(event, body) == decodes(event, body)


# Traps


@pytest.mark.parametrize(
    ("callback", "words_of_it"),
    [
        ("AfterAddFriendAgree", "Spelled otherwise than in other callbacks: `blackUserID`"),
        ("AfterAddFriendAgree", "write `toUserID` for `blackUserID`, `handleResult`"),
        ("AfterAddFriendAgree", "shows it as `callbackAfterAddFriendCommand`"),
        ("AfterRevokeMsg", "an after callback, whatever its name says"),
        ("AfterSingleMsgRead", "Spelled otherwise than in other callbacks: `Seqs`"),
        ("AfterSendGroupMsg", "May be `null`, where others would send an empty list: `atUser"),
        ("AfterSendGroupMsg", "holds a JSON document of its own: `content`"),
        ("BeforeOnlinePush", "From `title` to `signalInfo` all are `null`"),
        ("AfterKickGroup", "is called `callbackKillGroupCommand`"),
        ("AfterDisMissGroup", "Expect it twice"),
        ("AfterQuitGroup", "The body has no `operationID`"),
        ("BeforeAddFriend", "By the time a consumer sees the event"),
    ],
)
def test_traps_are_said(callback: str, words_of_it: str) -> None:
    message = ASYNCAPI["components"]["messages"][callback]
    assert words_of_it in message["description"]


@pytest.mark.parametrize("event", EVENTS)
def test_fields_are_named_as_in_json(event: type[Event]) -> None:
    said = " ".join((*traps.of(event), *words.of_fields(event).values()))
    known = {*event.aliases, "correlation_id"}
    assert {name for name in re.findall(r"`(\w+)`", said) if "_" in name} <= known


# The page


class Page(HTMLParser):
    """What is in a page: its tags, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag."""
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note text."""
        self.text += data

    def values(self, attribute: str) -> list[str]:
        """Give the values of an attribute, wherever it stands."""
        return [value for _, attrs in self.tags if (value := attrs.get(attribute))]


PAGE = Page(page.page())


@pytest.mark.parametrize("event", EVENTS)
def test_the_page_tells_all_of_a_callback(event: type[Event]) -> None:
    plain = [trap.replace("`", "") for trap in traps.of(event)]
    recorded = json.dumps(orjson.loads(BODIES[event]), indent=2, ensure_ascii=False)
    assert event.command in PAGE.values("id")
    assert f"#{event.command}" in PAGE.values("href")
    assert [text for text in (*plain, recorded) if text not in PAGE.text] == []


def test_no_two_places_of_the_page_have_one_anchor() -> None:
    ids = PAGE.values("id")
    assert sorted(set(ids)) == sorted(ids)


def test_the_links_of_the_page_lead_somewhere() -> None:
    there = {f"#{anchor}" for anchor in PAGE.values("id")}
    assert set(PAGE.values("href")) <= there | {each.file for each in DOCUMENTS.values()}


def test_the_page_needs_nothing_that_a_strict_policy_forbids() -> None:
    assert {tag for tag, _ in PAGE.tags} & {"script", "style", "img", "iframe"} == set()
    attributes = {name for _, attrs in PAGE.tags for name in attrs}
    assert {name for name in attributes if name == "style" or name.startswith("on")} == set()
    assert re.findall(r"url\(|@import", page.style()) == []


# The command


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_copies_in_the_folder_of_documents_are_current(name: str) -> None:
    document = DOCUMENTS[name]
    kept = (DOCS / document.file).read_text(encoding="utf-8")
    assert kept == document.make(), "run `openim-bridge schema --output docs`"


def test_a_document_can_be_printed() -> None:
    result = CliRunner().invoke(main, ["schema", "asyncapi"])
    assert (result.exit_code, json.loads(result.stdout)) == (0, ASYNCAPI)


def test_all_documents_can_be_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    result = CliRunner().invoke(main, ["schema", "--output", str(folder)])
    assert result.exit_code == 0
    assert {path.name for path in folder.iterdir()} == {d.file for d in DOCUMENTS.values()}


def test_which_document_must_be_said() -> None:
    result = CliRunner().invoke(main, ["schema"])
    assert result.exit_code == 2
    assert "name a document, or a folder for all" in result.stderr


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(main, ["schema", "-o", str(tmp_path / "file" / "x")])
    assert (result.exit_code, result.stderr.startswith("error: ")) == (1, True)
