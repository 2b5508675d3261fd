"""Whether traces are made; what makes them is loaded only then."""

import importlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated, Literal, TypeAlias

from msgspec import Meta

if TYPE_CHECKING:
    from bridge.spans import Spans

Tracing: TypeAlias = Annotated[
    Literal["off", "otlp"],
    Meta(
        description="Whether traces are made and sent by OTLP over HTTP, as the `OTEL_…`"
        " variables say, see docs/operating.md. It needs the extra `tracing`."
    ),
]


def problems(variable: str, tracing: str) -> Iterator[str]:
    """Say why traces cannot be made, if they are wanted."""
    if tracing == "off":
        return
    try:
        why = importlib.import_module("bridge.spans").trouble()
    except ModuleNotFoundError:
        yield (
            f"{variable}={tracing} needs OpenTelemetry, which is not installed:"
            " pip install 'openim-bridge[tracing]'"
        )
    else:
        if why:
            yield f"{variable}={tracing}: a variable OTEL_… cannot be used: {why}"


@asynccontextmanager
async def opened(tracing: str, service: str) -> "AsyncIterator[Spans | None]":
    """Make traces during the block, if they are wanted."""
    if tracing == "off":
        yield None
        return
    async with importlib.import_module("bridge.spans").opened(service) as spans:
        yield spans
