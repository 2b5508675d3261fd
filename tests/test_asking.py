"""Callbacks that handlers are asked about: OpenIM is answered in time, whatever happens."""

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aio_pika
import pytest

from bridge import openim, questions
from bridge.asking import Asked, Heard
from bridge.contract import (
    EVENTS,
    Allow,
    Allowed,
    Before,
    BeforeAddFriend,
    BeforeSendMsg,
    BeforeSendSingleMsg,
    Refuse,
    Reply,
)
from bridge.contract import Refused as Verdict
from bridge.spans import Spans
from consumers import database
from consumers.decisions import Decisions, Question
from consumers.handlers import moderation
from consumers.settings import Worker as Settings
from consumers.worker import Worker
from tests.brokers import OwnBroker
from tests.changes import CHANGED
from tests.commands import CONSUMERS, started
from tests.line import line_to
from tests.openim_server import Fields, Refused, about_to, goes_on_with
from tests.policies import commands, written
from tests.raw import ask, get
from tests.running import DEADLINE, NOWHERE, Bridge, bridge, eventually, everything, until

ASKS = [event for event in EVENTS if issubclass(event, Before)]
ADD = BeforeAddFriend.command
EXAMPLE = Path(__file__).parents[1] / "deploy" / "moderation"
NO = Refuse(20001, "not today", "says the handler")
FALLBACK = {"code": 20009, "message": "nobody has decided"}
ASK = {"within": 0.5, "refuse": FALLBACK}
PATIENT = {"within": 10, "refuse": FALLBACK}

Decide = Callable[..., Awaitable[Any]]


def policy(folder: Path, ask: dict[str, Any] = PATIENT, *events: type[Before]) -> str:
    """Write a policy that asks about these callbacks."""
    names = [event.__name__ for event in events or (BeforeAddFriend,)]
    return written(folder, commands(**{name: {"ask": ask} for name in names}))


@asynccontextmanager
async def deciding(
    amqp_url: str,
    decide: Decide,
    kind: type[Before] = BeforeAddFriend,
    spans: Spans | None = None,
) -> AsyncIterator[None]:
    """Run a worker whose decision handler this is."""
    decisions = Decisions("tests")
    decisions.on(kind)(decide)
    async with working(amqp_url, decisions, spans):
        await consumed(amqp_url, kind)
        yield


@asynccontextmanager
async def working(
    amqp_url: str, decisions: Decisions, spans: Spans | None = None
) -> AsyncIterator[None]:
    """Run a worker that decides."""
    with TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/worker.db"
        settings = Settings(amqp_url=amqp_url, database_url=url, grace_period=1, prefetch=100)
        async with database.opened(url) as opened:
            await opened.create_tables()
            stop = asyncio.Event()
            worker = Worker(settings, [], opened, [decisions], spans=spans)
            task = asyncio.create_task(worker.run(stop))
            try:
                yield
            finally:
                stop.set()
                await asyncio.wait_for(task, 20)


async def consumed(amqp_url: str, kind: type[Before]) -> None:
    """Wait until somebody takes the questions about a kind of callbacks."""
    events = [event for event in ASKS if issubclass(event, kind)]
    for event in events:
        await until_consumed(amqp_url, questions.queue_name(event))


async def until_consumed(amqp_url: str, queue: str) -> None:
    async with await aio_pika.connect(amqp_url) as connection, asyncio.timeout(DEADLINE):
        while True:
            async with connection.channel() as channel:
                try:
                    declared = await channel.declare_queue(queue, passive=True)
                    if declared.declaration_result.consumer_count:
                        return
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    pass
            await asyncio.sleep(0.02)


@asynccontextmanager
async def asking(
    folder: Path,
    amqp_url: str,
    path: str,
    **changed: Any,  # noqa: ANN401  # any setting
) -> AsyncIterator[Bridge]:
    """Run a receiver that can ask."""
    async with bridge(folder, amqp_url, policy=path, **changed) as running:
        await until(lambda: running.running.receiver.asking.connected)
        yield running


async def verdict(running: Bridge, command: str = ADD) -> object:
    """Post a callback; give what OpenIM makes of the reply."""
    return (await running.openim.post(*openim.sample(command))).verdict


async def counted(running: Bridge, outcome: str, command: str = ADD) -> float:
    """Say how many questions have come to this, from `/metrics`."""
    text = (await ask(running, get("/metrics"))).body.decode()
    name = f'openim_bridge_questions_total{{command="{command}",outcome="{outcome}"}} '
    found = re.search(rf"^{re.escape(name)}(\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def refused(code: int) -> Callable[[object], bool]:
    return lambda verdict: isinstance(verdict, Verdict) and verdict.code == code


async def says_no(_event: Before) -> Reply:
    return NO


async def never(_event: Before) -> Reply:
    await asyncio.Event().wait()
    return Allow()


async def outcome(running: Bridge, command: str) -> Fields | tuple[object, ...]:
    """Post the recorded callback; give what OpenIM does then, or why it does not."""
    command, body = openim.sample(command)
    answer = await running.openim.post(command, body)
    try:
        return goes_on_with(command, about_to(command, body), answer.reply)
    except Refused as refused:
        return refused.args


async def test_whatever_openim_asks_a_handler_may_refuse(amqp_url: str, tmp_path: Path) -> None:
    path = policy(tmp_path, PATIENT, *ASKS)
    async with (
        deciding(amqp_url, says_no, Before),
        asking(tmp_path, amqp_url, path) as running,
    ):
        done = {event: await outcome(running, event.command) for event in ASKS}
    assert done == dict.fromkeys(ASKS, (20001, "not today", "says the handler"))


async def test_whatever_openim_asks_a_handler_may_allow(amqp_url: str, tmp_path: Path) -> None:
    async def allows(_event: Before) -> Reply:
        return Allow()

    path = policy(tmp_path, PATIENT, *ASKS)
    async with (
        deciding(amqp_url, allows, Before),
        asking(tmp_path, amqp_url, path) as running,
    ):
        done = {event: await outcome(running, event.command) for event in ASKS}
    assert done == {event: about_to(*openim.sample(event.command)) for event in ASKS}


async def test_whatever_can_be_changed_a_handler_may_change(
    amqp_url: str, tmp_path: Path
) -> None:
    now: list[Reply] = []

    async def changes(_event: Before) -> Reply:
        return now[-1]

    path = policy(tmp_path, PATIENT, *ASKS)
    async with (
        deciding(amqp_url, changes, Before),
        asking(tmp_path, amqp_url, path) as running,
    ):
        for change, changed in CHANGED:
            now.append(change)
            command = change.answers.command
            done = await outcome(running, command)
            assert done == about_to(*openim.sample(command)) | changed


async def test_a_decision_is_news_with_its_handler_and_the_questions_id(
    amqp_url: str, tmp_path: Path
) -> None:
    asked: list[Question] = []

    async def notes(_event: BeforeAddFriend, question: Question) -> Reply:
        asked.append(question)
        return NO

    async with (
        everything(amqp_url) as seen,
        deciding(amqp_url, notes),
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        assert refused(20001)(await verdict(running))
        (message,) = await seen.have(1)
        assert await counted(running, "answered") == 1
    headers = message.headers
    assert (headers["x-verdict"], headers["x-verdict-source"]) == (
        "refuse",
        "handler:tests.notes",
    )
    assert message.message_id == asked[0].message_id
    assert message.body == openim.sample(ADD)[1]
    assert 0 < asked[0].seconds_left < 10


async def test_without_rabbitmq_the_fallback_leaves_at_once(tmp_path: Path) -> None:
    async with bridge(tmp_path, NOWHERE, policy=policy(tmp_path)) as running:
        assert refused(20009)(await verdict(running))
        assert await counted(running, "away") == 1


async def test_without_a_worker_the_fallback_leaves_at_once(
    amqp_url: str, tmp_path: Path
) -> None:
    async with asking(tmp_path, amqp_url, policy(tmp_path)) as running:
        assert refused(20009)(await verdict(running))
        assert await counted(running, "nobody") == 1


async def test_without_a_fallback_openim_goes_on(amqp_url: str, tmp_path: Path) -> None:
    async with asking(tmp_path, amqp_url, policy(tmp_path, {})) as running:
        assert await verdict(running) == Allowed()


async def test_a_handler_that_hangs_is_given_up_and_then_left_alone(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        deciding(amqp_url, never),
        asking(tmp_path, amqp_url, policy(tmp_path, ASK)) as running,
    ):
        verdicts = await asyncio.gather(*(verdict(running) for _ in range(20)))
        assert all(map(refused(20009), verdicts))
        assert await counted(running, "unanswered") == 20
        assert refused(20009)(await verdict(running))
        assert await counted(running, "resting") == 1
        text = (await ask(running, get("/metrics"))).body.decode()
        assert "openim_bridge_questions_resting 1.0" in text


async def test_of_questions_at_once_the_later_end_earlier_so_that_all_are_answered_in_time(
    amqp_url: str, tmp_path: Path
) -> None:
    command, body = openim.sample(ADD)
    ended: list[int] = []

    def note(number: int, _heard: Heard) -> None:
        ended.append(number)

    async with (
        deciding(amqp_url, never),
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        for number in range(100):
            asked = Asked(
                event=BeforeAddFriend,
                command=command,
                message_id=str(number),
                operation_id="",
                traceparent="",
                body=body,
                within=0.5,
                done=partial(note, number),
            )
            running.running.receiver.asking.ask(asked)
        await until(lambda: len(ended) == 100)
    assert ended == list(reversed(range(100)))


async def test_after_a_rest_one_answer_is_enough(
    amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bridge.asking.REST", 0.3)
    hangs = asyncio.Event()

    async def slow_at_first(event: Before) -> Reply:
        return NO if hangs.is_set() else await never(event)

    async with (
        deciding(amqp_url, slow_at_first),
        asking(tmp_path, amqp_url, policy(tmp_path, ASK)) as running,
    ):
        await asyncio.gather(*(verdict(running) for _ in range(10)))
        hangs.set()
        await eventually(partial(verdict, running), refused(20001))
        assert refused(20001)(await verdict(running))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_worker_that_is_gone_or_stands_still_holds_up_nobody(
    amqp_url: str, tmp_path: Path, number: signal.Signals
) -> None:
    (tmp_path / "app.py").write_text(
        "from bridge.contract import BeforeAddFriend, Refuse\n"
        "from consumers.decisions import Decisions\n"
        "decisions = Decisions('app')\n"
        "@decisions.on(BeforeAddFriend)\n"
        "async def decide(event):\n"
        "    return Refuse(20001, 'no')\n"
    )
    async with (
        started(
            *(CONSUMERS, "work", "--handlers", "app"),
            folder=tmp_path,
            CONSUMERS_AMQP_URL=amqp_url,
        ) as worker,
        asking(tmp_path, amqp_url, policy(tmp_path, ASK)) as running,
    ):
        await consumed(amqp_url, BeforeAddFriend)
        assert refused(20001)(await verdict(running))
        worker.process.send_signal(number)
        verdicts = [await verdict(running) for _ in range(3)]
    assert all(map(refused(20009), verdicts))


@pytest.mark.parametrize(
    "error", [RuntimeError("oops \ud83d"), asyncio.CancelledError(), SystemExit(7)], ids=repr
)
async def test_a_handler_that_fails_means_the_fallback_at_once(
    amqp_url: str, tmp_path: Path, error: BaseException
) -> None:
    async def fails(_event: Before) -> Reply:
        raise error

    async with (
        deciding(amqp_url, fails),
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        assert refused(20009)(await verdict(running))
        assert await counted(running, "failed") == 1


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"ok",
        b"[]",
        b"{}",
        b'{"allow": "yes"}',
        b'{"refuse": {"code": 7, "message": "no"}}',
        b'{"change": {"nickname": "x"}}',
        b'{"refuse": {"code": 20001, "message": "no", "details": ""}}',
        b'{"allow": true, "more": 1}',
        b'{"allow": true, "refuse": {"code": 20001, "message": "no"}}',
        b'{"allow": true, "failed": "no idea"}',
        b"\xff",
        b"[" * 10_000,
    ],
)
async def test_an_answer_that_openim_could_not_take_means_the_fallback(
    amqp_url: str, tmp_path: Path, body: bytes
) -> None:
    queue = questions.topology([BeforeAddFriend]).queues[0]
    async with (
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        arguments: Any = dict(queue.arguments)
        declared = await channel.declare_queue(queue.name, durable=True, arguments=arguments)

        async def answer(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            reply = aio_pika.Message(body, correlation_id=message.correlation_id)
            await channel.default_exchange.publish(reply, message.reply_to or "")

        await declared.consume(answer, no_ack=True)
        assert refused(20009)(await verdict(running))
        assert await counted(running, "unusable") == 1


async def test_a_late_answer_is_dropped_and_counted(amqp_url: str, tmp_path: Path) -> None:
    queue = questions.topology([BeforeAddFriend]).queues[0]
    async with (
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
        asking(tmp_path, amqp_url, policy(tmp_path, ASK)) as running,
    ):
        arguments: Any = dict(queue.arguments)
        declared = await channel.declare_queue(queue.name, durable=True, arguments=arguments)
        waiting: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
        await declared.consume(waiting.put, no_ack=True)
        assert refused(20009)(await verdict(running))
        late = await waiting.get()
        reply = aio_pika.Message(b'{"allow": true}', correlation_id=late.correlation_id)
        await channel.default_exchange.publish(reply, late.reply_to or "")
        await eventually(partial(counted, running, "late", ""), bool)


async def test_more_questions_than_may_wait_are_not_asked(
    amqp_url: str, tmp_path: Path
) -> None:
    async with (
        deciding(amqp_url, never),
        asking(tmp_path, amqp_url, policy(tmp_path, ASK), questions=3) as running,
    ):
        verdicts = await asyncio.gather(*(verdict(running) for _ in range(9)))
        assert all(map(refused(20009), verdicts))
        assert await counted(running, "full") == 6


async def test_a_cut_line_ends_all_questions_at_once(amqp_url: str, tmp_path: Path) -> None:
    async with (
        deciding(amqp_url, never),
        line_to(amqp_url) as line,
        asking(tmp_path, line.url, policy(tmp_path)) as running,
    ):
        waiting = [asyncio.ensure_future(verdict(running)) for _ in range(5)]
        await until(lambda: running.running.receiver.asking.waiting == 5)
        line.cut()
        assert all(map(refused(20009), await asyncio.gather(*waiting)))
        assert await counted(running, "away") == 5


async def test_a_stopped_broker_is_found_again(own_broker: OwnBroker, tmp_path: Path) -> None:
    async with (
        deciding(own_broker.amqp_url, says_no),
        asking(tmp_path, own_broker.amqp_url, policy(tmp_path)) as running,
    ):
        await own_broker.stop()
        assert refused(20009)(await verdict(running))
        await own_broker.start()
        await eventually(partial(verdict, running), refused(20001), 40)


async def test_a_frozen_broker_holds_up_nobody(own_broker: OwnBroker, tmp_path: Path) -> None:
    async with (
        deciding(own_broker.amqp_url, says_no),
        asking(tmp_path, own_broker.amqp_url, policy(tmp_path, ASK)) as running,
    ):
        await own_broker.pause()
        verdicts = await asyncio.gather(*(verdict(running) for _ in range(5)))
        await own_broker.resume()
    assert all(map(refused(20009), verdicts))


async def test_a_stop_answers_what_is_asked(amqp_url: str, tmp_path: Path) -> None:
    async with deciding(amqp_url, never), AsyncExitStack() as later:
        async with asking(tmp_path, amqp_url, policy(tmp_path), grace_period=0.2) as running:
            caller = await later.enter_async_context(openim.process(running.url))
            waiting = asyncio.ensure_future(caller.post(*openim.sample(ADD)))
            await until(lambda: running.running.receiver.asking.waiting == 1)
        assert refused(20009)((await waiting).verdict)


async def test_nobody_works_on_a_dead_question(amqp_url: str, tmp_path: Path) -> None:
    called: list[Before] = []

    async def notes(event: Before) -> Reply:
        called.append(event)
        return NO

    async with (
        deciding(amqp_url, notes),
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as channel,
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        command, body = openim.sample(ADD)
        dead = aio_pika.Message(body, type=command, headers={questions.DEADLINE: 1000})
        queue = questions.queue_name(BeforeAddFriend)
        await channel.default_exchange.publish(dead, queue)
        assert refused(20001)(await verdict(running))
    assert len(called) == 1


async def test_a_rule_may_have_only_some_callbacks_asked_about(
    amqp_url: str, tmp_path: Path
) -> None:
    text = """
        [[rules]]
        name = "pictures"
        commands = ["BeforeSendSingleMsg"]
        where = [{field = "contentType", op = "is", value = 102}]
        ask = {within = 10}
    """
    asked: list[BeforeSendSingleMsg] = []

    async def moderate(event: BeforeSendSingleMsg) -> Reply:
        asked.append(event)
        return NO

    command, body = openim.sample("BeforeSendSingleMsg")
    picture = re.sub(rb'"contentType":\d+', b'"contentType":102', body)
    assert picture != body
    async with (
        deciding(amqp_url, moderate, BeforeSendSingleMsg),
        asking(tmp_path, amqp_url, written(tmp_path, text)) as running,
    ):
        assert (await running.openim.post(command, body)).verdict == Allowed()
        assert refused(20001)((await running.openim.post(command, picture)).verdict)
    assert [event.content_type for event in asked] == [102]


def written_by(user: str, text: str) -> tuple[str, bytes]:
    """Give a callback about a message."""
    command, body = openim.sample("BeforeSendSingleMsg")
    changed = {"sendID": user, "content": json.dumps({"content": text})}
    return command, json.dumps(json.loads(body) | changed).encode()


async def test_the_example_filters_limits_and_asks(amqp_url: str, tmp_path: Path) -> None:
    path = str(EXAMPLE / "policy.toml")
    async with asking(tmp_path, amqp_url, path) as running:

        async def send(user: str, text: str) -> object:
            verdict = (await running.openim.post(*written_by(user, text))).verdict
            return verdict.code if isinstance(verdict, Verdict) else verdict

        assert await send("ann", "Try our CASINO") == 20001
        assert [await send("bob", "hello") for _ in range(21)] == [Allowed()] * 20 + [20002]
        link = "see https://nowhere.test/x"
        assert await send("eve", link) == 20003
        async with working(amqp_url, moderation.decisions):
            await consumed(amqp_url, BeforeSendMsg)
            assert await send("eve", link) == 20004
            assert await send("eve", "see https://docs.openim.io/") == Allowed()
