"""Requests for other places, by other means, or in no HTTP.

The word zebra stands for what must be neither answered nor logged.
"""

from pathlib import Path
from typing import Any

import pytest

from tests.raw import COMMAND, TARGET, ask, chunked, request
from tests.rejections import Case, assert_rejected
from tests.running import bridge

ZEBRA = b'{"userID":"zebra"}'
PREFIX, NAME = b"/callbackExample/", COMMAND.encode()
LARGEST = 2**20


def refused(name: str, data: bytes, status: int, reason: str) -> Any:  # noqa: ANN401
    return pytest.param(Case(data, status, reason, []), id=name)


def elsewhere(name: str, target: bytes) -> Any:  # noqa: ANN401
    """Give a request for a path where nothing is."""
    return refused(name, request(ZEBRA, target=target), 404, "path")


def other_method(method: bytes) -> Any:  # noqa: ANN401
    return refused(method.decode(), request(ZEBRA, method=method), 405, "method")


def no_http(name: str, data: bytes) -> Any:  # noqa: ANN401
    return refused(name, data, 400, "http")


def coded(name: str, coding: bytes) -> Any:  # noqa: ANN401
    """Give a body in a transfer coding that is none."""
    return no_http(name, chunked(b"zebra", b"", header=b"Transfer-Encoding: " + coding))


REFUSED = [
    elsewhere("root", b"/"),
    elsewhere("other-prefix", b"/zebra/" + NAME),
    elsewhere("longer-prefix", b"/callbackExampleX/" + NAME),
    elsewhere("shorter-prefix", b"/callbackExampl/" + NAME),
    elsewhere("prefix-in-capitals", b"/CALLBACKEXAMPLE/" + NAME),
    elsewhere("no-prefix", b"/" + NAME),
    elsewhere("prefix-only", b"/callbackExample"),
    elsewhere("no-command", PREFIX),
    elsewhere("slash-at-the-end", TARGET + b"/"),
    elsewhere("encoded-slash", b"/callbackExample%2f" + NAME),
    elsewhere("encoded-zero", TARGET + b"%00"),
    elsewhere("encoded-newline", TARGET + b"%0d%0a"),
    elsewhere("broken-encoding", TARGET + b"%zz"),
    elsewhere("encoded-byte", TARGET + b"%ff"),
    elsewhere("encoded-percent", TARGET + b"%2500"),
    elsewhere("encoded-dots", PREFIX + b"%2e%2e" + TARGET),
    elsewhere("slashes-before", b"/" + TARGET),
    elsewhere("encoded-letter", TARGET[:-1] + b"%64"),
    elsewhere("parameter", TARGET + b";zebra=1"),
    elsewhere("fragment", TARGET + b"#zebra"),
    elsewhere("dots", b"/zebra/.." + TARGET),
    elsewhere("dots-after", PREFIX + b"zebra/../" + NAME),
    elsewhere("command-too-long", PREFIX + b"z" * 81),
    elsewhere("absolute", b"http://zebra" + TARGET),
    elsewhere("probe-by-post", b"/livez"),
    refused("wrong-prefix-get", request(b"", method=b"GET", target=b"/zebra/x"), 404, "path"),
    refused("connect", b"CONNECT zebra:80 HTTP/1.1\r\nHost: x\r\n\r\n", 404, "path"),
    refused("asterisk", b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", 404, "path"),
    other_method(b"GET"),
    other_method(b"PUT"),
    other_method(b"PATCH"),
    other_method(b"DELETE"),
    other_method(b"TRACE"),
    refused("size", request(b"z" * (LARGEST + 1)), 413, "size"),
    refused("size-10-mib", request(b"z" * 10 * 2**20), 413, "size"),
    refused("claims-10-gb", request(ZEBRA, length=10**10), 413, "size"),
    refused("size-in-chunks", chunked(*[b"z" * 2**18] * 5, b""), 413, "size"),
    refused("endless-chunks", chunked(*[b"z" * 2**16] * 32), 413, "size"),
    no_http("length-and-chunks", request(ZEBRA, b"Transfer-Encoding: chunked")),
    no_http("two-lengths", request(ZEBRA, b"Content-Length: 3")),
    no_http("length-twice", request(ZEBRA, b"Content-Length: %d" % len(ZEBRA))),
    no_http("length-with-sign", request(b"{}", b"Content-Length: +2", length=-1)),
    no_http("length-too-short", request(ZEBRA, length=5)),
    no_http("length-below-zero", request(b"", b"Content-Length: -1", length=-1)),
    no_http("length-with-underscore", request(b"{}", b"Content-Length: 2_0", length=-1)),
    no_http("length-beyond-64-bits", request(ZEBRA, length=10**30)),
    coded("unknown-coding", b"zebra"),
    coded("chunked-twice", b"chunked, chunked"),
    coded("chunked-not-last", b"chunked, identity"),
    no_http(
        "chunk-size", request(b"zz\r\nzebra\r\n", b"Transfer-Encoding: chunked", length=-1)
    ),
    no_http(
        "chunk-size-beyond-64-bits",
        request(b"f" * 20 + b"\r\nzebra\r\n", b"Transfer-Encoding: chunked", length=-1),
    ),
    no_http("no-host", request(ZEBRA).replace(b"Host: bridge\r\n", b"")),
    no_http("two-hosts", request(ZEBRA, b"Host: zebra")),
    no_http("bare-line-feeds", request(ZEBRA).replace(b"\r\n", b"\n")),
    no_http("folded-header", request(ZEBRA, b"X: zebra\r\n zebra")),
    no_http("blank-before-colon", request(ZEBRA, b"X : zebra")),
    no_http("operation-id-with-zero", request(ZEBRA, b"operationID: zebra\0")),
    no_http("operation-id-with-escape", request(ZEBRA, b"operationID: zebra\x1b[2J")),
    no_http("operation-id-with-return", request(ZEBRA, b"operationID: zebra\rzebra")),
    no_http("2-mib-operation-id", request(ZEBRA, b"operationID: " + b"z" * 2 * 2**20)),
    no_http("100-headers", request(ZEBRA, *(b"x-%d: zebra" % n for n in range(100)))),
    no_http("path-of-100-kib", request(ZEBRA, target=b"/" + b"z" * 100 * 2**10)),
    no_http("utf-8-in-path", request(ZEBRA, target=PREFIX + "zebra-é".encode())),
    no_http("small-letters", request(ZEBRA, method=b"post")),
    no_http("unknown-method", request(ZEBRA, method=b"ZEBRA")),
    no_http("version-1.2", request(ZEBRA, version=b"1.2")),
    no_http("http-2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    no_http("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"zebra" * 20),
    no_http("garbage", b"\x00\xffzebra\r\n\r\n"),
]


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_no_callback_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: Case
) -> None:
    await assert_rejected(case, tmp_path, caplog)


async def test_a_method_that_does_not_fit_is_told_which_does(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        reply = await ask(running, request(method=b"PUT"))
    assert reply.headers["allow"] == "POST"


async def test_a_wrong_command_under_the_prefix_looks_like_a_wrong_prefix(
    tmp_path: Path,
) -> None:
    async with bridge(tmp_path) as running:
        inside = await ask(running, request(b"", target=PREFIX + b"7"))
        outside = await ask(running, request(b"", target=b"/callbackExamplE/7"))
    inside.headers.pop("date"), outside.headers.pop("date")
    assert inside == outside
