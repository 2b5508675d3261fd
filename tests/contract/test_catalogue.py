"""From a request to its class and its routing key."""

import orjson
import pytest

from bridge.contract import (
    EVENTS,
    MALFORMED,
    AfterAddFriend,
    AfterAddFriendAgree,
    BeforeAddFriendAgree,
    Event,
    decode,
    event_type,
    fields_of,
    routing_key,
)
from tests.contract.recorded import sample

APPLY = "callbackAfterAddFriendCommand"
AGREE = "callbackAfterAddFriendAgreeCommand"

APPLICATION = AfterAddFriend(from_user_id="user123", to_user_id="user456", req_msg="Hi")
AGREEMENT = AfterAddFriendAgree(
    from_user_id="user123",
    to_user_id="user456",
    handle_msg="Let's be friends!",
    handle_result=1,
)

# As OpenIM's page "Callback After Agreeing To Add Friend" shows it.
DOCUMENTED = b"""{
    "callbackCommand": "callbackAfterAddFriendCommand",
    "fromUserID": "user123",
    "toUserID": "user456",
    "handleMsg": "Let's be friends!",
    "handleResult": 1
}"""
REAL = (
    b'{"callbackCommand":"callbackAfterAddFriendAgreeCommand","fromUserID":"user123",'
    b'"blackUserID":"user456","HandleResult":1,"HandleMsg":"Let\'s be friends!"}\n'
)
APPLIED = (
    b'{"callbackCommand":"callbackAfterAddFriendCommand","fromUserID":"user123",'
    b'"toUserID":"user456","reqMsg":"Hi"}\n'
)
APPLIED_LIKE_AGREED = APPLIED.replace(b"toUserID", b"blackUserID")


@pytest.mark.parametrize(
    ("command", "body", "event"),
    [
        (APPLY, APPLIED, APPLICATION),
        (APPLY, APPLIED_LIKE_AGREED, APPLICATION),
        (APPLY, DOCUMENTED, AGREEMENT),
        (APPLY, REAL, AGREEMENT),
        (AGREE, DOCUMENTED, AGREEMENT),
        (AGREE, REAL, AGREEMENT),
    ],
)
def test_an_application_and_an_agreement_are_read_however_spelled(
    command: str, body: bytes, event: Event
) -> None:
    assert decode(command, body) == event


@pytest.mark.parametrize("body", [DOCUMENTED, REAL])
def test_an_agreement_may_be_asked_for_in_both_spellings(body: bytes) -> None:
    event = decode("callbackBeforeAddFriendAgreeCommand", body)
    assert event == BeforeAddFriendAgree(
        from_user_id="user123",
        to_user_id="user456",
        handle_msg="Let's be friends!",
        handle_result=1,
    )


def test_the_servers_spelling_wins_over_the_documented_one() -> None:
    both = orjson.dumps(fields_of(REAL) | {"toUserID": "x", "handleResult": 0, "handleMsg": ""})
    assert decode(AGREE, both) == AGREEMENT


@pytest.mark.parametrize("name", ["handleResult", "handleMsg", "HandleResult", "HandleMsg"])
def test_one_field_of_an_agreement_makes_it_one(name: str) -> None:
    assert event_type(APPLY, {name: None}) is AfterAddFriendAgree


@pytest.mark.parametrize(
    "fields",
    [{}, {"reqMsg": ""}, {"reqMsg": "Hi", "handleResult": 0}, {"fromUserID": "user123"}],
)
def test_anything_else_is_an_application(fields: dict[str, object]) -> None:
    assert event_type(APPLY, fields) is AfterAddFriend


def test_no_other_event_depends_on_its_fields() -> None:
    types = [event_type(event.command, {"handleMsg": "x"}) for event in EVENTS]
    expected = [AfterAddFriendAgree if event is AfterAddFriend else event for event in EVENTS]
    assert types == expected


@pytest.mark.parametrize("event", EVENTS)
def test_a_recorded_body_is_of_its_class(event: type[Event]) -> None:
    assert event_type(event.command, fields_of(sample(event.command))) is event


@pytest.mark.parametrize("command", ["", "callbackAfterAddEnemyCommand", "AfterAddFriend"])
def test_an_unknown_command_is_no_event(command: str) -> None:
    assert event_type(command, {}) is None


@pytest.mark.parametrize(
    ("command", "event", "partition", "key"),
    [
        (AGREE, AfterAddFriendAgree, 7, "friend.after.add_friend_agree.p07"),
        (APPLY, AfterAddFriendAgree, 15, "friend.after.add_friend_agree.p15"),
        ("callbackNewCommand", None, 3, "unknown.callbackNewCommand.p03"),
        ("callbackNewCommand", None, 127, "unknown.callbackNewCommand.p127"),
    ],
)
def test_the_routing_key_ends_in_the_partition(
    command: str, event: type[Event] | None, partition: int, key: str
) -> None:
    assert routing_key(command, event, partition) == key


def test_a_malformed_body_has_a_routing_key_of_its_own() -> None:
    assert MALFORMED == "malformed"
