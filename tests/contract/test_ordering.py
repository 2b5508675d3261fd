"""Ordering keys and partitions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import (
    COMMANDS,
    EVENTS,
    AfterMsgSaveDB,
    AfterSendGroupMsg,
    AfterSendSingleMsg,
    AfterUserRegister,
    BeforeCreateGroup,
    BeforeOfflinePush,
    BeforeOnlinePush,
    Event,
    fields_of,
    partition,
)
from tests.contract.recorded import EXPECTED, sample

texts = st.sampled_from(["", "a", "b", "a,b", "\x00", "用户"])
names = st.sampled_from(
    [
        *("sendID", "recvID", "groupID", "userID", "conversationID", "conversationId"),
        *("fromUserID", "toUserID", "blackUserID", "ownerUserID", "friendUserID"),
        *("users", "initMemberList", "roleLevel", "userIDList", "sessionType"),
    ]
)
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner) | st.dictionaries(names | texts, inner),
    max_leaves=5,
)


@pytest.mark.parametrize("event", EVENTS)
def test_the_recorded_body_has_the_ordering_key(event: type[Event]) -> None:
    assert event.ordering_key(fields_of(sample(event.command))) == EXPECTED[event.command][1]


@given(st.sampled_from(EVENTS), st.dictionaries(names, values))
def test_an_ordering_key_is_text_whatever_the_body_says(
    event: type[Event], fields: dict[str, object]
) -> None:
    assert isinstance(event.ordering_key(fields), str)


@pytest.mark.parametrize("event", EVENTS)
def test_a_body_that_says_nothing_has_no_ordering_key(event: type[Event]) -> None:
    assert event.ordering_key({}) == ""


@pytest.mark.parametrize(("sender", "receiver"), [("user_a", "user_b"), ("user_b", "user_a")])
def test_a_dialogue_has_one_key_for_both_directions(sender: str, receiver: str) -> None:
    fields = {"sendID": sender, "recvID": receiver, "sessionType": 1}
    assert AfterSendSingleMsg.ordering_key(fields) == "si_user_a_user_b"


def test_a_notification_session_is_a_conversation_of_its_own() -> None:
    fields = {"sendID": "system", "recvID": "user_a", "sessionType": 4}
    assert AfterMsgSaveDB.ordering_key(fields) == "sn_system_user_a"


def test_a_stored_group_message_belongs_to_its_group() -> None:
    fields = {"sendID": "user_a", "recvID": "", "groupID": "g1", "sessionType": 3}
    assert AfterMsgSaveDB.ordering_key(fields) == "sg_g1"


def test_a_stored_message_with_a_receiver_belongs_to_the_dialogue() -> None:
    fields = {"sendID": "user_a", "recvID": "user_b", "groupID": "g1", "sessionType": 1}
    assert AfterMsgSaveDB.ordering_key(fields) == "si_user_a_user_b"


def test_a_group_message_belongs_to_its_group_even_with_a_receiver() -> None:
    fields = {"sendID": "user_a", "recvID": "user_b", "groupID": "g1"}
    assert AfterSendGroupMsg.ordering_key(fields) == "sg_g1"


@pytest.mark.parametrize(
    "fields",
    [
        {"sendID": "user_a"},
        {"sendID": "user_a", "recvID": ""},
        {"sendID": "user_a", "recvID": None},
        {"sendID": "user_a", "recvID": 7},
        {"sendID": ["user_a"], "recvID": "user_b"},
    ],
)
def test_half_a_dialogue_has_no_key(fields: dict[str, object]) -> None:
    assert AfterSendSingleMsg.ordering_key(fields) == ""


def test_an_offline_push_in_a_group_belongs_to_the_group() -> None:
    fields = {"sendID": "user_a", "groupID": "g1", "userIDList": ["user_b"]}
    assert BeforeOfflinePush.ordering_key(fields) == "sg_g1"


def test_a_push_belongs_to_its_sender_and_the_sorted_receivers() -> None:
    fields = {"sendID": "user_z", "userIDList": ["user_b", None, "user_a"]}
    assert BeforeOnlinePush.ordering_key(fields) == "user_z,user_a,user_b"


@pytest.mark.parametrize(
    "fields",
    [
        {"sendID": "user_a", "userIDList": None},
        {"sendID": "user_a", "userIDList": "user_b"},
        {"sendID": "", "userIDList": ["user_b"]},
    ],
)
def test_a_push_from_or_to_nobody_has_no_key(fields: dict[str, object]) -> None:
    assert BeforeOnlinePush.ordering_key(fields) == ""


def test_a_group_that_has_an_id_already_belongs_to_it() -> None:
    fields = {"groupID": "g1", "initMemberList": [{"userID": "user_a", "roleLevel": 100}]}
    assert BeforeCreateGroup.ordering_key(fields) == "g1"


def test_a_group_without_an_id_belongs_to_its_owner() -> None:
    members = [
        None,
        {"userID": "user_b", "roleLevel": 60},
        {"userID": "user_a", "roleLevel": 100},
    ]
    assert (
        BeforeCreateGroup.ordering_key({"groupID": "", "initMemberList": members}) == "user_a"
    )


def test_a_registration_belongs_to_its_first_user() -> None:
    users = [None, "user_z", {"userID": ""}, {"userID": "user_b"}, {"userID": "user_a"}]
    assert AfterUserRegister.ordering_key({"users": users}) == "user_b"


BETWEEN_A_AND_B = [
    ("BeforeAddFriend", {"fromUserID": "a", "toUserID": "b"}),
    ("AfterAddFriend", {"fromUserID": "b", "toUserID": "a"}),
    ("AfterAddFriend", {"fromUserID": "a", "blackUserID": "b"}),
    ("BeforeAddFriendAgree", {"fromUserID": "a", "blackUserID": "b"}),
    ("BeforeAddFriendAgree", {"fromUserID": "a", "toUserID": "b"}),
    ("AfterAddFriendAgree", {"fromUserID": "b", "blackUserID": "a"}),
    ("AfterAddFriendAgree", {"fromUserID": "b", "toUserID": "a"}),
    ("AfterDeleteFriend", {"ownerUserID": "b", "friendUserID": "a"}),
    ("BeforeSetFriendRemark", {"ownerUserID": "a", "friendUserID": "b"}),
    ("AfterSetFriendRemark", {"ownerUserID": "b", "friendUserID": "a"}),
    ("BeforeAddBlack", {"ownerUserID": "b", "blackUserID": "a"}),
    ("AfterRemoveBlack", {"ownerUserID": "a", "blackUserID": "b"}),
]


@pytest.mark.parametrize(("event", "fields"), BETWEEN_A_AND_B)
def test_whatever_happens_between_two_users_has_one_key(
    event: str, fields: dict[str, object]
) -> None:
    assert COMMANDS[f"callback{event}Command"].ordering_key(fields) == "a,b"


@pytest.mark.parametrize(
    ("key", "number"),
    [("", 0), ("a,b", 15), ("si_user_a_user_b", 4), ("sg_3012345678", 2), ("用户", 13)],
)
def test_a_partition_never_changes(key: str, number: int) -> None:
    assert partition(key, 16) == number


@given(texts, st.integers(min_value=1, max_value=1000))
def test_a_partition_is_one_of_those_there_are(key: str, count: int) -> None:
    assert partition(key, count) in range(count)
