"""What is read from a request, and what it is told when it cannot be answered."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from typing import TypeVar

import msgspec
from aiohttp import web
from multidict import MultiMapping

from bridge.loading import allowed, types_of

LONGEST_SHOWN = 100
"""Characters of a bad value that are repeated."""

QueryT = TypeVar("QueryT", bound=msgspec.Struct)
PlaceT = TypeVar("PlaceT")


class Refused(Exception):
    """A request that is not answered as it wishes.

    Args:
        status: Of HTTP.
        error: A word for programs.
        message: What is wrong and what to do, for people.
        headers: To be sent with it.

    """

    def __init__(
        self, status: int, error: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.headers = headers or {}


def read(kind: type[QueryT], query: MultiMapping[str]) -> QueryT:
    """Read the parameters of a request.

    Raises:
        Refused: one is unknown, missing, given twice, or not allowed.

    """
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    types = types_of(kind)
    values = {}
    for name in query:
        if name not in fields:
            known = f"known are {', '.join(fields)}" if fields else "none are known here"
            raise _bad(f"{name[:LONGEST_SHOWN]!r} is no parameter; {known}")
        if len(query.getall(name)) > 1:
            raise _bad(f"{name} is given more than once")
        annotated = types[fields[name].name]
        try:
            strict = not isinstance(fields[name].default, int)
            values[fields[name].name] = msgspec.convert(query[name], annotated, strict=strict)
        except msgspec.ValidationError as error:
            shown = repr(query[name])[:LONGEST_SHOWN]
            raise _bad(f"{name}={shown} is not allowed: {allowed(annotated)}") from error
    for name, field in fields.items():
        if field.required and field.name not in values:
            raise _bad(f"{name} is missing: {allowed(types[field.name])}")
    return kind(**values)


def _bad(message: str) -> Refused:
    return Refused(400, "bad_parameter", message)


def cursor(place: object) -> str:
    """Write down a place in a list, for the next request."""
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode().rstrip("=")


def place(cursor: str, kind: type[PlaceT]) -> PlaceT:
    """Read a place in a list.

    Raises:
        Refused: we never wrote that.

    """
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        return msgspec.json.decode(base64.urlsafe_b64decode(padded), type=kind)
    except ValueError as error:
        raise _bad(
            "this cursor is none of ours: send the `next_cursor` of an answer, or none to begin"
            " at the start"
        ) from error


def last_event_id(request: web.BaseRequest) -> int | None:
    """Read up to which event a stream was seen; None if it is not said.

    Raises:
        Refused: it is no id of an event.

    """
    given = request.headers.get("Last-Event-ID", "")
    if not given:
        return None
    if not (given.isascii() and given.isdecimal() and len(given) <= LONGEST_ID):
        raise Refused(
            400,
            "bad_event_id",
            "Last-Event-ID is none of ours: send the id of an event, or `last_event_id` of a"
            " list, or none to begin now",
        )
    return int(given)


LONGEST_ID = 18
"""Digits, so that it fits into a position."""


class Tokens:
    """Whom to let in.

    Args:
        given: One token, or some with commas between them.

    """

    def __init__(self, given: str) -> None:
        self._known = [_digest(token) for token in given.split(",")]

    def check(self, request: web.BaseRequest) -> None:
        """Let a request pass that has a token.

        Raises:
            Refused: it has none of ours.

        """
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        sent = _digest(token.strip())
        # All are compared, and by their digests: the time taken tells nothing about them.
        known = [hmac.compare_digest(sent, each) for each in self._known]
        if scheme.lower() != "bearer" or not any(known):
            raise Refused(
                401,
                "no_token" if not token else "bad_token",
                "send the header `Authorization: Bearer …` with the token that"
                " FRIENDS_API_TOKEN sets",
                {"WWW-Authenticate": "Bearer"},
            )


def _digest(token: str) -> bytes:
    # A header may hold bytes that are no text, which Python shows as surrogates.
    return hashlib.sha256(token.encode(errors="surrogateescape")).digest()
