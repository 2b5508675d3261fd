"""The way to RabbitMQ, one step after the other, and what must be there at its end."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial

from yarl import URL

from bridge import inspection
from bridge.broker import BrokerError, connect
from bridge.doctor import certificates, differences
from bridge.doctor.checks import Check, NotTried, Wrong
from bridge.handshake import Blocked, Handshake, NoAMQP, Refused, opened
from bridge.management import NoManagement, management, virtual_host
from bridge.settings import Connected
from bridge.topology import Topology
from bridge.transport import tls_context

OLDEST = (3, 10)
"""The version of RabbitMQ that brought what the bridge relies on: dead letters that are kept
until they have arrived, and streams whose length is bounded."""

APART = 5.0
"""Seconds by which two clocks may differ; RabbitMQ tells its own in whole ones."""


@dataclass
class RabbitMQ:
    """The checks of one RabbitMQ, which share a socket; to be closed.

    Attributes:
        settings: Whose connection it is.
        wanted: What must be there.
        publishes: Exchanges that must take messages, each with a routing key to try.
        consumes: Queues that must give theirs.
        means: What it means for callbacks when there is no way to RabbitMQ.
        management_url: Of its management API.
        program: Who looks.

    """

    settings: Connected
    wanted: Topology
    publishes: Sequence[tuple[str, str]]
    means: str
    management_url: str = ""
    program: str = "openim-bridge"
    consumes: Sequence[str] = ()
    _url: URL = field(init=False)
    _addresses: list[str] = field(default_factory=list)
    _handshake: Handshake | None = None
    _stack: AsyncExitStack = field(default_factory=AsyncExitStack)

    def __post_init__(self) -> None:
        url = URL(self.settings.broker_url)
        port = url.explicit_port or (5671 if url.scheme == "amqps" else 5672)
        self._url = url.with_port(port)
        self._variables = f"{self.settings.table.upper()}_AMQP_"
        self._variable = f"{self._variables}URL"
        self._where = f"{url.host}:{port}"

    @property
    def checks(self) -> list[Check]:
        """What is looked at, in this order."""
        return [
            Check(name="DNS", look=self._resolve),
            Check(name="TCP", look=self._reach, needs=("DNS",)),
            Check(name="TLS", look=self._secure, needs=("TCP",)),
            Check(name="RabbitMQ", look=self._greet, needs=("TLS",)),
            Check(name="login", look=self._log_in, needs=("RabbitMQ",)),
            Check(name="virtual host", look=self._enter, needs=("login",)),
            Check(name="both clocks", look=self._compare_clocks, needs=("virtual host",)),
            Check(name="alarms", look=self._try_alarms, needs=("virtual host",)),
            Check(name="topology", look=self._compare, needs=("virtual host",)),
            Check(name="rights", look=self._try_rights, needs=("alarms", "topology")),
        ]

    def close(self) -> None:
        """Hang up."""
        if self._handshake is not None:
            self._handshake.close()

    def _wrong(self, found: str, remedy: str, means: str = "") -> Wrong:
        return Wrong(found, means=means or self.means, remedy=remedy)

    @asynccontextmanager
    async def _patiently(self) -> AsyncIterator[None]:
        """Give a step its time, and say of a RabbitMQ that falls silent in it that it does."""
        timeout = self.settings.connect_timeout
        try:
            async with asyncio.timeout(timeout):
                yield
        except TimeoutError as error:
            raise self._wrong(
                f"{self._where} does not answer within {timeout:g} s",
                "look whether a firewall is between, whether RabbitMQ is stuck, and whether"
                f" the port in {self._variable} is that of RabbitMQ: amqps needs its TLS port,"
                " 5671 by default",
            ) from error
        except NoAMQP as error:
            raise self._wrong(
                f"{self._where}: {error}",
                f"correct the port in {self._variable}, 5672 by default and 5671 with amqps;"
                " if it is right, look into RabbitMQ's log",
            ) from error

    async def _resolve(self) -> str:
        host = self._url.host or ""
        loop = asyncio.get_running_loop()
        try:
            async with self._patiently():
                found = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError as error:
            raise self._wrong(
                f"no address is known of {host}: {error.strerror}",
                f"correct the host in {self._variable}, or the DNS or /etc/hosts of this"
                " machine; a container has to be on RabbitMQ's network",
            ) from error
        self._addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        return f"{host} is {', '.join(self._addresses)}"

    async def _reach(self) -> str:
        try:
            async with self._patiently():
                self._handshake = await opened(self._addresses, self._url.port or 0)
        except OSError as error:
            raise self._wrong(
                f"nobody listens at {self._where}: {error.strerror or error}",
                f"start RabbitMQ, or correct host and port in {self._variable}: RabbitMQ has"
                " 5672, or 5671 with amqps, unless told otherwise. In a cluster, start the"
                " other nodes: one that sees no more than half of all stops listening",
            ) from error
        return f"{self._where} takes connections"

    async def _secure(self) -> str:
        if self._url.scheme != "amqps":
            return "not wanted: amqp is plain, so the network must be one's own"
        self.close()
        variables = self._variables
        try:
            async with self._patiently():
                context = await tls_context(self._url)
                self._handshake = await opened(
                    self._addresses, self._url.port or 0, context, self._url.host
                )
        except ssl.SSLCertVerificationError as error:
            raise self._wrong(*certificates.problem(error, self._where, variables)) from error
        except (OSError, ValueError) as error:
            raise self._wrong(
                f"no TLS with {self._where}: {getattr(error, 'reason', None) or error}",
                "use RabbitMQ's TLS port, 5671 by default, or amqp for the plain one; look at"
                f" {variables}CA, {variables}CERTIFICATE and {variables}KEY",
            ) from error
        return certificates.expiry(
            self._handshake.certificate, self._where, self.means, variables
        )

    async def _greet(self) -> str:
        async with self._patiently():
            about = await self._on_line.greet()
        name, version = about.get("product", "a server"), str(about.get("version", "?"))
        numbers = [int(part) for part in version.split(".")[:2] if part.isdecimal()]
        if tuple(numbers) < OLDEST:
            oldest = ".".join(map(str, OLDEST))
            raise self._wrong(
                f"{name} {version} is too old",
                f"upgrade it to RabbitMQ {oldest} or later",
                f"queues that keep every callback need RabbitMQ {oldest}",
            )
        return f"{name} {version}"

    async def _log_in(self) -> str:
        user = self._url.user or "guest"
        try:
            async with self._patiently():
                await self._on_line.log_in(self._url)
        except Refused as error:
            local = "; guest may log in from RabbitMQ's own machine only" * (user == "guest")
            raise self._wrong(
                f"RabbitMQ refuses user {user!r} or the password",
                f"correct them in {self._variable}, with all but letters and digits"
                f" percent-encoded, or make the user: rabbitmqctl add_user{local}",
            ) from error
        return f"user {user!r}"

    async def _enter(self) -> str:
        host, user = virtual_host(self.settings.broker_url), self._url.user or "guest"
        try:
            async with self._patiently():
                await self._on_line.enter(host)
        except Refused as error:
            if "not found" in str(error):
                raise self._wrong(
                    f"there is no virtual host {host!r}",
                    f"correct the end of {self._variable}, which names it, or make it:"
                    f" rabbitmqctl add_vhost {host}",
                ) from error
            raise self._wrong(
                f"user {user!r} is not let into the virtual host {host!r}: {error}",
                f"let it in, with the rights it needs: rabbitmqctl set_permissions -p {host}",
            ) from error
        return host

    async def _compare_clocks(self) -> str:
        url = self.settings.broker_url
        try:
            async with management(
                self.management_url, url, self.settings.connect_timeout
            ) as api:
                apart = await api.time() - time.time()
        except NoManagement as error:
            raise NotTried(str(error)) from error
        if abs(apart) > APART:
            raise Wrong(
                f"RabbitMQ's clock is {abs(apart):,.0f} s {'ahead' if apart > 0 else 'behind'}",
                means="a replay by time, and whatever compares times, is wrong by so much",
                remedy="have both machines' clocks kept by chrony or systemd-timesyncd",
                warning=True,
            )
        return f"{abs(apart):,.0f} s apart"

    async def _try_alarms(self) -> str:
        try:
            async with self._patiently():
                # Whether it may is another question, and none of this one.
                await self._on_line.try_to_publish("", "nobody")
        except Blocked as error:
            raise self._wrong(
                f"RabbitMQ takes no messages: {error}",
                "give it memory or disk, or have what waits there handled: it goes on by"
                " itself",
            ) from error
        except Refused:
            pass
        return "none: RabbitMQ takes messages"

    async def _try_rights(self) -> str:
        line, refused = self._on_line, list[str]()
        for to_try in [
            *(partial(line.try_to_publish, *each) for each in self.publishes),
            *(partial(line.try_to_consume, each) for each in self.consumes),
        ]:
            try:
                async with self._patiently():
                    await to_try()
            except Refused as error:
                refused.append(str(error))
        if refused:
            raise self._wrong(
                "; ".join(refused),
                "give the user of " + self._variable + " the right to write there, or to read"
                " there, by rabbitmqctl set_permissions or set_topic_permissions",
            )
        read = f", and consume {', '.join(self.consumes)}" * bool(self.consumes)
        return f"may publish to {', '.join(exchange for exchange, _ in self.publishes)}{read}"

    async def _compare(self) -> str:
        url, timeout = self.settings.broker_url, self.settings.connect_timeout
        try:
            async with (
                connect(url, name=f"{self.program} doctor", timeout=timeout) as broker,
                management(self.management_url, url, timeout) as api,
            ):
                found = await inspection.compared(broker, api, self.wanted)
        except BrokerError as error:
            raise NotTried(str(error)) from error
        count = len(self.wanted.exchanges) + len(self.wanted.queues)
        return differences.judged(found, count, self.program, self.means)

    @property
    def _on_line(self) -> Handshake:
        if self._handshake is None:
            raise NotTried("there is no connection")
        return self._handshake
