"""RabbitMQ's management HTTP API: what AMQP cannot ask, and users."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import aiohttp
from yarl import URL

from bridge.deliveries import BrokerError, Seconds
from bridge.tls import client_context
from bridge.topology import Binding


class NoManagement(BrokerError):
    """The API did not do what it was asked; the message says why. Nothing else is amiss."""


def address(management_url: str, amqp_url: str) -> URL:
    """Give the URL of the API, with user and password.

    Args:
        management_url: As it was set; "" is where RabbitMQ has it by default.
        amqp_url: The RabbitMQ that it is of.

    """
    amqp = URL(amqp_url)
    tls = amqp.scheme == "amqps"
    default = URL.build(
        scheme="https" if tls else "http", host=amqp.host or "", port=15671 if tls else 15672
    )
    url = URL(management_url) if management_url else default
    return url if url.user else url.with_user(amqp.user).with_password(amqp.password)


def virtual_host(amqp_url: str) -> str:
    """Give the name of the virtual host that a URL leads to."""
    return URL(amqp_url).path.removeprefix("/") or "/"


class Management:
    """The API, for one virtual host."""

    def __init__(self, session: aiohttp.ClientSession, url: URL, host: str) -> None:
        self._session = session
        self._url = url
        self._host = host
        self._date = ""

    async def queues(self) -> list[dict[str, Any]]:
        """List all queues, as RabbitMQ describes them; its counts are some seconds old."""
        found: list[dict[str, Any]] = await self._ask("GET", "queues", self._host)
        return found

    async def exchanges(self) -> list[dict[str, Any]]:
        """List all exchanges, as RabbitMQ describes them."""
        found: list[dict[str, Any]] = await self._ask("GET", "exchanges", self._host)
        return found

    async def all_bindings(self) -> list[dict[str, Any]]:
        """List all bindings, as RabbitMQ describes them."""
        found: list[dict[str, Any]] = await self._ask("GET", "bindings", self._host)
        return found

    async def bindings(self, exchange: str) -> list[Binding]:
        """List what is bound to an exchange."""
        path = ("exchanges", self._host, exchange, "bindings", "source")
        found: list[dict[str, str]] = await self._ask("GET", *path)
        return [
            Binding(
                exchange=exchange, queue=each["destination"], routing_key=each["routing_key"]
            )
            for each in found
            if each["destination_type"] == "queue"
        ]

    async def consumers(self) -> list[dict[str, Any]]:
        """List who consumes which queue, as RabbitMQ describes them."""
        found: list[dict[str, Any]] = await self._ask("GET", "consumers", self._host)
        return found

    async def alarms(self) -> tuple[str, ...]:
        """Say what RabbitMQ is short of, for which it takes no messages."""
        nodes: list[dict[str, Any]] = await self._ask("GET", "nodes")
        told = {"mem_alarm": "memory", "disk_free_alarm": "disk"}
        return tuple(word for key, word in told.items() if any(node.get(key) for node in nodes))

    async def unbind(self, binding: Binding) -> None:
        """Remove a binding that has no arguments."""
        between = ("bindings", self._host, "e", binding.exchange, "q", binding.queue)
        for each in await self._ask("GET", *between):
            if each["routing_key"] == binding.routing_key:
                await self._ask("DELETE", *between, each["properties_key"])

    async def time(self) -> float:
        """Give the time of RabbitMQ's machine: seconds since 1970, whole ones."""
        await self._ask("GET", "whoami")
        try:
            return parsedate_to_datetime(self._date).timestamp()
        except ValueError as error:
            raise NoManagement("RabbitMQ does not tell its time") from error

    async def has_user(self, name: str) -> bool:
        """Say whether there is a user of that name, in whatever virtual host."""
        return await self._ask("GET", "users", name, missing=True) is not None

    async def put_user(self, name: str, password: str) -> None:
        """Make a user, or give one another password."""
        await self._ask("PUT", "users", name, json={"password": password, "tags": ""})

    async def permit(self, name: str, *, read: str) -> None:
        """Let a user read what a pattern matches, and do nothing else."""
        rights = {"configure": "^$", "write": "^$", "read": read}
        await self._ask("PUT", "permissions", self._host, name, json=rights)

    async def remove_user(self, name: str) -> bool:
        """Let a user in here no more; remove one who is let in nowhere else. False: no such."""
        await self._ask("DELETE", "permissions", self._host, name, missing=True)
        left = await self._ask("GET", "users", name, "permissions", missing=True)
        if not left:
            return await self._ask("DELETE", "users", name, missing=True) is not None
        return True

    async def _ask(
        self, method: str, *path: str, json: object = None, missing: bool = False
    ) -> Any:  # noqa: ANN401  # whatever RabbitMQ answers
        """Ask; None if `missing` is allowed and it is."""
        # A virtual host is called `/`, which must not become part of the path.
        parts = "/".join(quote(part, safe="") for part in path)
        base = str(self._url.with_user(None)).rstrip("/")
        url = URL(f"{base}/api/{parts}", encoded=True)
        try:
            async with self._session.request(method, url, json=json) as answer:
                if missing and answer.status == HTTPStatus.NOT_FOUND:
                    return None
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise NoManagement(self._refusal(answer.status))
                self._date = answer.headers.get("Date", "")
                return await answer.json() if method == "GET" else ""
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or "it did not answer in time"
            where = f"{self._url.host}:{self._url.port}"
            raise NoManagement(f"no management API at {where}: {why}") from error

    def _refusal(self, status: int) -> str:
        who = f"user {self._url.user!r}"
        if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
            return f"the management API refuses {who}: ask as one with the tag administrator"
        return f"the management API at {self._url.host}:{self._url.port} answered {status}"


@asynccontextmanager
async def management(
    management_url: str, amqp_url: str, timeout: Seconds
) -> AsyncIterator[Management]:
    """Give the API during the block; each call of it may raise `NoManagement`."""
    url, files = address(management_url, amqp_url), URL(amqp_url).query
    names = ("cafile", "certfile", "keyfile")
    tls = client_context(*(files.get(name, "") for name in names))
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=tls),
        headers={
            "Authorization": aiohttp.encode_basic_auth(url.user or "", url.password or "")
        },
        timeout=aiohttp.ClientTimeout(total=timeout),
    ) as session:
        yield Management(session, url, virtual_host(amqp_url))
