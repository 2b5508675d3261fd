"""One trace tells of a callback from OpenIM's request to each attempt, and costs it nothing."""

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from time import perf_counter

import pytest
from aiohttp import ClientSession
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from bridge import tracing
from bridge.contract import AfterAddFriend, Allow, BeforeAddFriend
from bridge.loading import BadSettings, load
from bridge.message import Ids, Message, ids_of, traceparent_of
from bridge.request import Callback
from bridge.settings import Receiver
from bridge.span_kinds import Publishing
from bridge.spans import Spans
from bridge.traceparent import checked, is_sampled
from consumers.registry import Handlers, Reject
from consumers.settings import Worker
from tests.commands import BRIDGE, CONSUMERS, Command, ran, started
from tests.otlp import Collector, collecting
from tests.running import NOWHERE, Bridge, bridge, until
from tests.test_asking import deciding, policy
from tests.test_worker import declared, publish, working

FRIEND = "callbackAfterAddFriendCommand"
ASKED = "callbackBeforeAddFriendCommand"
BODY = b'{"fromUserID":"ann","toUserID":"ben","reqMsg":"hello"}'
TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
RECEIVE, PUBLISH, PROCESS = (
    f"receive {FRIEND}",
    "publish openim.received",
    "process openim.work.shop",
)
SHOP = """
from opentelemetry import trace
from bridge.contract import AfterAddFriend
from consumers.registry import Context, Handlers, Retry

handlers = Handlers("shop")
tracer = trace.get_tracer("shop")

@handlers.on(AfterAddFriend)
async def take(event: AfterAddFriend, context: Context) -> None:
    with tracer.start_as_current_span("look up"):
        pass
    if context.attempt == 1:
        raise Retry("shop is closed")
"""


@pytest.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """A collector that spans of this process go to."""
    async with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield collector


@pytest.fixture
async def spans(collector: Collector) -> AsyncIterator[Spans]:
    """What makes spans for a worker."""
    async with tracing.opened("otlp", "openim-consumers") as spans:
        assert collector.url
        assert spans is not None
        yield spans


async def post(running: Bridge, command: str = FRIEND, **headers: str) -> None:
    """Have OpenIM's request arrive."""
    await post_to(running.openim.session, f"{running.url}/{command}", **headers)


async def post_to(session: ClientSession, url: str, **headers: str) -> None:
    """Have it arrive there."""
    async with session.post(url, data=BODY, headers=headers) as response:
        assert response.status == 200


def counted(rendered: bytes) -> list[float]:
    """Give how many spans ended and how many arrived, as metrics say it."""
    found = re.findall(r"^openim_\w+_spans_(\w+)_total (\S+)$", rendered.decode(), re.MULTILINE)
    return [float(dict(found)[name]) for name in ("ended", "arrived")]


async def address(receiver: Command) -> str:
    """Give where a receiver takes a callback."""
    await receiver.says('"port"')
    port = json.loads(receiver.err.splitlines()[0])["port"]
    return f"http://127.0.0.1:{port}/callbackExample/{FRIEND}"


async def test_one_trace_leads_from_the_request_to_each_attempt(
    amqp_url: str, tmp_path: Path, collector: Collector
) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    async with (
        started(
            *(BRIDGE, "receive"),
            folder=tmp_path,
            BRIDGE_AMQP_URL=amqp_url,
            BRIDGE_TRACING="otlp",
            BRIDGE_PORT="0",
        ) as receiver,
        started(
            *(CONSUMERS, "work", "--handlers", "shop"),
            folder=tmp_path,
            CONSUMERS_AMQP_URL=amqp_url,
            CONSUMERS_TRACING="otlp",
        ) as worker,
        ClientSession() as session,
    ):
        await declared(amqp_url, "shop")
        url = await address(receiver)
        await post_to(session, url, traceparent=f"00-{TRACE}-{ABOVE}-01")
        seen = await collector.has(RECEIVE, PUBLISH, PROCESS, PROCESS, "look up", "look up")
        await worker.says(f'"trace_id":"{TRACE}"')
    receive, publish, first, inner, second, again = seen
    assert {each.trace for each in seen} == {TRACE}
    names = [each.name for each in seen]
    assert names == [RECEIVE, PUBLISH, PROCESS, "look up", PROCESS, "look up"]
    assert [each.parent for each in seen] == [
        *(ABOVE, receive.id, receive.id, first.id, receive.id, second.id)
    ]
    assert {inner.service, again.service} == {"openim-consumers"}
    assert {receive.service, publish.service} == {"openim-bridge"}
    assert [each.facts["openim.attempt"] for each in (first, second)] == ["1", "2"]
    outcomes = [each.facts["openim.outcome"] for each in (first, second)]
    assert outcomes == ["waits", "handled"]
    assert first.facts["openim.handler"] == "shop.take"
    assert first.facts["messaging.destination.name"] == "openim.work.shop"
    assert first.span.status.message == "Retry: shop is closed"
    assert publish.facts["messaging.message.id"] == first.facts["messaging.message.id"]


async def test_decision_handlers_answer_in_the_same_trace(
    amqp_url: str, tmp_path: Path, collector: Collector, spans: Spans
) -> None:
    async def decide(_: BeforeAddFriend) -> Allow:
        return Allow()

    async with (
        deciding(amqp_url, decide, spans=spans),
        bridge(tmp_path, amqp_url, policy=policy(tmp_path), tracing="otlp") as running,
    ):
        await until(lambda: running.running.receiver.asking.connected)
        await post(running, ASKED, traceparent=f"00-{TRACE}-{ABOVE}-01")
        decided = "decide openim.questions.friend.before.add_friend"
        receive, decide_, publish = await collector.has(f"receive {ASKED}", decided, PUBLISH)
    assert {receive.trace, decide_.trace, publish.trace} == {TRACE}
    assert decide_.parent == receive.id
    assert (receive.facts["openim.verdict"], decide_.facts["openim.verdict"]) == (
        *("allow", "allow"),
    )


async def test_a_batch_is_linked_to_the_traces_of_its_events_which_go_on_if_it_fails(
    amqp_url: str, tmp_path: Path, collector: Collector, spans: Spans
) -> None:
    handlers = Handlers("shop")

    @handlers.on_batch(AfterAddFriend, most=2, within=timedelta(minutes=1), sql=False)
    async def take(_: Sequence[AfterAddFriend]) -> None:
        raise Reject("no")

    async with (
        working(amqp_url, f"sqlite:///{tmp_path}/worker.db", handlers, spans),
        bridge(tmp_path, amqp_url) as running,
    ):
        await declared(amqp_url, "shop")
        await post(running, traceparent=f"00-{TRACE}-{ABOVE}-01")
        await post(running, traceparent=f"00-{TRACE}-{ABOVE[::-1]}-01")
        both, *each = await collector.has(PROCESS, PROCESS, PROCESS)
    linked = {(link.trace_id.hex(), link.span_id.hex()) for link in both.span.links}
    assert linked == {(TRACE, ABOVE), (TRACE, ABOVE[::-1])}
    assert both.trace != TRACE
    assert both.facts["messaging.batch.message_count"] == "2"
    assert both.facts["openim.outcome"] == "tried one by one"
    assert {(one.trace, one.parent) for one in each} == linked
    assert {one.facts["openim.outcome"] for one in each} == {"dead_letter"}


async def test_what_no_handler_can_read_is_traced_to_the_dead_letters(
    amqp_url: str, tmp_path: Path, collector: Collector, spans: Spans
) -> None:
    handlers = Handlers("shop")

    @handlers.on(AfterAddFriend)
    async def take(_: AfterAddFriend) -> None:
        pass

    url = f"sqlite:///{tmp_path}/worker.db"
    async with working(amqp_url, url, handlers, spans) as running:
        await declared(amqp_url, "shop")
        await publish(amqp_url, FRIEND, b"{")
        (unread,) = await collector.has(PROCESS)
        metrics = running.worker.metrics
        await until(lambda: counted(metrics.render()) == [1, 1])
    assert unread.facts["openim.outcome"] == "dead_letter"
    assert unread.span.status.message.startswith("MalformedCallback")


async def test_a_handler_that_is_cancelled_leaves_its_span(
    amqp_url: str, tmp_path: Path, collector: Collector, spans: Spans
) -> None:
    handlers, began = Handlers("shop"), asyncio.Event()

    @handlers.on(AfterAddFriend)
    async def take(_: AfterAddFriend) -> None:
        began.set()
        await asyncio.Event().wait()

    url = f"sqlite:///{tmp_path}/worker.db"
    async with working(amqp_url, url, handlers, spans, grace_period=0.1):
        await declared(amqp_url, "shop")
        await publish(amqp_url, FRIEND, BODY)
        await began.wait()
    (cut,) = await collector.has(PROCESS)
    assert cut.span.status.message == "CancelledError: interrupted"


async def test_a_request_without_a_trace_begins_one_that_is_stored_with_it(
    tmp_path: Path, collector: Collector
) -> None:
    async with bridge(tmp_path, tracing="otlp") as running:
        await post(running)
        (stored,) = await running.running.journal.read(0, 1)
        (receive,) = await collector.has(RECEIVE)
        metrics = running.running.receiver.metrics
        await until(lambda: counted(metrics.render()) == [1, 1])
    assert traceparent_of(stored.payload)[:-2] == f"00-{receive.trace}-{receive.id}-"
    assert receive.facts["messaging.message.id"] == ids_of(stored.payload)["message_id"]
    assert (receive.parent, receive.service) == ("", "openim-bridge")
    assert "hello" not in str(collector.seen)


@pytest.mark.parametrize("state", ["away", "hanging"])
async def test_a_collector_that_takes_nothing_delays_and_loses_no_callback(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "16")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "8")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "600")
    monkeypatch.setattr("bridge.spans.FAREWELL", 0.1)
    async with collecting(hangs=True) as collector:
        url = {"away": "http://127.0.0.1:1", "hanging": collector.url}[state]
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        async with bridge(tmp_path, tracing="otlp") as running:
            await asyncio.gather(*(post(running) for _ in range(200)))
            assert running.running.journal.depth == 200
            assert counted(running.running.receiver.metrics.render()) == [200, 0]
            stopping = perf_counter()
        assert perf_counter() - stopping < 20


async def test_a_collector_that_refuses_is_spoken_of_once_a_minute(tmp_path: Path) -> None:
    async with (
        ClientSession() as session,
        collecting(refuses=True) as collector,
        started(
            *(BRIDGE, "receive"),
            folder=tmp_path,
            BRIDGE_AMQP_URL=NOWHERE,
            BRIDGE_TRACING="otlp",
            BRIDGE_PORT="0",
            OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
            BRIDGE_GRACE_PERIOD="0.1",
            OTEL_BSP_SCHEDULE_DELAY="10",
            OTEL_BSP_MAX_EXPORT_BATCH_SIZE="1",
        ) as receiver,
    ):
        url = await address(receiver)
        await asyncio.gather(*(post_to(session, url) for _ in range(20)))
        await until(lambda: collector.asked == 20)
        receiver.process.terminate()
        assert await receiver.ended() == 0
    assert receiver.err.count("traces do not arrive") == 1
    assert "Failed to export" not in receiver.err


def test_what_a_lost_connection_left_unconfirmed_is_seen() -> None:
    kept, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    publishing = Publishing(provider.get_tracer("tests"))
    message = Message(
        id="one",
        routing_key="friend.after.add_friend.p01",
        command=FRIEND,
        received_ms=0,
        body=b"{}",
        headers={"traceparent": f"00-{TRACE}-{ABOVE}-01"},
    )
    unsampled = message._replace(headers={"traceparent": f"00-{TRACE}-{ABOVE}-00"})
    publishing.begin([(1, message.encode()), (2, message.encode()), (3, unsampled.encode())])
    publishing.confirmed([(1, b""), (3, b"")])
    publishing.lost()
    confirmed, lost = kept.get_finished_spans()
    assert confirmed.status.is_unset
    assert str(lost.status.description).startswith("ConnectionLost")


@pytest.mark.parametrize(
    "text",
    [
        *("", "zebra", f"ff-{TRACE}-{ABOVE}-01", f"00-{'0' * 32}-{ABOVE}-01"),
        *(f"00-{TRACE}-{'0' * 16}-01", f"00-{TRACE}-{ABOVE}-01-more", f"00-{TRACE}-{ABOVE}-0X"),
    ],
)
def test_what_is_no_traceparent_goes_no_further(text: str) -> None:
    assert checked(text) == ""


def received(traceparent: str) -> str:
    """Give the `traceparent` that a callback goes on with."""
    spans = Spans("tests")
    callback, _ = spans.receive(Callback(FRIEND, BODY, "", "", traceparent), Ids().mint())
    spans.provider.shutdown()
    return callback.traceparent


def test_a_callback_that_no_sampler_wants_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_TRACES_SAMPLER", "parentbased_traceidratio")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "0")
    assert not is_sampled(received(""))
    assert is_sampled(received(f"00-{TRACE}-{ABOVE}-01"))


def test_where_opentelemetry_is_told_to_be_off_a_trace_goes_through(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert received(f"00-{TRACE}-{ABOVE}-01") == f"00-{TRACE}-{ABOVE}-01"
    assert received("") == ""


def test_a_name_that_the_variables_give_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat-callbacks")
    spans = Spans("openim-bridge")
    spans.provider.shutdown()
    assert spans.provider.resource.attributes["service.name"] == "chat-callbacks"


@pytest.mark.parametrize(
    ("kind", "variable"), [(Receiver, "BRIDGE_TRACING"), (Worker, "CONSUMERS_TRACING")]
)
def test_a_bad_variable_of_opentelemetry_is_a_bad_setting(
    kind: type[Receiver | Worker], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "-1")
    with pytest.raises(BadSettings, match=f"{variable}=otlp: a variable OTEL_… cannot be used"):
        load(kind, {variable: "otlp"})
    assert load(kind, {}).tracing == "off"


@pytest.mark.parametrize(
    ("module", "command", "variable"),
    [("bridge", "receive", "BRIDGE_TRACING"), ("consumers", "work", "CONSUMERS_TRACING")],
)
async def test_without_the_extra_all_is_there_but_tracing(
    module: str, command: str, variable: str, tmp_path: Path
) -> None:
    program = (
        "import os, sys; sys.modules['opentelemetry'] = None;"
        f"os.environ['{variable}'] = 'otlp';"
        f"from {module}.cli.main import main; main()"
    )
    tried = await ran((sys.executable, "-c", program), command, folder=tmp_path)
    assert await tried.ended() == 3
    assert tried.err == (
        f"bad setting: {variable}=otlp needs OpenTelemetry, which is not installed:"
        " pip install 'openim-bridge[tracing]'\n"
    )
