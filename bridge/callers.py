"""Who may call: by path, by secret, and from which address.

OpenIM signs nothing and has no header of its own to fill. All that it can be given is the `url`
in its webhooks.yml: a secret stands in its path, or before its host, from where Go sends it
as Basic auth:

    http://host:10006/callbackExample/SECRET
    http://openim:SECRET@host:10006/callbackExample
"""

import base64
import hmac
import re
from functools import lru_cache
from hashlib import sha256
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple, TypeAlias

from bridge.lists import named_secrets, networks
from bridge.request import Rejected
from bridge.settings import Receiver as Settings

USER = "openim"
"""The user name before a secret, in Basic auth."""

LONGEST_WAY = 1000
"""Characters at the end of `X-Forwarded-For` that are read; nobody's proxies are so many."""

_COMMAND = re.compile(r"[A-Za-z]{1,80}")

_Address: TypeAlias = IPv4Address | IPv6Address


class _Secret(NamedTuple):
    """What a secret makes of a request that knows it, as digests of one length."""

    name: str
    prefix: bytes
    login: bytes


class Callers:
    """Tells who may call from who may not, by the same work for each."""

    def __init__(self, settings: Settings) -> None:
        self._path = settings.path.encode()
        self._secrets = [
            _Secret(name, _digest(f"{settings.path}/{value}"), _digest(login(value)))
            for name, value in named_secrets(settings.secrets).items()
        ]
        self._sources = networks(settings.sources)
        self._proxies = networks(settings.proxies)
        self._is_source = lru_cache(1024)(self._looked_up)
        self.by_address = bool(self._sources)
        """Whether it counts from where somebody calls."""
        self.by_secret = bool(self._secrets)
        """Whether it counts what a request's `Authorization` says."""

    @property
    def secrets(self) -> list[str]:
        """The names of the secrets that let somebody in."""
        return [secret.name for secret in self._secrets]

    def check_source(self, peer: str, forwarded: str) -> None:
        """Refuse who calls from elsewhere.

        Args:
            peer: Address at the other end of the connection.
            forwarded: What `X-Forwarded-For` says.

        Raises:
            Rejected: it is none of the addresses that may call.

        """
        if not self._is_source(peer, forwarded[-LONGEST_WAY:]):
            raise Rejected(403, "source", "not from here")

    def _looked_up(self, peer: str, forwarded: str) -> bool:
        address = _address(self.client(peer, forwarded))
        return address is not None and any(address in network for network in self._sources)

    def client(self, peer: str, forwarded: str) -> str:
        """Give the address that called: the last one on the way that is no proxy of ours.

        Whoever calls writes what it likes to the left of what our proxies add.
        """
        way = [*forwarded[-LONGEST_WAY:].split(","), peer] if forwarded else [peer]
        while len(way) > 1 and self._is_proxy(way[-1]):
            way.pop()
        return way[-1].strip()

    def _is_proxy(self, text: str) -> bool:
        address = _address(text)
        return address is not None and any(address in network for network in self._proxies)

    def admit(self, path: str, authorization: str) -> tuple[str, str]:
        """Give the callback command that a path names, and the name of the secret, if any.

        Args:
            path: As it was sent.
            authorization: The header of this name.

        Raises:
            Rejected: the path or the secret is wrong, or it names no command.

        """
        before, _, command = path.rpartition("/")
        # A slash at the end of OpenIM's `url` makes two in the path.
        secret = self._let_in(before.rstrip("/"), authorization)
        if secret is None or not _COMMAND.fullmatch(command):
            if self._let_in(path.rstrip("/"), authorization) is not None:
                raise Rejected(
                    404, "path", "the url is right; OpenIM puts each callback's name after it"
                )
            raise Rejected(404, "path", "nothing is here; check url in OpenIM's webhooks.yml")
        return command, secret

    def _let_in(self, prefix: str, authorization: str) -> str | None:
        """Name the secret that a request has, "" where none is asked for; None: it has none."""
        place = prefix.encode()
        here = hmac.compare_digest(place, self._path)
        if not self._secrets:
            return "" if here else None
        place, header = sha256(place).digest(), _digest(authorization)
        found = None
        for secret in self._secrets:
            in_path = hmac.compare_digest(place, secret.prefix)
            in_header = hmac.compare_digest(header, secret.login)
            if in_path | (here & in_header):
                found = secret.name
        if here and found is None:
            raise Rejected(401, "secret", "a secret is missing or wrong")
        return found


def login(secret: str) -> str:
    """Give the `Authorization` that OpenIM sends for a secret in its `url`."""
    return "Basic " + base64.b64encode(f"{USER}:{secret}".encode()).decode()


def _digest(text: str) -> bytes:
    return sha256(text.encode(errors="surrogateescape")).digest()


def _address(text: str) -> _Address | None:
    try:
        address = ip_address(text.strip())
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
