"""What a server of ours does not start without."""

import re
from collections.abc import Mapping
from importlib.metadata import version

from aiohttp import http_parser

from bridge.loading import BadSettings

LEAST: Mapping[str, str] = {
    "aiohttp": "3.14.3",
    "asyncpg": "0.21.0",
    "orjson": "3.9.15",
}
"""The first version of a package without a hole that is known: CVE-2023-47627 to CVE-2026-54278
and GHSA-mfx4-hv73-q22v in aiohttp, CVE-2020-17446 in asyncpg, CVE-2024-27454 in orjson."""


def check() -> None:
    """Look at what reads requests.

    Raises:
        BadSettings: it is known to let strangers in.

    """
    problems = [
        f"{name} {version(name)} has known holes; install {least} or later"
        for name, least in LEAST.items()
        if numbers(version(name)) < numbers(least)
    ]
    if http_parser.HttpRequestParser is http_parser.HttpRequestParserPy:
        problems.append(
            "aiohttp reads HTTP without its C parser, in whose place requests could be smuggled"
            " before; unset AIOHTTP_NO_EXTENSIONS, or install a wheel of aiohttp"
        )
    if problems:
        raise BadSettings(problems)


def numbers(text: str) -> list[int]:
    """Give the numbers of a version."""
    return [int(each) for each in re.findall(r"\d+", text)[:3]]
