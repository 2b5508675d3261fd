"""No secret and no body in anything that is printed, logged or shown, whatever goes wrong.

Everything runs for real, with secrets and texts that hold the word zebra; and then zebra is
looked for in all that came out.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
from yarl import URL

from tests.brokers import Address
from tests.commands import BRIDGE, CONSUMERS, Command, ran, started

SECRET = "zebra-secret-" + "s" * 40
WORD = "zebra-password"
PATH = "/zebra-path"
TOKEN = "zebra-token-" + "t" * 20
TEXT = "zebra says hello"

HANDLERS = """
from bridge.contract import AfterAddFriendAgree, AfterDeleteFriend, BeforeAddFriend
from consumers.registry import Handlers, Reject

handlers = Handlers("shop")


@handlers.on(AfterAddFriendAgree)
async def fail(event: AfterAddFriendAgree) -> None:
    raise Reject("the shop is closed")


@handlers.on(AfterDeleteFriend)
async def crash(event: AfterDeleteFriend) -> None:
    secret = event
    raise RuntimeError("the shop burns")
"""

AGREE = "callbackAfterAddFriendAgreeCommand"
DELETE = "callbackAfterDeleteFriendCommand"


@dataclass
class Everything:
    """What came out, by where it came from."""

    said: dict[str, str] = field(default_factory=dict)
    running: list[Command] = field(default_factory=list)

    def leaks(self) -> dict[str, list[str]]:
        """Give the lines with zebra in them."""
        found = {
            where: [line for line in text.splitlines() if "zebra" in line.lower()]
            for where, text in self.said.items()
        }
        return {where: lines for where, lines in found.items() if lines}

    async def run(self, program: tuple[str, ...], *words: str, **settings: str) -> str:
        """Run a command to its end; give what it wrote."""
        folder = settings.pop("folder")
        command = await ran(program, *words, folder=Path(folder), **settings)
        name = f"{program[-1]} {' '.join(words[:2])} {len(self.said)}"
        self.said[name] = command.out + command.err
        return self.said[name]

    def look_at_processes(self) -> None:
        """Note what `ps` and its like show of those that run."""
        for command in self.running:
            shown = [
                Path(f"/proc/{command.process.pid}/{name}") for name in ("cmdline", "status")
            ]
            self.said[f"process {command.process.pid}"] = "".join(p.read_text() for p in shown)


@pytest.fixture
async def login(broker: Address, amqp_url: str) -> AsyncIterator[str]:
    """The URL of a user of RabbitMQ whose password would be noticed."""
    url = URL(amqp_url)
    name = f"leaks-{url.path.strip('/')}"
    rights = {"configure": ".*", "write": ".*", "read": ".*"}
    users = f"{broker.management_url}/api/users/{name}"
    where = f"{broker.management_url}/api/permissions/{url.path.strip('/')}/{name}"
    async with aiohttp.ClientSession(raise_for_status=True) as api:
        await api.put(users, json={"password": WORD, "tags": "administrator"})
        await api.put(where, json=rights)
        yield str(url.with_user(name).with_password(WORD))
        await api.delete(users)


def settings_of(folder: Path, login: str, management_url: str) -> dict[str, str]:
    """Give the settings of all processes."""
    (folder / "secrets").write_text(f"main:{SECRET}\n", encoding="utf-8")
    (folder / "shop.py").write_text(HANDLERS, encoding="utf-8")
    management = URL(management_url).with_user(None)
    return {
        "folder": str(folder),
        "BRIDGE_PORT": "0",
        "BRIDGE_PATH": PATH,
        "BRIDGE_SECRETS_FILE": str(folder / "secrets"),
        "BRIDGE_AMQP_URL": login,
        "BRIDGE_MANAGEMENT_URL": str(management),
        "BRIDGE_LOG_LEVEL": "debug",
        "CONSUMERS_AMQP_URL": login,
        "CONSUMERS_HANDLERS": "shop",
        "CONSUMERS_LOG_LEVEL": "debug",
        "FRIENDS_API_TOKEN": TOKEN,
        "FRIENDS_API_PORT": "0",
        "FRIENDS_API_LOG_LEVEL": "debug",
    }


@asynccontextmanager
async def servers(settings: dict[str, str], seen: Everything) -> AsyncIterator[tuple[URL, URL]]:
    """Run receiver, worker and friends API; give where the first and the last are."""
    variables = dict(settings)
    folder = Path(variables.pop("folder"))
    async with AsyncExitStack() as stack:
        for program, word in ((BRIDGE, "receive"), (CONSUMERS, "work"), (CONSUMERS, "api")):
            opened = started(program, word, folder=folder, **variables)
            seen.running.append(await stack.enter_async_context(opened))
        receiver, worker, api = seen.running
        await receiver.says('"message":"broker connected"')
        await worker.says('"message":"working"')
        await api.says('"port"')
        yield place(receiver), place(api)
        seen.look_at_processes()
        for command in seen.running:
            command.interrupt()
            await command.ended()
            seen.said[f"log {command.process.pid}"] = command.out + command.err


def place(command: Command) -> URL:
    lines = [json.loads(line) for line in command.err.splitlines()]
    port = next(line["port"] for line in lines if "port" in line)
    return URL(f"http://127.0.0.1:{port}")


def body(command: str, **fields: object) -> bytes:
    known = {"callbackCommand": command, "operationID": "op-1", "fromUserID": "ann"}
    return json.dumps({**known, "text": TEXT, "content": TEXT, **fields}).encode()


def requests(origin: URL) -> list[tuple[str, str, bytes, str | None]]:
    """Give what is sent to the receiver: method, target, body, secret."""
    base, agree = f"{origin}{PATH}", body(AGREE, reqMsg=TEXT, handleMsg=TEXT)
    return [
        ("POST", f"{base}/{AGREE}", agree, SECRET),
        ("POST", f"{base}/{SECRET}/{DELETE}", body(DELETE), None),
        ("POST", f"{base}/{AGREE}", b'{"handleResult":"zebra"}', SECRET),
        ("POST", f"{base}/{AGREE}", b'{"zebra', SECRET),
        ("POST", f"{base}/{AGREE}", body("zebraCommand"), SECRET),
        ("POST", f"{base}/{AGREE}", agree, SECRET[:-1]),
        ("POST", f"{base}/{AGREE}", agree, None),
        ("POST", f"{base}/{SECRET[:-1]}/{AGREE}", agree, None),
        ("POST", f"{origin}/zebra/{AGREE}?zebra=1", agree, None),
        ("GET", f"{base}/{AGREE}", b"", SECRET),
        ("POST", f"{base}/{AGREE}", b"zebra" * 2**20, SECRET),
        ("POST", f"{base}/callbackBeforeAddFriendCommand", body("x" * 3), SECRET),
        ("GET", f"{origin}/metrics", b"", None),
        ("GET", f"{origin}/readyz?verbose", b"", None),
        ("GET", f"{origin}/livez", b"", None),
    ]


async def send(origin: URL, seen: Everything) -> list[int]:
    """Send it all; note what was answered, and give the statuses."""
    statuses = []
    async with aiohttp.ClientSession() as session:
        for number, (method, url, data, secret) in enumerate(requests(origin)):
            auth = (
                {"Authorization": aiohttp.encode_basic_auth("openim", secret)} if secret else {}
            )
            async with session.request(
                method, url, data=BytesIO(data), headers=auth
            ) as response:
                seen.said[f"answer {number}"] = f"{response.headers} {await response.text()}"
                statuses.append(response.status)
    return statuses


async def ask_friends(origin: URL, seen: Everything) -> list[int]:
    """Ask the friends API with a wrong token, and for what is not there."""
    statuses = []
    async with aiohttp.ClientSession() as session:
        for token, path in (
            (TOKEN[:-1], "/friends/verifications"),
            (TOKEN, "/zebra"),
            (TOKEN, "/"),
        ):
            bearer = {"Authorization": f"Bearer {token}"}
            async with session.get(f"{origin}{path}", headers=bearer) as response:
                seen.said[f"friends {path} {token}"] = str(response.headers)
                statuses.append(response.status)
    return statuses


async def run_commands(origin: URL, settings: dict[str, str], seen: Everything) -> None:
    """Run what looks at all that, with success and without."""
    with_secret = f"http://openim:{SECRET}@127.0.0.1:{origin.port}{PATH}"
    letters = await seen.run(CONSUMERS, "dead-letters", "list", "--each", "--json", **settings)
    found = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", letters)
    assert found, letters
    message_id = found[0]
    wrong = {
        **settings,
        "BRIDGE_AMQP_URL": _spoiled(settings["BRIDGE_AMQP_URL"]),
        "CONSUMERS_AMQP_URL": _spoiled(settings["BRIDGE_AMQP_URL"]),
    }
    await asyncio.gather(
        seen.run(CONSUMERS, "dead-letters", "show", message_id, **settings),
        seen.run(CONSUMERS, "dead-letters", "list", **wrong),
        seen.run(BRIDGE, "send", AGREE, "--url", with_secret, **settings),
        seen.run(BRIDGE, "send", AGREE, "--url", f"http://127.0.0.1:1{PATH}", **settings),
        seen.run(BRIDGE, "subscriptions", **settings),
        seen.run(BRIDGE, "subscriptions", **wrong),
        seen.run(BRIDGE, "tail", "-n", "1", **wrong),
        seen.run(BRIDGE, "webhooks-yml", "write", "w.yml", "--url", with_secret, **settings),
        seen.run(BRIDGE, "secrets", "show", "--url", str(origin), **settings),
        seen.run(BRIDGE, "receive", **{**settings, "BRIDGE_PATH": "zebra path"}),
        seen.run(BRIDGE, "receive", **{**settings, "BRIDGE_SECRETS": "zebra"}),
    )


def _spoiled(login: str) -> str:
    return str(URL(login).with_password(f"{WORD}-wrong"))


async def test_nothing_leaks(tmp_path: Path, broker: Address, login: str) -> None:
    seen = Everything()
    settings = settings_of(tmp_path, login, broker.management_url)
    async with servers(settings, seen) as (receiver, api):
        statuses = await send(receiver, seen)
        asked = await ask_friends(api, seen)
        await seen.running[1].says('"message":"dead letter"')
        await run_commands(receiver, settings, seen)
    assert statuses == [200, 200, 200, 400, 400, 401, 401, 404, 404, 405, 413, 400, *[200] * 3]
    assert asked[0] == 401
    assert len(seen.said) > 25
    assert seen.leaks() == {}
