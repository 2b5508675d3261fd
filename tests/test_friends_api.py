"""The friends API, as an App's backend meets it."""

import asyncio
import logging
import re
from collections.abc import AsyncIterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from sqlalchemy import insert
from sqlalchemy.exc import DBAPIError

from bridge.contract import AfterAddFriendAgree, AfterImportFriends, BeforeAddBlack
from consumers import database
from consumers.database import Database, DatabaseAway
from consumers.friends import answering, reading, verifications
from consumers.friends.routes import ROUTES, Route
from tests.commands import CONSUMERS, ran, started
from tests.friends_api import TOKEN, address, get, serving
from tests.line import line_to
from tests.running import eventually
from tests.test_friends import MORNING, add, handle, received, said

LIST = "/friends/verifications"
OLD, NEW = "old" * 6, "new" * 6


@pytest.fixture
async def backend(
    opened: Database,  # noqa: ARG001  # it has made the tables
    database_url: str,
) -> AsyncIterator[aiohttp.ClientSession]:
    """A backend, and an API whose database has its tables."""
    async with serving(database_url) as backend:
        yield backend


async def fill(opened: Database, count: int) -> None:
    """Add many messages at once."""
    rows = [
        {
            "message_id": f"{number:036}",
            "kind": "application",
            "from_user_id": "a",
            "to_user_id": "b",
            "message": "",
            # Some of them at one time.
            "received_ms": verifications.milliseconds(MORNING) + number // 3,
        }
        for number in range(count)
    ]
    async with opened.transaction() as transaction:
        await transaction.execute(insert(verifications.TABLE), rows)


# Who may ask


@pytest.mark.parametrize("path", [LIST, f"{LIST}/stream", f"{LIST}/x", "/friends", "/nosuch"])
@pytest.mark.parametrize(
    "sent", [None, "", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {TOKEN},x", "é"]
)
async def test_nobody_is_answered_without_a_token(
    tmp_path: Path, path: str, sent: str | None
) -> None:
    async with serving(f"sqlite:///{tmp_path / 'none.db'}") as backend:
        backend.headers.popall("Authorization")
        headers = {} if sent is None else {"Authorization": sent}
        async with backend.get(path, headers=headers) as response:
            answer = await response.json()
    assert (response.status, response.headers["WWW-Authenticate"]) == (401, "Bearer")
    assert "FRIENDS_API_TOKEN" in answer["message"]


async def test_either_of_two_tokens_will_do(opened: Database, database_url: str) -> None:
    await add(opened, said(1))
    async with serving(database_url, token=f"{OLD},{NEW}") as backend:
        tokens = (OLD, NEW, f"{OLD},")
        answers = [
            await get(backend, LIST, headers={"Authorization": f"bearer {token}"})
            for token in tokens
        ]
    assert [status for status, _ in answers] == [200, 200, 401]


async def test_answers_and_the_database_are_counted(backend: aiohttp.ClientSession) -> None:
    for path in (LIST, "/livez", "/nothing"):
        await get(backend, path)
    text = await eventually(lambda: metrics(backend), lambda text: read_since(text) > 1.7e9)
    answered = "openim_friends_answers_total"
    assert f'{answered}{{route="list_verifications",status="200"}} 1.0' in text
    assert f'{answered}{{route="none",status="404"}} 1.0' in text
    assert 'openim_friends_answer_seconds_count{route="live"} 1.0' in text


async def metrics(backend: aiohttp.ClientSession) -> str:
    async with backend.get("/metrics", headers={"Authorization": ""}) as response:
        return await response.text()


def read_since(text: str) -> float:
    return float(text.rpartition("database_read_since_seconds ")[2].split()[0])


# What is asked for


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [4, 3, 2, 1]),
        ("?user=b", [4, 3, 1]),
        ("?from=b", [4, 3]),
        ("?to=b&kind=application", [1]),
        ("?kind=agreement", [4]),
        ("?since=2024-07-01T08:00:03Z", [4, 3]),
        ("?since=2024-07-01T10:00:03%2B02:00&limit=1", [4]),
        ("?user=nu%00l%FF", []),
    ],
)
async def test_messages_are_listed_newest_first_by_what_is_asked(
    backend: aiohttp.ClientSession, opened: Database, query: str, numbers: list[int]
) -> None:
    await add(
        opened,
        said(1),
        said(2, from_user_id="c", to_user_id="d"),
        said(3, from_user_id="b", to_user_id="a"),
        said(4, from_user_id="b", to_user_id="a", kind="agreement", result=1),
    )
    status, answer = await get(backend, LIST + query)
    assert status == 200
    assert [int(item["message_id"]) for item in answer["items"]] == numbers


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            f"{LIST}?limit=0",
            "limit='0' is not allowed: a whole number at least 1 and at most 200",
        ),
        (f"{LIST}?limit=ten", "limit='ten' is not allowed: a whole number at least 1"),
        (f"{LIST}?frm=a", "'frm' is no parameter; known are user, from, to, kind, since"),
        (f"{LIST}?user=a&user=b", "user is given more than once"),
        (f"{LIST}?user=", "user='' is not allowed: text, not empty"),
        (f"{LIST}?kind=refusal", "kind='refusal' is not allowed: application or agreement"),
        (f"{LIST}?since=1719800000", "since='1719800000' is not allowed: a time with its zone"),
        (f"{LIST}?since=2024-07-01T08:00:00", "since='2024-07-01T08:00:00' is not allowed"),
        (f"{LIST}?cursor=AAAA", "this cursor is none of ours"),
        (f"{LIST}?cursor=WzEsIlx1MDAwMCJd", "this cursor is none of ours"),
        (f"{LIST}/x?user=a", "'user' is no parameter; known are message_id"),
        (f"{LIST}/stream?since=now", "since='now' is not allowed"),
        ("/friends", "user is missing: text, not empty"),
        ("/friends?user=a&cursor=WzFd", "this cursor is none of ours"),
        ("/livez?verbose=", "'verbose' is no parameter; none are known here"),
    ],
)
async def test_a_bad_parameter_is_named_with_what_is_allowed(
    tmp_path: Path, path: str, message: str
) -> None:
    async with serving(f"sqlite:///{tmp_path / 'none.db'}") as backend:
        status, answer = await get(backend, path)
    assert (status, answer["error"]) == (400, "bad_parameter")
    assert answer["message"].startswith(message)


async def test_what_is_not_there_and_other_methods_are_refused_in_json(
    backend: aiohttp.ClientSession,
) -> None:
    assert (await get(backend, "/nosuch"))[1]["error"] == "no_such_path"
    assert (await get(backend, f"{LIST}/nosuch"))[1]["error"] == "no_such_message"
    async with backend.post(LIST, data=b"x" * 100_000) as response:
        assert (response.status, response.headers["Allow"]) == (405, "GET")
        assert (await response.json())["error"] == "method"


async def test_what_is_no_http_gets_json_too(backend: aiohttp.ClientSession) -> None:
    url = address(backend)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    writer.write(b"GET / HTTX\r\n\r\n")
    said_ = await reader.read()
    writer.close()
    assert said_.startswith((b"HTTP/1.0 400", b"HTTP/1.1 400"))
    assert said_.endswith(b'{"error":"http","message":"this is no HTTP that we understand"}')


async def test_our_own_fault_is_json_and_in_the_log(
    backend: aiohttp.ClientSession,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(answering, "described", lambda: 1 / 0)
    status, answer = await get(backend, "/openapi.json")
    assert (status, answer["error"]) == (500, "internal")
    assert "request failed" in caplog.messages


async def test_a_message_is_found_by_its_id(
    backend: aiohttp.ClientSession, opened: Database
) -> None:
    await add(opened, said(1, kind="agreement", result=1), said(2))
    assert await get(backend, f"{LIST}/{1:036}") == (
        200,
        {
            "message_id": f"{1:036}",
            "kind": "agreement",
            "from_user_id": "a",
            "to_user_id": "b",
            "message": "hello 1",
            "result": 1,
            "received": "2024-07-01T08:00:01Z",
        },
    )


async def test_a_list_is_read_to_its_end_while_others_are_added(
    backend: aiohttp.ClientSession, opened: Database
) -> None:
    await fill(opened, 1000)
    seen: list[int] = []
    _, page = await get(backend, f"{LIST}?limit=130")
    newer = MORNING + timedelta(days=1)
    while page["next_cursor"]:
        seen += [int(item["message_id"]) for item in page["items"]]
        await add(opened, said(5000 + len(seen), received=newer))
        _, page = await get(backend, f"{LIST}?limit=130&cursor={page['next_cursor']}")
    seen += [int(item["message_id"]) for item in page["items"]]
    assert seen == list(range(999, -1, -1))


async def test_friends_and_black_lists_are_read_in_pages(
    backend: aiohttp.ClientSession, opened: Database
) -> None:
    events = [
        AfterImportFriends(owner_user_id="a", friend_user_ids=["d", "b", "ç"]),
        AfterAddFriendAgree(from_user_id="a", to_user_id="c"),
        *(BeforeAddBlack(owner_user_id="a", black_user_id=each) for each in ("x", "y")),
    ]
    await handle(opened, *received(events, range(len(events))))
    seen: dict[str, list[str]] = {}
    for path in ("/friends", "/friends/black-list"):
        _, page = await get(backend, f"{path}?user=a&limit=1")
        seen[path] = [page["items"][0]["user_id"]]
        while page["next_cursor"]:
            _, page = await get(backend, f"{path}?user=a&limit=1&cursor={page['next_cursor']}")
            seen[path] += [item["user_id"] for item in page["items"]]
    assert sorted(seen["/friends"]) == ["b", "c", "d", "ç"]
    assert seen["/friends/black-list"] == ["x", "y"]


# The description


def problems(  # noqa: PLR0911  # one for each kind of schema
    value: object, schema: Mapping[str, Any], all_: Mapping[str, Any]
) -> list[str]:
    """Say what of a JSON value does not fit a schema, in the few words of it that we use."""
    if "$ref" in schema:
        return problems(value, all_[schema["$ref"].rpartition("/")[2]], all_)
    if "anyOf" in schema:
        each = [problems(value, option, all_) for option in schema["anyOf"]]
        return min(each, key=len)
    types = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict}
    types["null"] = type(None)
    assert set(schema) <= {
        *("type", "title", "description", "enum", "format", "items"),
        *("properties", "required", "additionalProperties"),
    }
    if "enum" in schema:
        return [] if value in schema["enum"] else [f"{value!r} is none of {schema['enum']}"]
    if type(value) is not types[schema["type"]]:
        return [f"{value!r} is no {schema['type']}"]
    if schema.get("format") == "date-time" and not re.fullmatch(r"[\d-]+T[\d:.]+Z", str(value)):
        return [f"{value!r} is no time"]
    if isinstance(value, list):
        return [p for item in value for p in problems(item, schema["items"], all_)]
    if isinstance(value, dict) and "properties" in schema:
        known = schema["properties"]
        wrong = [f"{name} is missing" for name in schema["required"] if name not in value]
        wrong += [f"{name} is not described" for name in value if name not in known]
        return wrong + [p for name in value for p in problems(value[name], known[name], all_)]
    return []


@pytest.mark.parametrize(
    "route", [each for each in ROUTES if each.answer], ids=lambda r: r.name
)
async def test_the_description_holds_for_what_is_answered(
    backend: aiohttp.ClientSession, opened: Database, route: Route
) -> None:
    await add(opened, said(1), said(2, kind="agreement", result=1))
    events = [
        AfterImportFriends(owner_user_id="a", friend_user_ids=["b", "c"]),
        *(BeforeAddBlack(owner_user_id="a", black_user_id=each) for each in ("x", "y")),
    ]
    await handle(opened, *received(events, range(len(events))))
    _, description = await get(backend, "/openapi.json")
    schemas = description["components"]["schemas"]
    operation = description["paths"][route.path]["get"]
    needed = [each["name"] for each in operation["parameters"] if each["required"]]
    given = {"message_id": f"{1:036}", "user": "a"}
    query = {name: given[name] for name in needed if f"{{{name}}}" not in route.path}
    status, answer = await get(backend, route.path.format(**given), params=query)
    described = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    assert problems(answer, described, schemas) == []
    status, refusal = await get(backend, route.path.format(**given) + "?nosuch=1")
    described = operation["responses"][str(status)]["content"]["application/json"]["schema"]
    assert status == 400
    assert problems(refusal, described, schemas) == []
    assert problems({"error": 1}, described, schemas) != []


async def test_every_path_is_described_and_asks_for_what_it_needs(
    backend: aiohttp.ClientSession,
) -> None:
    backend.headers.popall("Authorization")
    status, description = await get(backend, "/openapi.json")
    assert (status, description["openapi"]) == (200, "3.1.0")
    assert list(description["paths"]) == [route.path for route in ROUTES]
    secured = {path for path, each in description["paths"].items() if each["get"]["security"]}
    refused = {path for path in description["paths"] if await _status_of(backend, path) == 401}
    assert secured == refused
    assert len(refused) == 5


async def _status_of(backend: aiohttp.ClientSession, path: str) -> int:
    async with backend.get(path) as response:
        return response.status


# A database that is away


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_that_is_away_is_said_and_back_is_noticed(
    opened: Database, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await add(opened, said(1))
    async with line_to(database_url) as line, serving(line.url) as backend:
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 200)
        line.cut()
        status, answer = await eventually(
            lambda: get(backend, LIST), lambda answer: answer[0] != 200
        )
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 503)
        assert (await get(backend, "/livez"))[0] == 200
        await line.mend()
        await eventually(lambda: get(backend, LIST), lambda answer: answer[0] == 200)
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 200)
    assert (status, answer["error"]) == (503, "database_away")
    assert caplog.messages.count("database unavailable") == 1
    assert caplog.messages.count("reading") == 2


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_database_that_is_silent_is_not_waited_for(
    opened: Database, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "PATIENCE", 0.3)
    await add(opened, said(1))
    async with line_to(database_url) as line, serving(line.url) as backend:
        await eventually(lambda: get(backend, LIST), lambda answer: answer[0] == 200)
        line.silence()
        status, answer = await get(backend, LIST)
        line.resume()
        await eventually(lambda: get(backend, LIST), lambda answer: answer[0] == 200)
    assert (status, answer["error"]) == (503, "database_away")


async def test_before_a_worker_has_made_the_tables_it_is_not_ready(database_url: str) -> None:
    async with serving(database_url) as backend:
        status, answer = await get(backend, LIST)
        assert (await get(backend, "/readyz"))[0] == 503
        async with database.opened(database_url) as opened:
            await opened.create_tables()
        await eventually(lambda: get(backend, "/readyz"), lambda ready: ready[0] == 200)
    assert (status, answer["error"]) == (503, "database_away")


@pytest.mark.usefixtures("opened")
async def test_what_is_opened_to_read_writes_nothing_and_makes_no_file(
    database_url: str, tmp_path: Path
) -> None:
    async with database.opened(database_url, read_only=True) as reader:
        with pytest.raises((DBAPIError, DatabaseAway), match=r"readonly|read-only"):
            await add(reader, said(1))
    async with database.opened(f"sqlite:///{tmp_path / 'a ?b'}", read_only=True) as nothing:
        with pytest.raises(DatabaseAway):
            await add(nothing, said(1))
    assert not (tmp_path / "a ?b").exists()


# The command


async def test_the_api_does_not_start_without_a_token(tmp_path: Path) -> None:
    command = await ran(CONSUMERS, "api", folder=tmp_path)
    assert (command.process.returncode, command.out) == (3, "")
    assert command.err.startswith("error: FRIENDS_API_TOKEN is not set: give a random text")


@pytest.mark.parametrize("token", ["short", "", "with spaces in it, too", "a" * 16 + ","])
async def test_a_poor_token_is_refused_and_not_shown(tmp_path: Path, token: str) -> None:
    command = await ran(CONSUMERS, "api", folder=tmp_path, FRIENDS_API_TOKEN=token)
    assert (command.process.returncode, command.out) == (3, "")
    assert "FRIENDS_API_TOKEN=*** is not allowed: a random text of at least" in command.err


async def test_a_token_file_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    made = tmp_path / "token"
    tokens = []
    for _ in range(2):
        async with started(
            *(CONSUMERS, "api", "--token-file", "token"), folder=tmp_path, FRIENDS_API_PORT="0"
        ) as command:
            await command.says("listening")
            command.process.terminate()
            assert await command.ended() == 0
        tokens.append(made.read_text())
        assert tokens[0].strip() not in command.err
    assert tokens[0] == tokens[1]
    assert len(tokens[0].strip()) >= 40
    assert made.stat().st_mode & 0o777 == 0o600


async def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    async with serving(f"sqlite:///{tmp_path / 'x.db'}") as backend:
        url = address(backend)
        command = await ran(
            *(CONSUMERS, "api"),
            folder=tmp_path,
            FRIENDS_API_PORT=str(url.port),
            FRIENDS_API_TOKEN=TOKEN,
        )
    assert command.process.returncode == 1
    assert "address already in use" in command.err
    assert "Traceback" not in command.err
