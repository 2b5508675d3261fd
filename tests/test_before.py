"""Before callbacks over HTTP: what they are answered, what OpenIM does then, what is news."""

import json
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bridge import openim
from bridge.contract import EVENTS, Allowed, Before, Change, Event
from bridge.contract import Refused as Verdict
from bridge.policy import deciding
from bridge.request import Callback
from tests.changes import CHANGED
from tests.openim_server import Fields, Refused, about_to, goes_on_with
from tests.policies import commands, written
from tests.raw import ask, get, posted, stored
from tests.running import Bridge, bridge, everything

ASKS: list[type[Event]] = [event for event in EVENTS if issubclass(event, Before)]
REFUSAL = {"code": 20001, "message": "not \U0001f600 here", "detail": "by the house rules"}
ADD = "callbackBeforeAddFriendCommand"
AFTER = "callbackAfterAddFriendCommand"
EX = "callbackBeforeUpdateUserInfoExCommand"

BY_COMMAND = [
    [each for each in CHANGED if each[0].answers is event]
    for event in dict.fromkeys(change.answers for change, _ in CHANGED)
]
ROUNDS = [[each for each in round_ if each] for round_ in zip_longest(*BY_COMMAND)]
"""All changes, each of another callback in a round."""


async def outcome(running: Bridge, command: str) -> Fields | tuple[object, ...]:
    """Post the recorded callback; give what OpenIM does then, or why it does not."""
    command, body = openim.sample(command)
    answer = await running.openim.post(command, body)
    try:
        return goes_on_with(command, about_to(command, body), answer.reply)
    except Refused as refused:
        return refused.args


async def test_without_a_policy_openim_goes_on_as_it_was_about_to(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        done = {event: await outcome(running, event.command) for event in ASKS}
    assert len(done) == 23
    assert done == {event: about_to(*openim.sample(event.command)) for event in ASKS}


async def test_whatever_is_refused_openim_tells_its_caller_so(tmp_path: Path) -> None:
    policy = commands(**{event.__name__: {"refuse": REFUSAL} for event in ASKS})
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        done = {event: await outcome(running, event.command) for event in ASKS}
    assert done == dict.fromkeys(ASKS, tuple(REFUSAL.values()))


@pytest.mark.parametrize("changes", ROUNDS)
async def test_whatever_is_changed_openim_goes_on_with_it(
    tmp_path: Path, changes: list[tuple[Change[Any], Fields]]
) -> None:
    policy = commands(
        **{c.answers.__name__: {"change": msgspec.to_builtins(c)} for c, _ in changes}
    )
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        done = [await outcome(running, change.answers.command) for change, _ in changes]
    assert done == [
        about_to(*openim.sample(change.answers.command)) | changed
        for change, changed in changes
    ]


async def test_a_callback_that_the_policy_leaves_out_is_allowed(tmp_path: Path) -> None:
    policy = commands(BeforeAddBlack={"refuse": REFUSAL})
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        answer = await running.openim.post(*openim.sample(ADD))
    assert answer.verdict == Allowed()


async def test_what_is_changed_where_it_is_no_part_of_the_update_is_allowed_instead(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    policy = commands(BeforeUpdateUserInfoEx={"change": {"faceURL": "z.png"}})
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        assert await outcome(running, EX) == about_to(*openim.sample(EX))
        (message,) = await stored(running)
    assert message.headers["x-verdict"] == "allow"
    assert message.headers["x-verdict-source"] == "fallback"
    (line,) = [each for each in caplog.records if each.message == "no decision"]
    assert "faceURL is no part of this update" in vars(line)["detail"]
    assert vars(line)["message_id"] == message.id
    assert vars(line)["operation_id"] == message.operation_id != ""


@pytest.mark.parametrize(
    ("policy", "verdict", "source"),
    [
        ("", "allow", "default"),
        (commands(BeforeAddFriend={"allow": True}), "allow", "policy"),
        (commands(BeforeAddFriend={"refuse": REFUSAL}), "refuse", "policy"),
        (commands(callbackBeforeAddFriendCommand={"refuse": REFUSAL}), "refuse", "policy"),
    ],
)
async def test_a_subscriber_sees_the_verdict_and_its_source(
    tmp_path: Path, amqp_url: str, policy: str, verdict: str, source: str
) -> None:
    path = written(tmp_path, policy)
    async with everything(amqp_url) as seen, bridge(tmp_path, amqp_url, policy=path) as running:
        await running.openim.post(*openim.sample(ADD))
        (message,) = await seen.have(1)
    assert message.headers["x-verdict"] == verdict
    assert message.headers["x-verdict-source"] == source
    assert 0 <= float(str(message.headers["x-decision-ms"])) < 1000
    assert message.body == openim.sample(ADD)[1]


@pytest.mark.parametrize("command", [AFTER, "callbackBeforeTheFact"])
async def test_what_is_not_decided_about_has_no_verdict(tmp_path: Path, command: str) -> None:
    async with bridge(tmp_path) as running:
        await ask(running, posted(command, b"{}"))
        (message,) = await stored(running)
    assert message.headers == {}


async def test_a_callback_of_an_old_name_is_decided_about_too(tmp_path: Path) -> None:
    policy = commands(BeforeSetFriendRemark={"refuse": REFUSAL})
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        reply = await ask(running, posted("callbackBeforeSetFriendRemark", b"{}"))
    assert json.loads(reply.body)["errCode"] == 20001


async def test_a_before_callback_is_stored_before_what_follows_from_it(tmp_path: Path) -> None:
    async with bridge(tmp_path) as running:
        receiver = running.running.receiver
        asked = Callback(ADD, b"{}", "", "", "")
        receiver.accept(asked, print)
        follows = receiver.accept(Callback(AFTER, b"{}", "", "", ""), print)
        assert follows is not None
        receiver.keep(follows.message, print)
        messages = await stored(running, 2)
    assert [message.command for message in messages] == [ADD, AFTER]


async def test_decisions_are_counted_and_timed(tmp_path: Path) -> None:
    policy = commands(BeforeAddFriend={"refuse": REFUSAL})
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        await running.openim.post(*openim.sample(ADD))
        await running.openim.post(*openim.sample(ADD))
        await running.openim.post(*openim.sample(EX))
        text = (await ask(running, get("/metrics"))).body.decode()
    counted = "openim_bridge_decisions_total"
    assert {
        f'{counted}{{command="{ADD}",source="policy",verdict="refuse"}} 2.0',
        f'{counted}{{command="{EX}",source="default",verdict="allow"}} 1.0',
        f'openim_bridge_decision_seconds_count{{command="{ADD}"}} 2.0',
    } <= set(text.splitlines())


WORDS = """
[[rules]]
name = "word filter"
commands = ["BeforeSendSingleMsg", "BeforeSendGroupMsg"]
where = [{field = "content.*", op = "contains", value = "Bob"}]
refuse = {code = 20001, message = "not here"}
"""


async def test_a_rule_decides_and_is_named(tmp_path: Path) -> None:
    single, group = openim.sample("BeforeSendSingleMsg"), openim.sample("BeforeSendGroupMsg")
    async with bridge(tmp_path, policy=written(tmp_path, WORDS)) as running:
        answers = [await running.openim.post(*each) for each in (single, group)]
        messages = await stored(running, 2)
        text = (await ask(running, get("/metrics"))).body.decode()
    assert [answer.verdict for answer in answers] == [
        Verdict(code=20001, message="not here", detail=""),
        Allowed(),
    ]
    assert [message.headers["x-verdict-source"] for message in messages] == [
        "rule:word filter",
        "default",
    ]
    assert f'total{{command="{single[0]}",source="rule",verdict="refuse"}} 1.0' in text


async def test_rules_that_take_too_long_hold_up_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No rule is known that takes so long.
    monkeypatch.setattr(deciding, "LONGEST", -1.0)
    policy = WORDS.replace("Bob", "Eve")
    async with bridge(tmp_path, policy=written(tmp_path, policy)) as running:
        answer = await running.openim.post(*openim.sample("BeforeSendSingleMsg"))
        (message,) = await stored(running)
    assert answer.verdict == Allowed()
    assert message.headers["x-verdict-source"] == "fallback"
    assert "no decision" in [record.message for record in caplog.records]
