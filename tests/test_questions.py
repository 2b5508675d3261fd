"""What documents say of questions and answers, against those that travel."""

import asyncio
import re
import uuid
from pathlib import Path
from typing import Any

import aio_pika
import aiohttp
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from bridge import openim, questions
from bridge.contract import (
    CHANGES,
    Allow,
    Allowed,
    BadReply,
    Before,
    BeforeAddFriend,
    BeforeMsgModify,
    BeforeSendSingleMsg,
    BeforeSetFriendRemark,
    BeforeUserRegister,
    Change,
    Refuse,
    Reply,
)
from bridge.documents import answers, words
from bridge.documents.answers import ASKED
from bridge.management import virtual_host
from tests.brokers import Address
from tests.changes import CHANGED
from tests.commands import started
from tests.documented import BLOCKS
from tests.running import DEADLINE
from tests.test_asking import asking, policy, refused, until_consumed, verdict
from tests.test_documents import ASYNCAPI, PAGE, part
from tests.test_snippets import language, prepared

__all__ = ["language"]

REFUSAL = Refuse(20001, "not today", "says the handler")
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.sampled_from(["", "x", "{}"]),
    lambda each: (
        st.lists(each, max_size=2)
        | st.dictionaries(
            st.sampled_from(["code", "message", "userID", "ex"]), each, max_size=2
        )
    ),
    max_leaves=4,
)


def fits(event: type[Before], answer: object) -> bool:
    """Say whether an answer is as the documents say."""
    checked: bool = part("components", "schemas", answers.name(event)).is_valid(answer)
    return checked


def taken(event: type[Before], answer: object) -> bool:
    """Say whether the receiver takes an answer."""
    try:
        questions.decoded(orjson.dumps(answer), event)
    except questions.HandlerFailed:
        return True
    except BadReply:
        return False
    return True


# Answers


@pytest.mark.parametrize("event", ASKED)
@pytest.mark.parametrize("reply", [Allow(), REFUSAL, Refuse(29999, "")])
def test_what_may_be_answered_to_all_is_as_its_schema_says(
    event: type[Before], reply: Reply
) -> None:
    assert fits(event, orjson.loads(questions.encoded(reply)))


@pytest.mark.parametrize("event", ASKED)
def test_that_there_is_no_decision_is_as_its_schema_says(event: type[Before]) -> None:
    assert fits(event, orjson.loads(questions.failure("")))


@pytest.mark.parametrize(("change", "_done"), CHANGED)
def test_a_change_is_as_its_schema_says(change: Change[Any], _done: object) -> None:
    assert fits(change.answers, orjson.loads(questions.encoded(change)))


@pytest.mark.parametrize(("change", "_done"), CHANGED)
def test_a_change_is_no_answer_to_what_takes_none(change: Change[Any], _done: object) -> None:
    assert not fits(BeforeAddFriend, orjson.loads(questions.encoded(change)))


@pytest.mark.parametrize(
    ("event", "answer"),
    [
        (BeforeAddFriend, None),
        (BeforeAddFriend, []),
        (BeforeAddFriend, {}),
        (BeforeAddFriend, {"allow": False}),
        (BeforeAddFriend, {"allow": 1}),
        (BeforeAddFriend, {"allow": True, "more": 1}),
        (BeforeAddFriend, {"failed": ""}),
        (BeforeAddFriend, {"refuse": {"code": 20001}}),
        (BeforeAddFriend, {"refuse": {"code": 20000, "message": "no"}}),
        (BeforeAddFriend, {"refuse": {"code": 20001, "message": "n" * 1001}}),
        (BeforeAddFriend, {"refuse": {"code": 20001, "message": "no", "details": ""}}),
        (BeforeAddFriend, {"change": {}}),
        (BeforeSetFriendRemark, {"change": {"remark": ""}}),
        (BeforeSetFriendRemark, {"change": {"remark": None}}),
        (BeforeSetFriendRemark, {"change": {"Remark": "Bob"}}),
        (BeforeMsgModify, {"change": {"offlinePushInfo": {}}}),
        (BeforeUserRegister, {"change": {"users": []}}),
        (BeforeUserRegister, {"change": {"users": [{"nickname": "Zoe"}]}}),
    ],
)
def test_what_the_receiver_does_not_take_its_schema_does_not_allow(
    event: type[Before], answer: object
) -> None:
    assert (fits(event, answer), taken(event, answer)) == (False, False)


@settings(max_examples=100)
@given(event=st.sampled_from(list(CHANGES)), data=st.data())
def test_the_schema_of_a_change_allows_what_is_taken_and_nothing_else(
    event: type[Before], data: st.DataObject
) -> None:
    # That `content` holds JSON, a schema can only hint at.
    names = {*CHANGES[event].__struct_encode_fields__, "strange"} - {"content"}
    change = data.draw(st.dictionaries(st.sampled_from(sorted(names)), ANYTHING, max_size=3))
    assert fits(event, {"change": change}) == taken(event, {"change": change})


@pytest.mark.parametrize("event", ASKED)
def test_each_example_of_an_answer_can_be_taken(event: type[Before]) -> None:
    message = ASYNCAPI["components"]["messages"][answers.name(event)]
    assert [taken(event, each["payload"]) for each in message["examples"]] == [True, True]


# Questions


@pytest.mark.parametrize("event", ASKED)
def test_the_page_says_where_a_callback_is_asked_about(event: type[Before]) -> None:
    assert f"Asked about in{questions.queue_name(event)}" in PAGE.text


@pytest.mark.parametrize("change", CHANGES.values())
def test_the_page_says_what_may_change(change: type[Change[Any]]) -> None:
    told = PAGE.text.partition(f"What change may have: {words.whole(change).replace('`', '')}")
    table = told[2].partition("As OpenIM sent it")[0]
    assert [name for name in change.__struct_encode_fields__ if f"\n{name}" not in table] == []


async def test_a_question_comes_as_asyncapi_says(amqp_url: str, tmp_path: Path) -> None:
    operation = ASYNCAPI["operations"]["askBeforeAddFriend"]
    channel = ASYNCAPI["channels"][operation["channel"]["$ref"].rpartition("/")[2]]
    queue = channel["bindings"]["amqp"]["queue"]
    taken: asyncio.Queue[aio_pika.abc.AbstractIncomingMessage] = asyncio.Queue()
    async with (
        await aio_pika.connect(amqp_url) as connection,
        connection.channel() as line,
        asking(tmp_path, amqp_url, policy(tmp_path)) as running,
    ):
        declared = await line.declare_queue(
            queue["name"], durable=queue["durable"], arguments=queue["x-arguments"]
        )
        await declared.consume(taken.put)
        reply = asyncio.create_task(verdict(running))
        question = await asyncio.wait_for(taken.get(), DEADLINE)
        refusal = aio_pika.Message(
            b'{"refuse": {"code": 20001, "message": "no"}}',
            correlation_id=question.correlation_id,
        )
        await line.default_exchange.publish(refusal, question.reply_to or "")
        await question.ack()
        assert refused(20001)(await asyncio.wait_for(reply, DEADLINE))
    part("components", "schemas", "HeadersQuestion").validate(dict(question.headers))
    part("components", "schemas", "BeforeAddFriend").validate(orjson.loads(question.body))
    required = ASYNCAPI["components"]["schemas"]["PropertiesQuestion"]["required"]
    properties = dict(question.info())
    assert [name for name in required if not properties[name]] == []
    message = ASYNCAPI["components"]["messages"]["QuestionBeforeAddFriend"]
    assert question.type == message["name"]


async def trusted(broker: Address, amqp_url: str) -> str:
    """Make the user that the documents show; give where it connects."""
    (shown,) = (block.text for block in BLOCKS if "set_permissions moderation" in block.text)
    configure, write, read = re.findall(r"'(\S+)'", shown)
    name, host = f"moderation-{uuid.uuid4().hex}", virtual_host(amqp_url)
    api = URL(broker.management_url) / "api"
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        await session.put(api / "users" / name, json={"password": name, "tags": ""})
        await session.put(
            api.joinpath("permissions", host, name),
            json={"configure": configure, "write": write, "read": read},
        )
    return str(URL(amqp_url).with_user(name).with_password(name))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("language", ["node"], indirect=True)
async def test_a_decision_handler_in_another_language_decides_as_documented(
    broker: Address, amqp_url: str, tmp_path: Path, language: str
) -> None:
    (program,) = (block for block in BLOCKS if block.text.startswith("// moderation.js"))
    (tmp_path / "moderation.js").write_text(program.text)
    await prepared(language, tmp_path)
    url = await trusted(broker, amqp_url)
    path = policy(tmp_path, {"within": 10}, BeforeSendSingleMsg)
    async with (
        asking(tmp_path, amqp_url, path) as running,
        started(("node", "moderation.js"), folder=tmp_path, AMQP_URL=url) as handler,
    ):
        await until_consumed(amqp_url, questions.queue_name(BeforeSendSingleMsg))
        command, body = openim.sample(BeforeSendSingleMsg.command)
        unwelcome = orjson.loads(body) | {"content": '{"content":"Casino!"}'}
        welcome = orjson.loads(body) | {"content": '{"content":"hello"}'}
        first = await running.openim.post(command, orjson.dumps(unwelcome))
        second = await running.openim.post(command, orjson.dumps(welcome))
    assert handler.err == ""
    assert refused(20001)(first.verdict)
    assert second.verdict == Allowed()
