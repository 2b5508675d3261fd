"""The descriptions of both HTTP interfaces, and what schemathesis makes of them."""

import asyncio
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import validate

from bridge.documents import openapi
from consumers.database import opened
from tests.friends_api import TOKEN, address, get, serving
from tests.running import bridge

PROGRAM = Path(sys.executable).with_name("schemathesis")

SECONDS = 300.0
"""Until schemathesis is given up, on a machine with much else to do."""

RECEIVER = openapi.document()


async def found(document: Path, url: str, *options: str) -> str:
    """Say what schemathesis found."""
    process = await asyncio.create_subprocess_exec(
        PROGRAM,
        *(
            "run",
            str(document),
            "--url",
            url,
            "--no-color",
            "--seed",
            "1",
            "--warnings",
            "off",
            *options,
        ),
        cwd=document.parent,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(SECONDS):
        said, _ = await process.communicate()
    return said.decode()


def count_of(said: str) -> int:
    """Give how many operations were tested, if nothing was found."""
    assert "No issues found" in said, said
    (count,) = re.findall(r"^  Tested: (\d+)$", said, re.MULTILINE)
    return int(count)


def test_the_description_of_the_receiver_is_valid() -> None:
    validate(RECEIVER)


async def test_the_description_of_the_friends_api_is_valid(tmp_path: Path) -> None:
    async with serving(f"sqlite:///{tmp_path / 'friends.db'}") as backend:
        _, description = await get(backend, "/openapi.json")
    validate(description)


# A body that is not as its schema says is taken too: nothing that OpenIM sends may be lost.
LENIENT = ("--exclude-checks", "negative_data_rejection")


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param(("--phases", "examples,fuzzing", "--max-examples", "2"), 55, id="all"),
        pytest.param(("--phases", "coverage", "--include-tag", "black_list"), 2, id="some"),
    ],
)
async def test_the_receiver_answers_as_it_says(
    tmp_path: Path, options: tuple[str, ...], count: int
) -> None:
    document = tmp_path / "openapi.json"
    document.write_text(json.dumps(RECEIVER))
    async with bridge(tmp_path) as running:
        url = f"http://127.0.0.1:{running.port}"
        said = await found(document, url, *LENIENT, *options)
    assert count_of(said) == count


@pytest.mark.timeout(400)
async def test_the_friends_api_answers_as_it_says(tmp_path: Path) -> None:
    document, url = tmp_path / "openapi.json", f"sqlite:///{tmp_path / 'friends.db'}"
    async with opened(url) as database:
        await database.create_tables()
    async with serving(url) as backend:
        _, description = await get(backend, "/openapi.json")
        document.write_text(json.dumps(description))
        said = await found(
            document,
            str(address(backend)),
            *("--header", f"Authorization: Bearer {TOKEN}", "--max-examples", "5"),
            *("--phases", "examples,coverage,fuzzing"),
            # A cursor is what an answer gave, which no schema can say.
            *("--exclude-checks", "positive_data_acceptance"),
            # It would never end.
            *("--exclude-operation-id", "stream_verifications"),
        )
    assert count_of(said) == len(description["paths"]) - 1


def test_a_status_that_a_refusal_has_is_described() -> None:
    described: dict[str, Any] = RECEIVER["components"]["responses"]
    stated = {each.status for each in openapi.REJECTIONS} - {"4xx"}
    assert set(described) == {f"Rejected{status}" for status in stated}
