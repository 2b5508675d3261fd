"""Who may enter the console, as what, and for how long."""

import base64
import hashlib
import hmac
import re
import secrets
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

COST, BLOCK, LANES = 2**14, 8, 1
"""Of scrypt: 16 MiB and some 50 ms for each guess."""

MOST_SESSIONS = 1000
"""People in at a time; the one who came first has to log in again."""

GUESSES, MINUTE = 10, 60.0
"""Wrong passwords from one address in a minute; then it has to wait."""

MOST_ADDRESSES = 10_000
"""Addresses whose guesses are remembered."""

ADMIN = "admin"
"""The user whose password is a setting of its own."""


class Role(IntEnum):
    """What somebody may do; each may do what those before it may."""

    VIEWER = 1
    """Look, but at no body."""
    OPERATOR = 2
    """Replay and discard dead letters, pause subscriptions, send a sample."""
    ADMIN = 3
    """See bodies, and what was done by whom."""


def hashed(password: str) -> str:
    """Give what is kept of a password."""
    salt = secrets.token_bytes(16)
    return f"scrypt${_text(salt)}${_text(_digest(password, salt))}"


def _digest(password: str, salt: bytes) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=COST, r=BLOCK, p=LANES, dklen=32)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode()


@dataclass(frozen=True, kw_only=True)
class Account:
    """Somebody who may enter."""

    name: str
    role: Role
    hash: str = field(repr=False)

    def accepts(self, password: str) -> bool:
        """Say whether it is the password; takes the time of one guess in any case."""
        _, salt, digest = self.hash.split("$")
        found = _digest(password, base64.urlsafe_b64decode(salt))
        return hmac.compare_digest(_text(found), digest)


class Accounts:
    """All who may enter.

    Args:
        password: Of `admin`; empty if nobody is called so.
        users: Lines of `name:role:hash`.

    """

    def __init__(self, password: str, users: str) -> None:
        self._accounts: dict[str, Account] = {}
        if password:
            self._add(Account(name=ADMIN, role=Role.ADMIN, hash=hashed(password)))
        for line in re.split(r"[,\s]+", users.strip()):
            if line:
                name, role, digest = line.split(":")
                self._add(Account(name=name, role=Role[role.upper()], hash=digest))
        # A name that nobody has costs as much time as a wrong password.
        self._nobody = Account(name="", role=Role.VIEWER, hash=hashed(secrets.token_hex()))

    def _add(self, account: Account) -> None:
        self._accounts.setdefault(account.name, account)

    def __bool__(self) -> bool:
        """Say whether anybody may enter."""
        return bool(self._accounts)

    def find(self, name: str, password: str) -> Account | None:
        """Give the account that name and password are of."""
        account = self._accounts.get(name, self._nobody)
        return account if account.accepts(password) and account.name else None


@dataclass(kw_only=True)
class Session:
    """Somebody who is in."""

    name: str
    role: Role
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    """Stands in each form: who can read a page may send it."""
    began: float = field(default_factory=time.monotonic)
    seen: float = field(default_factory=time.monotonic)
    streams: int = 0
    """Live pages."""
    said: str = ""
    """What is to be said on the next page."""

    def may(self, role: Role) -> bool:
        """Say whether this person may do what a role may."""
        return self.role >= role


class Sessions:
    """All who are in, by `key_of` what their cookie says and the address they came from.

    Args:
        idle: Seconds without a click after which somebody is out.
        longest: Seconds after which somebody is out in any case.

    """

    def __init__(self, idle: float, longest: float) -> None:
        self._idle = idle
        self._longest = longest
        self._sessions: dict[bytes, Session] = {}

    def begin(self, account: Account, address: str) -> str:
        """Let somebody in; give what the cookie has to say."""
        while len(self._sessions) >= MOST_SESSIONS:
            del self._sessions[next(iter(self._sessions))]
        cookie = secrets.token_urlsafe(32)
        self._sessions[key_of(cookie, address)] = Session(name=account.name, role=account.role)
        return cookie

    def find(self, key: bytes, *, click: bool = True) -> Session | None:
        """Give who is in, if still in.

        Args:
            key: By `key_of`.
            click: Whether somebody did something; a live page alone keeps nobody in.

        """
        session = self._sessions.get(key)
        if session is None:
            return None
        now = time.monotonic()
        if now - session.began > self._longest or now - session.seen > self._idle:
            self.end(key)
            return None
        if click:
            session.seen = now
        return session

    def end(self, key: bytes) -> None:
        """Let somebody out."""
        self._sessions.pop(key, None)

    def streams(self) -> int:
        """Count the live pages of all."""
        return sum(each.streams for each in self._sessions.values())

    def streams_of(self, name: str) -> int:
        """Count the live pages of somebody, in all sessions."""
        return sum(each.streams for each in self._sessions.values() if each.name == name)


def key_of(cookie: str, address: str) -> bytes:
    """Give what a session is found by.

    Browsers send a cookie to every port of its host: who gets it there comes from elsewhere.
    """
    return hashlib.sha256(f"{address} {cookie}".encode(errors="replace")).digest()


class Guesses:
    """Wrong passwords, by the address that they came from."""

    def __init__(self) -> None:
        self._wrong: dict[str, deque[float]] = {}

    def too_many(self, address: str) -> bool:
        """Say whether an address has to wait."""
        wrong = self._wrong.get(address, ())
        return len([at for at in wrong if at > time.monotonic() - MINUTE]) >= GUESSES

    def note(self, address: str) -> None:
        """Note a wrong password."""
        while len(self._wrong) >= MOST_ADDRESSES:
            del self._wrong[next(iter(self._wrong))]
        self._wrong.setdefault(address, deque(maxlen=GUESSES)).append(time.monotonic())


def same_site(headers: Mapping[str, str]) -> bool:
    """Say whether a request comes from a page of ours, by what its browser says.

    `Sec-Fetch-Site` where there is one, else `Origin`. A form of ours has a token as well.
    """
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = headers.get("Origin")
    return origin is None or origin.partition("://")[2] == headers.get("Host", "")
