"""A collector of traces: OTLP over HTTP, as the OpenTelemetry project defines it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Sent
from opentelemetry.sdk.resources import SERVICE_NAME

from tests.running import until


class Seen(NamedTuple):
    """A span as it arrived."""

    service: str
    span: Sent

    @property
    def name(self) -> str:
        """What it is called."""
        return self.span.name

    @property
    def trace(self) -> str:
        """The trace that it belongs to."""
        return self.span.trace_id.hex()

    @property
    def id(self) -> str:
        """Its own id."""
        return self.span.span_id.hex()

    @property
    def parent(self) -> str:
        """The id of the span above it."""
        return self.span.parent_span_id.hex()

    @property
    def facts(self) -> dict[str, str]:
        """Its attributes."""
        return {
            each.key: each.value.string_value or str(each.value.int_value)
            for each in self.span.attributes
        }


@dataclass
class Collector:
    """What has arrived, and where to send more."""

    hangs: bool = False
    refuses: bool = False
    url: str = ""
    asked: int = 0
    seen: list[Seen] = field(default_factory=list)

    async def has(self, *names: str) -> list[Seen]:
        """Wait until spans of these names are there; give all, those begun first first."""
        await until(
            lambda: all(
                sum(each.name == name for each in self.seen) >= names.count(name)
                for name in names
            )
        )
        return sorted(self.seen, key=lambda each: each.span.start_time_unix_nano)

    async def take(self, request: web.Request) -> web.Response:
        """Take what an exporter sends."""
        self.asked += 1
        if self.hangs:
            await asyncio.Event().wait()
        if self.refuses:
            raise web.HTTPBadRequest
        sent = ExportTraceServiceRequest.FromString(await request.read())
        self.seen += [
            Seen(_service(of.resource), span)
            for of in sent.resource_spans
            for scope in of.scope_spans
            for span in scope.spans
        ]
        return web.Response(
            body=ExportTraceServiceResponse().SerializeToString(),
            content_type="application/x-protobuf",
        )


def _service(resource: Resource) -> str:
    names = [
        each.value.string_value for each in resource.attributes if each.key == SERVICE_NAME
    ]
    return str(names[0])


@asynccontextmanager
async def collecting(*, hangs: bool = False, refuses: bool = False) -> AsyncIterator[Collector]:
    """Collect traces during the block."""
    collector = Collector(hangs, refuses)
    application = web.Application()
    application.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield collector
    finally:
        await runner.cleanup()
