"""axe-core, which finds what people cannot use who see little, or nothing."""

import base64
import hashlib
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from private_services import CannotStart, install

from tests.browser import Browser

VERSION = "4.14.1"

INTEGRITY = (
    "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
)
"""SHA-512 of the package, as npm writes it."""

FETCHING = 120.0
"""Seconds that npm may take."""

_RUN = """
const done = arguments[arguments.length - 1];
axe.run(document, {resultTypes: ["violations"]}).then(
  (found) => done(found.violations), (error) => done([{id: String(error), nodes: []}]));
"""


@contextmanager
def fetched(folder: Path) -> Iterator[str]:
    """Give axe-core's program, from npm.

    Raises:
        CannotStart: npm is not there, and we may not install it; or it is another package.

    """
    if not shutil.which("npm"):
        install("npm", "nodejs")
    pack = ["npm", "pack", "--silent", f"axe-core@{VERSION}"]
    done = subprocess.run(  # noqa: S603
        pack, cwd=folder, check=False, capture_output=True, text=True, timeout=FETCHING
    )
    if done.returncode:
        raise CannotStart(f"npm could not fetch axe-core: {done.stderr}")
    package = folder / done.stdout.strip()
    digest = base64.b64encode(hashlib.sha512(package.read_bytes()).digest()).decode()
    if digest != INTEGRITY:
        raise CannotStart(f"npm fetched another axe-core {VERSION}, of SHA-512 {digest}")
    with tarfile.open(package) as files:
        program = files.extractfile("package/axe.min.js")
        assert program is not None
        yield program.read().decode()


async def violations(browser: Browser, axe: str) -> list[str]:
    """Give what is wrong with the page, and where."""
    await browser.runs(axe)
    found: list[dict[str, Any]] = await browser.runs_until_done(_RUN)
    return [
        f"{each['id']}: {node['html']} {node.get('failureSummary')}"
        for each in found
        for node in each["nodes"] or [{"html": each.get("help")}]
    ]
