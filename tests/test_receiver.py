"""What the receiver answers, when, and what it makes of a callback on its way."""

import asyncio
import json
from pathlib import Path

import orjson
import pytest

from bridge import openim
from bridge.contract import ALLOW, COMMANDS, Allowed, judge, partition
from bridge.journal import Journal
from bridge.settings import Receiver
from tests.contract.recorded import EXPECTED
from tests.raw import (
    BODY,
    COMMAND,
    TARGET,
    ask,
    calling,
    get,
    posted,
    rejected,
    request,
    stored,
)
from tests.running import bridge, eventually

BEFORE = "callbackBeforeAddFriendCommand"
ECHOING = ("callbackBeforeSetGroupInfoCommand", "callbackBeforeSetGroupInfoExCommand")
PLAIN = json.loads(ALLOW)
SMALLEST_QUOTA = 32 * 2**20


@pytest.fixture
def _stuck_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that answers never; no real one does so on command."""
    monkeypatch.setattr(Journal, "_store_waiting", lambda _: None)


@pytest.mark.parametrize("slashes", ["/", "//"])
async def test_every_recorded_callback_is_allowed_and_carried(
    tmp_path: Path, slashes: str
) -> None:
    callbacks = [openim.sample(command) for command in openim.commands()]
    async with bridge(tmp_path) as running, calling(running) as caller:
        url = "/callbackExample" + slashes
        replies = {c: await caller.ask(posted(c, prefix=url)) for c in openim.commands()}
        messages = await stored(running, 52)
    assert {(r.status, judge(r.body)) == (200, Allowed()) for r in replies.values()} == {True}
    assert {r.body for c, r in replies.items() if c not in ECHOING} == {ALLOW}
    assert sorted((m.command, m.body) for m in messages) == callbacks
    assert {
        m.command: (m.routing_key.rpartition(".p")[0], m.ordering_key) for m in messages
    } == EXPECTED


@pytest.mark.parametrize(
    ("command", "echo"),
    [
        (
            ECHOING[0],
            {
                "groupID": "3012345678",
                "groupName": "Hikers",
                "introduction": "trail talk",
                "faceURL": "https://cdn.example.com/g.png",
            },
        ),
        (
            ECHOING[1],
            {
                "groupID": "3012345678",
                "groupName": "Hikers",
                "introduction": None,
                "faceURL": None,
                "ex": None,
                "needVerification": 1,
                "lookMemberInfo": None,
                "applyMemberFriend": None,
            },
        ),
    ],
)
async def test_setting_group_info_is_answered_with_what_was_asked(
    tmp_path: Path, command: str, echo: dict[str, object]
) -> None:
    async with bridge(tmp_path) as running:
        reply = await ask(running, posted(command))
    assert orjson.loads(reply.body) == PLAIN | echo


async def test_a_reply_says_what_it_is_and_no_more(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        reply = await ask(running, request())
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["content-length"] == str(len(ALLOW))
    assert reply.headers.keys() == {"content-type", "content-length"}


@pytest.mark.usefixtures("_stuck_disk")
async def test_a_before_callback_never_waits_for_the_disk(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        reply = await ask(running, posted(BEFORE))
        assert running.running.journal.depth == 0
    assert (reply.status, reply.body) == (200, ALLOW)


@pytest.mark.usefixtures("_stuck_disk")
@pytest.mark.parametrize(
    "data",
    [request(), posted("callbackNobodyKnows", b"{}"), request(b"not JSON")],
    ids=["after", "unknown", "unreadable"],
)
async def test_any_other_callback_waits_for_the_disk_and_not_for_ever(
    tmp_path: Path, data: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    data = data.replace(b"\r\n", b"\r\noperationID: op-7\r\n", 1)
    async with bridge(tmp_path, reply_timeout=0.05) as running:
        reply = await ask(running, data)
        assert await rejected(running, "slow_disk") == 1
    (line,) = [each for each in caplog.records if each.message == "request rejected"]
    assert vars(line)["operation_id"] == "op-7"
    assert (reply.status, judge(reply.body)) == (503, Allowed())


async def test_an_after_callback_is_stored_when_it_is_answered(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, request())
        assert running.running.journal.depth == 1


async def test_a_full_journal_refuses_and_lets_openim_go_on(tmp_path: Path) -> None:
    megabyte = b'{"text":"%s"}' % (b"x" * (2**20 - 12))
    async with bridge(tmp_path, journal_quota=SMALLEST_QUOTA) as running:
        async with calling(running) as caller:
            replies = [await caller.ask(request(megabyte)) for _ in range(40)]
            before = await caller.ask(posted(BEFORE, megabyte))
            unreadable = await caller.ask(request(megabyte[1:]))
        answered = [reply for reply in replies if reply.status == 200]
        refused = replies[len(answered) :]
        assert len(answered) == running.running.journal.depth > 20
        # What becomes of a "before" callback's event is known some time after the answer.
        await eventually(
            lambda: rejected(running, "full"), lambda count: count == len(refused) + 2
        )
    assert {(r.status, judge(r.body)) for r in refused} == {(503, Allowed())}
    assert before.body == ALLOW
    assert unreadable.status == 503


async def test_an_unknown_command_is_carried_under_its_name(tmp_path: Path) -> None:
    body = b'{"callbackCommand":"callbackAfterTeleportCommand","planet":"Mars"}\n'
    async with bridge(tmp_path) as running:
        reply = await ask(running, posted("callbackAfterTeleportCommand", body))
        (message,) = await stored(running)
    key = f"p{partition('callbackAfterTeleportCommand', 16):02}"
    assert reply.body == ALLOW
    assert message.routing_key == f"unknown.callbackAfterTeleportCommand.{key}"
    assert (message.command, message.body) == ("callbackAfterTeleportCommand", body)


@pytest.mark.parametrize(
    "command", [old for event in COMMANDS.values() for old in event.old_commands]
)
async def test_a_command_of_an_old_release_goes_where_its_successor_goes(
    tmp_path: Path, command: str
) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, posted(command, b"{}"))
        (message,) = await stored(running)
    assert message.command == command
    assert message.routing_key.startswith(COMMANDS[command].routing_key + ".p")


async def test_a_message_says_what_the_request_said(tmp_path: Path) -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    data = request(
        BODY, b"Operationid: op-1", b"traceparent: " + trace, target=TARGET + b"?key=a%2Fb&k="
    )
    async with bridge(tmp_path) as running:
        await ask(running, data)
        (message,) = await stored(running)
    assert message.operation_id == "op-1"
    assert message.headers == {"x-query": "key=a%2Fb&k=", "traceparent": trace.decode()}
    assert message.routing_key == f"presence.after.user_online.p{partition('u1', 16):02}"
    assert (message.ordering_key, message.body) == ("u1", BODY)


@pytest.mark.parametrize("trace", [b"00-1-2-3", b"00-" + b"Z" * 32 + b"-" + b"0" * 16 + b"-01"])
async def test_a_trace_that_is_none_is_left_out(tmp_path: Path, trace: bytes) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, request(BODY, b"traceparent: " + trace))
        (message,) = await stored(running)
    assert message.headers == {}


@pytest.mark.parametrize(("headers", "key"), [((), COMMAND), ((b"operationID: op-1",), "op-1")])
async def test_a_callback_that_is_about_nobody_still_has_an_ordering_key(
    tmp_path: Path, headers: tuple[bytes, ...], key: str
) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, request(b"{}", *headers))
        (message,) = await stored(running)
    assert message.ordering_key == key
    assert message.routing_key.endswith(f".p{partition(key, 16):02}")


async def test_probes_answer_without_the_prefix(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        live = await caller.ask(get("/livez"))
        ready = await caller.ask(get("/readyz"))
        metrics = await caller.ask(get("/metrics"))
    assert json.loads(live.body) == {"alive": True}
    assert (ready.status, json.loads(ready.body)) == (200, {"ready": True})
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"openim_bridge_journal_depth 0.0" in metrics.body


async def test_readiness_explains_itself_and_needs_no_broker(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, request())
        ready = json.loads((await ask(running, get("/readyz?verbose"))).body)
    assert ready["ready"] is True
    assert ready["journal"]["depth"] == 1
    assert ready["broker"]["connected"] is False


@pytest.mark.parametrize("target", ["/livez", "/readyz", "/metrics"])
async def test_a_probe_by_head_has_a_length_and_no_body(tmp_path: Path, target: str) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        caller.send(get(target, b"HEAD"))
        head = await caller.reply(head_only=True)
        following = await caller.ask(get("/livez"))
    assert (head.status, following.status) == (200, 200)
    assert int(head.headers["content-length"]) > 0


async def test_each_callback_is_counted_under_its_command(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        await caller.ask(request())
        await caller.ask(posted("callbackNobodyKnows", b"{}"))
        metrics = (await caller.ask(get("/metrics"))).body
    assert b'openim_bridge_callbacks_total{command="%s"} 1.0' % COMMAND.encode() in metrics
    assert b'openim_bridge_callbacks_total{command="unknown"} 1.0' in metrics
    assert b"openim_bridge_reply_seconds_count 2.0" in metrics


async def test_an_idle_connection_is_closed_when_the_setting_says_so(tmp_path: Path) -> None:
    async with bridge(tmp_path, keepalive_timeout=0.1) as running, calling(running) as caller:
        reply = await caller.ask(request())
        assert await caller.hung_up_on() == b""
    assert reply.status == 200


def test_an_idle_connection_stays_open_for_hours() -> None:
    assert Receiver().keepalive_timeout >= 3600


async def test_http_1_0_is_answered_and_closed(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running, calling(running) as caller:
        reply = await caller.ask(request(version=b"1.0"))
        assert await caller.hung_up_on() == b""
    assert (reply.status, reply.body) == (200, ALLOW)


async def test_pipelined_requests_are_answered_and_stored_in_order(tmp_path: Path) -> None:
    bodies = [b'{"userID":"u%d"}' % number for number in range(50)]
    async with bridge(tmp_path) as running, calling(running) as caller:
        caller.send(b"".join(map(request, bodies)) + get("/livez"))
        replies = [await caller.reply() for _ in range(51)]
        messages = await stored(running, 50)
    assert [reply.body for reply in replies] == [ALLOW] * 50 + [b'{"alive":true}']
    assert [message.body for message in messages] == bodies


async def test_many_connections_are_served_at_once(tmp_path: Path) -> None:
    bodies = [b'{"userID":"u%d"}' % number for number in range(200)]
    async with bridge(tmp_path) as running:
        replies = await asyncio.gather(*(ask(running, request(body)) for body in bodies))
        messages = await stored(running, 200)
    assert {reply.body for reply in replies} == {ALLOW}
    assert sorted(message.body for message in messages) == sorted(bodies)
    assert len({message.id for message in messages}) == 200
