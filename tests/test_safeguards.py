"""Nothing with known holes is installed, nor started."""

import os
import re
import tomllib
from pathlib import Path

import pytest

from bridge import safeguards
from bridge.loading import BadSettings
from bridge.safeguards import LEAST, numbers
from tests.commands import BRIDGE, CONSUMERS, ran

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def allowed() -> dict[str, str]:
    """Give the least version of each package that `pyproject.toml` allows."""
    found = [re.match(r"([A-Za-z-]+).*?>=([0-9.]+)", each) for each in PROJECT["dependencies"]]
    return {each[1]: each[2] for each in found if each}


@pytest.mark.parametrize("name", LEAST)
def test_no_version_with_known_holes_may_be_installed(name: str) -> None:
    assert numbers(allowed()[name]) >= numbers(LEAST[name])


@pytest.mark.parametrize("name", LEAST)
@pytest.mark.parametrize("lock", ["run", "dev"])
def test_no_version_with_known_holes_is_locked(lock: str, name: str) -> None:
    text = (ROOT / "requirements" / f"{lock}.lock").read_text(encoding="utf-8")
    (locked,) = re.findall(rf"^{name}==(\S+)", text, re.MULTILINE)
    assert numbers(locked) >= numbers(LEAST[name])


def test_what_is_installed_is_well() -> None:
    safeguards.check()


def test_a_version_with_known_holes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(safeguards, "LEAST", {"aiohttp": "99.1"})
    with pytest.raises(
        BadSettings, match=r"aiohttp \S+ has known holes; install 99\.1 or later"
    ):
        safeguards.check()


@pytest.mark.parametrize(
    ("program", "command"), [(BRIDGE, "receive"), (CONSUMERS, "api"), (BRIDGE, "console")]
)
async def test_no_server_starts_without_the_c_parser(
    tmp_path: Path, program: tuple[str, ...], command: str
) -> None:
    variables = {
        "AIOHTTP_NO_EXTENSIONS": "1",
        "FRIENDS_API_TOKEN": "t" * 20,
        "CONSOLE_PASSWORD": "p" * 12,
    }
    ended = await ran(program, command, folder=tmp_path, **variables)
    assert ended.process.returncode == 3
    assert "unset AIOHTTP_NO_EXTENSIONS" in ended.err
    assert os.listdir(tmp_path) == []  # noqa: PTH208  # pathlib may not block
