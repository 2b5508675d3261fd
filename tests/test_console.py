"""The console: who gets in, to what, and what an answer says to a browser."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from bridge.contract import EVENTS
from bridge.documents import DOCUMENTS
from consumers.console import rendering
from consumers.console.access import GUESSES, Role
from consumers.console.front import GUESSING, HEADERS
from consumers.console.routes import ROUTES, TABS, Route
from tests.commands import BRIDGE, ran, started
from tests.console import PASSWORD, Console, console
from tests.running import NOWHERE, eventually, until

TEMPLATES = sorted(Path(rendering.__file__).with_name("templates").glob("*.html"))

ROLES = ["", *(role.name.lower() for role in Role)]


@pytest.fixture
async def shown(tmp_path: Path) -> AsyncIterator[Console]:
    """A console with nothing around it."""
    async with console(tmp_path) as running:
        await eventually(running.running.sources.index.span, lambda span: span[0] == 0)
        yield running


def path_of(route: Route) -> str:
    """Give a path that a route answers."""
    file = "callbacks.css" if route.name == "documents" else "console.css"
    return route.path.replace("{file}", file)


def allowed(route: Route, role: str) -> bool:
    """Say whether a role may ask for a route, by the table."""
    return route.role is None or (role != "" and Role[role.upper()] >= route.role)


@pytest.mark.parametrize("role", ROLES)
async def test_each_role_gets_what_it_may_and_nothing_else(shown: Console, role: str) -> None:
    async with shown.person(role) as person:
        form = {"csrf": await person.csrf()} if role else {"csrf": ""}
        refused = {
            route.name: await person.status(
                route.method, path_of(route), **(form if route.method == "POST" else {})
            )
            in {303, 401, 403}
            for route in ROUTES
            # Logging in says 403 to whom it does not know, and logging out leads there.
            if route.name not in {"login", "logout"}
        }
        out = await person.status("POST", "/logout", **form)
    known = [route for route in ROUTES if route.name in refused]
    assert refused == {route.name: not allowed(route, role) for route in known}
    assert out == (303 if role else 401)


async def test_what_is_no_route_is_not_there(shown: Console) -> None:
    async with shown.person("admin") as person:
        assert await person.status("GET", "/nothing") == 404
        assert await person.status("DELETE", "/") == 405
        assert await person.status("GET", "/static/..%2Fserver.py") == 404


async def test_answers_are_counted_for_prometheus_who_needs_no_password(shown: Console) -> None:
    async with shown.person("viewer") as person:
        await person.status("GET", "/flow")
        await person.status("GET", "/nothing")
    async with shown.person() as nobody:
        text = await nobody.page("/metrics")
    answered = "openim_console_answers_total"
    assert f'{answered}{{route="flow",status="200"}} 1.0' in text
    assert f'{answered}{{route="none",status="404"}} 1.0' in text
    assert "openim_console_streams 0.0" in text


async def test_the_documents_of_all_callbacks_are_there(shown: Console) -> None:
    async with shown.person("viewer") as person:
        pages = {
            each.file: await person.page(f"/documents/{each.file}")
            for each in DOCUMENTS.values()
        }
        assert await person.status("GET", "/documents/server.py") == 404
    page = pages["callbacks.html"]
    assert '<a href="/">OpenIM bridge</a>' in page
    assert pages == {each.file: each.make() for each in DOCUMENTS.values()} | {
        "callbacks.html": page
    }
    assert [each for each in EVENTS if f'id="{each.command}"' not in page] == []


async def test_every_answer_has_the_headers(shown: Console) -> None:
    documents = ["/documents/callbacks.html", "/documents/callbacks.css"]
    paths = [*(tab.path for tab in TABS), *documents, "/login", "/nothing", "/livez"]
    async with shown.person("admin") as person:
        headers = [await _headers(person.session, path) for path in paths]
    wanted = {**HEADERS, "Cache-Control": "no-store"}
    assert [{name: each.get(name) for name in wanted} for each in headers] == [wanted] * len(
        paths
    )


async def _headers(session: aiohttp.ClientSession, path: str) -> dict[str, str]:
    async with session.get(path) as answer:
        return dict(answer.headers)


async def test_the_cookie_is_for_this_site_and_no_script(shown: Console) -> None:
    async with shown.person() as person:
        form = {"name": "viewer", "password": PASSWORD}
        plain = await _cookie(person.session, form, {})
        safe = await _cookie(person.session, form, {"X-Forwarded-Proto": "https"})
    assert re.fullmatch(r"openim-console=\S+; HttpOnly; Path=/; SameSite=Strict", plain)
    assert re.fullmatch(
        r"__Host-openim-console=\S+; HttpOnly; Path=/; SameSite=Strict; Secure", safe
    )


async def _cookie(
    session: aiohttp.ClientSession, form: dict[str, str], headers: dict[str, str]
) -> str:
    async with session.post(
        "/login", data=form, headers=headers, allow_redirects=False
    ) as answer:
        return answer.headers["Set-Cookie"]


async def test_a_wrong_password_is_refused_and_soon_all_from_there(shown: Console) -> None:
    async with shown.person() as person:
        wrong = {"name": "admin", "password": "wrong"}
        said = [await person.status("POST", "/login", **wrong) for _ in range(GUESSES)]
        assert said == [403] * GUESSES
        right = {"name": "admin", "password": PASSWORD}
        assert await person.status("POST", "/login", **right) == 429


async def test_many_wrong_passwords_at_once_are_no_more_guesses(shown: Console) -> None:
    async with shown.person() as person:
        wrong = {"name": "admin", "password": "wrong"}
        asked = [person.status("POST", "/login", **wrong) for _ in range(4 * GUESSES)]
        said = await asyncio.gather(*asked)
    assert GUESSES <= said.count(403) < GUESSES + GUESSING
    assert said.count(403) + said.count(429) == len(said)


async def test_a_name_that_nobody_has_gets_the_same_answer(shown: Console) -> None:
    async with shown.person() as person:
        one = await _said(person.session, "admin")
        assert one == await _said(person.session, "nobody")


async def _said(session: aiohttp.ClientSession, name: str) -> str:
    async with session.post("/login", data={"name": name, "password": "wrong"}) as answer:
        return await answer.text()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "same-origin"}, 400),
        ({"Origin": "http://elsewhere.test"}, 403),
        ({"Origin": "null"}, 403),
        ({}, 400),
    ],
)
async def test_a_form_of_another_site_is_refused(
    shown: Console, headers: dict[str, str], status: int
) -> None:
    async with shown.person("operator") as person:
        form = {"csrf": await person.csrf()}
        async with person.session.post(
            "/dead-letters/replay", data=form, headers=headers
        ) as answer:
            # 400: let through, and found to name no letters.
            assert answer.status == status


async def test_a_form_without_its_token_is_refused(shown: Console) -> None:
    async with shown.person("operator") as one, shown.person("operator") as other:
        status = await one.status("POST", "/dead-letters/replay", csrf=await other.csrf())
    assert status == 403


async def test_who_logs_out_is_out(shown: Console) -> None:
    async with shown.person("viewer") as person:
        cookies = {each.key: each.value for each in person.session.cookie_jar}
        await person.does("/logout")
        async with person.session.get("/", cookies=cookies, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/login"


async def test_who_got_hold_of_the_cookie_elsewhere_is_not_in(shown: Console) -> None:
    there = aiohttp.TCPConnector(local_addr=("127.0.0.2", 0))
    async with (
        shown.person("viewer") as person,
        aiohttp.ClientSession(connector=there) as thief,
    ):
        cookies = {each.key: each.value for each in person.session.cookie_jar}
        async with thief.get(shown.url, cookies=cookies, allow_redirects=False) as answer:
            assert answer.headers["Location"] == "/login"
        assert await person.status("GET", "/") == 200


async def test_a_browser_forgets_the_cookie_of_who_logs_out(shown: Console) -> None:
    async with shown.person("viewer") as person:
        form = {"csrf": await person.csrf()}
        async with person.session.post("/logout", data=form, allow_redirects=False) as answer:
            cookies = [each.lower() for each in answer.headers.getall("Set-Cookie")]
    (safe,) = [each for each in cookies if each.startswith("__host-openim-console=")]
    assert {"max-age=0", "path=/", "secure"} <= set(safe.split("; "))


def test_what_stands_in_a_link_is_encoded() -> None:
    raw = re.compile(r"[?;&]\w+=\{\{(?![^}]*\|urlencode )[^}]*\}\}")
    found = [(path.name, raw.findall(path.read_text("utf-8"))) for path in TEMPLATES]
    assert [each for each in found if each[1]] == []


async def test_who_is_idle_is_out(tmp_path: Path) -> None:
    async with (
        console(tmp_path, idle_timeout=0.2) as running,
        running.person("viewer") as person,
    ):
        at_rest = asyncio.get_running_loop().time() + 0.3
        await until(lambda: asyncio.get_running_loop().time() > at_rest)
        assert await person.status("GET", "/") == 303


async def test_nobody_is_in_for_ever(tmp_path: Path) -> None:
    async with (
        console(tmp_path, session_timeout=0.5) as running,
        running.person("viewer") as person,
    ):
        await eventually(lambda: person.status("GET", "/"), lambda status: status == 303)


async def test_a_live_page_keeps_nobody_in(tmp_path: Path) -> None:
    async with (
        console(tmp_path, idle_timeout=1.5) as running,
        running.person("viewer") as person,
        person.session.get("/live?page=overview") as stream,
    ):
        assert b"event: over" in await stream.content.read()


async def test_a_user_has_only_so_many_live_pages(tmp_path: Path) -> None:
    async with (
        console(tmp_path, streams=1) as running,
        running.person("viewer") as one,
        running.person("viewer") as other,
        one.session.get("/live?page=overview") as stream,
    ):
        assert await stream.content.readline()
        assert await other.status("GET", "/live?page=overview") == 429


async def test_a_live_page_asks_for_the_role_of_its_page(shown: Console) -> None:
    async with shown.person("operator") as person:
        assert await person.status("GET", "/live?page=audit") == 404
        assert await person.status("GET", "/live?page=login") == 404


async def test_a_page_without_anything_around_is_a_page(shown: Console) -> None:
    listed = [tab for tab in TABS if tab.listed]
    async with shown.person("admin") as person:
        pages = [await person.page(tab.path) for tab in listed]
    titles = [page.partition("<h1>")[2].partition("</h1>")[0] for page in pages]
    assert titles == [tab.title for tab in listed]


async def test_bodies_and_secrets_are_no_business_of_a_viewer(shown: Console) -> None:
    async with shown.person("viewer") as viewer, shown.person("admin") as admin:
        assert "/callbackExample" not in await viewer.page("/setup")
        assert "/callbackExample" in await admin.page("/setup")


async def test_markup_in_a_filter_is_text(shown: Console) -> None:
    async with shown.person("viewer") as person:
        page = await person.page("/events?user=%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page


async def test_a_filter_that_makes_no_sense_is_explained(shown: Console) -> None:
    async with (
        shown.person("viewer") as person,
        person.session.get("/events?since=yesterday") as answer,
    ):
        assert answer.status == 400
        assert "2026-01-31T08:00" in await answer.text()


async def test_it_gives_way_to_a_receiver_beside_it(tmp_path: Path) -> None:
    async with started(
        *(BRIDGE, "console"),
        folder=tmp_path,
        CONSOLE_PORT="0",
        CONSOLE_AMQP_URL=NOWHERE,
        CONSOLE_PASSWORD=PASSWORD,
    ) as command:
        await command.says('"listening"')
        assert os.getpriority(os.PRIO_PROCESS, command.process.pid) > os.nice(0)


async def test_without_a_password_it_does_not_start(tmp_path: Path) -> None:
    command = await ran(BRIDGE, "console", folder=tmp_path)
    assert await command.ended() == 3
    assert "CONSOLE_PASSWORD" in command.err


async def test_a_user_is_made_by_a_command(tmp_path: Path) -> None:
    (tmp_path / "password").write_text(PASSWORD + "\n")
    words = ("console-user", "ann", "--role", "operator", "--password-file", "password")
    made = await ran(BRIDGE, *words, folder=tmp_path)
    async with (
        console(tmp_path, users=made.out.strip()) as running,
        running.person() as person,
    ):
        form = {"name": "ann", "password": PASSWORD}
        assert await person.status("POST", "/login", **form) == 303
        assert "operator" in await person.page("/")


@pytest.mark.parametrize(
    ("name", "password", "said"),
    [
        ("ann", "short", "12 characters"),
        ("ann", "\n", "holds no password"),
        ("a:b", PASSWORD, "CONSOLE_USERS"),
    ],
)
async def test_a_user_that_could_not_be_is_refused(
    tmp_path: Path, name: str, password: str, said: str
) -> None:
    (tmp_path / "password").write_text(password)
    words = (name, "--password-file", "password")
    command = await ran(BRIDGE, "console-user", *words, folder=tmp_path)
    assert await command.ended() in {2, 3}
    assert said in command.err
