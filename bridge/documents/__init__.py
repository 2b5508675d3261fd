"""Documents for those who consume callbacks, made from the contract and kept nowhere else."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import orjson

from bridge.documents import asyncapi, openapi, page, schemas

__all__ = ["DOCUMENTS", "Document"]


@dataclass(frozen=True)
class Document:
    """A document that can be had."""

    file: str
    """What its file is called."""

    make: Callable[[], str]
    """Gives its text."""


def _json(make: Callable[[], dict[str, object]]) -> Callable[[], str]:
    return lambda: orjson.dumps(
        make(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    ).decode()


DOCUMENTS: Mapping[str, Document] = {
    "asyncapi": Document("asyncapi.json", _json(asyncapi.document)),
    "json-schema": Document("callbacks.schema.json", _json(schemas.document)),
    "openapi": Document("receiver.openapi.json", _json(openapi.document)),
    "page": Document("callbacks.html", page.page),
    "style": Document("callbacks.css", page.style),
}
"""All of them, by the names that `openim-bridge schema` knows."""
