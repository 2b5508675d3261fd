"""Pages as HTML: the templates, and how they write times, numbers and names."""

import hashlib
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib import resources
from importlib.metadata import version
from typing import Any, TypeAlias

from jinja2 import Environment, PackageLoader, StrictUndefined

from bridge.documents import DOCUMENTS
from bridge.documents.page import page as page_of_callbacks
from consumers.console.access import Role
from consumers.console.health import ago, counted, lasting, moment
from consumers.console.plots import short as short_number
from consumers.console.routes import TABS
from consumers.dead_letters import short

Shown: TypeAlias = dict[str, Any]
"""What a page shows, by the names that its template uses."""

LIVE = "live_"
"""What the name of a block begins with that is sent again when it has changed."""

_KINDS = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
"""What is served beside the console's own pages, by how it ends."""


def kind(name: str) -> str:
    """Give what a file is to a browser."""
    return _KINDS["." + name.rpartition(".")[2]]


@cache
def document(name: str) -> bytes | None:
    """Give a document of callbacks; None if there is none of that name."""
    made = {each.file: each.make for each in DOCUMENTS.values()}
    # In the folder of documents the brand of the page leads nowhere else.
    made |= {DOCUMENTS["page"].file: lambda: page_of_callbacks("/")}
    return made[name]().encode() if name in made else None


@cache
def static(name: str) -> bytes | None:
    """Give a file that pages refer to; None if there is none of that name."""
    if name not in {each.name for each in _files().iterdir()}:
        return None
    data: bytes = (_files() / name).read_bytes()
    return data


def _files() -> Any:  # noqa: ANN401  # a Traversable, whose home moves with Python 3.14
    return resources.files("consumers.console") / "static"


@cache
def _address(name: str) -> str:
    """Give the address of a static file, another one when the file is another."""
    return f"/static/{name}?v={hashlib.sha256(static(name) or b'').hexdigest()[:12]}"


def _utc(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} UTC"


def _exact(milliseconds: int) -> str:
    then = datetime.fromtimestamp(milliseconds / 1000, UTC)
    return f"{then:%Y-%m-%d %H:%M:%S}.{milliseconds % 1000:03}"


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("consumers.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "ago": ago,
        "command": short,
        "counted": counted,
        "exact": _exact,
        "lasting": lasting,
        "moment": moment,
        "number": "{:,}".format,
        "short": short_number,
        "utc": _utc,
    }
    made.globals |= {
        "now": time.time,
        "Role": Role,
        "static": _address,
        "tabs": TABS,
        "version": version("openim-bridge"),
    }
    # Not imported by the templates: their blocks are rendered alone as well.
    made.globals["parts"] = made.get_template("parts.html").module
    return made


def page(name: str, shown: Mapping[str, Any]) -> str:
    """Give a page."""
    return _environment().get_template(f"{name}.html").render(shown)


def live_parts(name: str, shown: Mapping[str, Any]) -> dict[str, str]:
    """Give those parts of a page that change while it is looked at, by their ids."""
    template = _environment().get_template(f"{name}.html")
    context = template.new_context(dict(shown))
    return {
        block: "".join(template.blocks[block](context))
        for block in template.blocks
        if block.startswith(LIVE)
    }
