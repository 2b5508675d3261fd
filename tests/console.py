"""A console to test against, and people who use it."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from consumers.console import server
from consumers.console.access import Role, hashed
from consumers.console.server import Running
from consumers.settings import Console as Settings
from tests.brokers import Address
from tests.running import NOWHERE, eventually

PASSWORD = "a-password-of-some-length"  # noqa: S105  # nobody's
SILENT = "http://127.0.0.1:1"
"""Nobody answers here."""


@cache
def users() -> str:
    """Give a user for each role, called after it."""
    digest = hashed(PASSWORD)
    return ",".join(f"{role.name.lower()}:{role.name.lower()}:{digest}" for role in Role)


@dataclass
class Person:
    """Somebody at a browser, without the browser."""

    session: aiohttp.ClientSession

    async def status(self, method: str, path: str, **form: str) -> int:
        """Ask for something; give the status of the answer."""
        async with self.session.request(
            method, path, data=form or None, allow_redirects=False
        ) as answer:
            return answer.status

    async def page(self, path: str = "/") -> str:
        """Load a page."""
        async with self.session.get(path) as answer:
            text = await answer.text()
            assert answer.status == 200, text
            return text

    async def csrf(self) -> str:
        """Give what a form has to have."""
        found = re.search(r'name="csrf" value="([^"]+)"', await self.page())
        assert found is not None
        return found[1]

    async def does(self, path: str, **form: str) -> tuple[int, str]:
        """Send a form; give the status and the text of where that leads."""
        form["csrf"] = await self.csrf()
        async with self.session.post(path, data=form) as answer:
            return answer.status, await answer.text()

    async def sees(self, path: str, text: str) -> str:
        """Load a page again and again, until it has a text."""
        return await eventually(lambda: self.page(path), lambda page: text in page)

    async def event(self, command: str, mark: str) -> str:
        """Open the newest event of a command, once it is marked so in the list."""
        page = await self.sees(f"/events?command={command}", f">{mark}</span>")
        found = re.search(r'href="(/event\?id=[^"]+)"', page)
        assert found is not None
        return found[1]


@dataclass
class Console:
    """A console that runs in this process."""

    url: str
    running: Running

    @asynccontextmanager
    async def person(self, role: str = "", **options: Any) -> AsyncIterator[Person]:  # noqa: ANN401
        """Give somebody of a role, who has logged in; or who has not, for none."""
        jar = aiohttp.CookieJar(unsafe=True)
        async with aiohttp.ClientSession(self.url, cookie_jar=jar, **options) as session:
            person = Person(session)
            if role:
                form = {"name": role, "password": PASSWORD}
                assert await person.status("POST", "/login", **form) == 303
            yield person


@asynccontextmanager
async def console(folder: Path, **changed: Any) -> AsyncIterator[Console]:  # noqa: ANN401
    """Run a console during the block."""
    values: dict[str, Any] = {
        "amqp_url": NOWHERE,
        "management_url": SILENT,
        "callback_url": f"{SILENT}/callbackExample",
        "database_url": f"sqlite:///{folder}/console.db",
        "index_path": str(folder / "index.db"),
        "users": users(),
        "port": 0,
    }
    async with server.running(Settings(**(values | changed))) as running:
        yield Console(f"http://127.0.0.1:{running.port}", running)


def at(amqp_url: str, broker: Address, url: str = "") -> dict[str, str]:
    """Give the settings of a console of this RabbitMQ, and of the receiver at `url`."""
    where = {"callback_url": url} if url else {}
    return {"amqp_url": amqp_url, "management_url": broker.management_url, **where}
