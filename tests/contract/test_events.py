"""The classes against the recorded bodies and OpenIM's names."""

from typing import Any

import msgspec
import orjson
import pytest

from bridge.contract import (
    COMMANDS,
    EVENTS,
    After,
    AfterCreateGroup,
    AfterDisMissGroup,
    AfterGroupMsgRead,
    AfterMsgSaveDB,
    AfterRevokeMsg,
    AfterSendGroupMsg,
    AfterSendMsg,
    AfterSendSingleMsg,
    AfterSetGroupInfoEx,
    AfterSingleMsgRead,
    AfterUserRegister,
    Before,
    BeforeCreateGroup,
    BeforeJoinGroup,
    BeforeMembersJoinGroup,
    BeforeMsgModify,
    BeforeOfflinePush,
    Event,
    FriendEvent,
    InitialMember,
    JoiningMember,
    MalformedCallback,
    Message,
    RegisteredUser,
    decode,
)
from bridge.contract.event import wire_name
from tests.contract.recorded import EXPECTED, SAMPLES, sample

ENTERPRISE = {
    "owner_user_id": "user_a",
    "conversation_id": "si_user_a_user_b",
    "conversation_type": 1,
    "user_id": "user_b",
    "group_id": "3012345678",
    "recv_msg_opt": 2,
    "is_pinned": True,
    "is_marked": True,
    "is_private_chat": True,
    "burn_duration": 30,
    "group_at_type": 3,
    "attached_info": "attached",
    "ex": "extra",
}


def changed(event: type[Event], **fields: object) -> bytes:
    """Give the recorded body of an event with some of its fields replaced."""
    return orjson.dumps(orjson.loads(sample(event.command)) | fields)


def without(event: type[Event], name: str) -> bytes:
    """Give the recorded body of an event without one of its fields."""
    fields = orjson.loads(sample(event.command))
    del fields[name]
    return orjson.dumps(fields)


def read(event: type[Event], body: bytes) -> Any:  # noqa: ANN401 - any event's fields
    """Decode a body as the event it is for."""
    return decode(event.command, body)


def test_there_are_52_commands_and_a_sample_of_each() -> None:
    assert [event.command for event in EVENTS] == list(EXPECTED)
    assert len(EXPECTED) == 52
    assert {file.stem for file in SAMPLES.iterdir()} == set(EXPECTED)


@pytest.mark.parametrize("event", EVENTS)
def test_every_field_of_a_recorded_body_is_in_the_event(event: type[Event]) -> None:
    recorded = orjson.loads(sample(event.command))
    decoded = decode(event.command, sample(event.command))
    said = {
        name: value
        for name, value in msgspec.to_builtins(decoded).items()
        if name in recorded or value is not None
    }
    assert type(decoded) is event
    assert {**said, "callbackCommand": event.command} == recorded


@pytest.mark.parametrize(
    ("attribute", "spelling"),
    [
        ("ex", "ex"),
        ("server_msg_id", "serverMsgID"),
        ("face_url", "faceURL"),
        ("user_id_list", "userIDList"),
        ("kicked_user_ids", "kickedUserIDs"),
        ("is_app_background", "isAppBackground"),
    ],
)
def test_fields_are_spelled_as_in_go(attribute: str, spelling: str) -> None:
    assert wire_name(attribute) == spelling


@pytest.mark.parametrize("event", EVENTS)
def test_the_routing_key_follows_from_the_class(event: type[Event]) -> None:
    assert event.routing_key == EXPECTED[event.command][0]


@pytest.mark.parametrize("event", EVENTS)
def test_the_phase_is_a_base_class(event: type[Event]) -> None:
    assert issubclass(event, {"before": Before, "after": After}[event.phase])


@pytest.mark.parametrize("base", [Event, Before, After, Message, AfterSendMsg, FriendEvent])
def test_a_base_class_has_no_command_and_no_address(base: type[Event]) -> None:
    assert (base.command, base.name, base.routing_key) == ("", "", "")


def test_a_base_class_gathers_the_accepted_messages() -> None:
    accepted = {event.__name__ for event in EVENTS if issubclass(event, AfterSendMsg)}
    assert accepted == {"AfterSendSingleMsg", "AfterSendGroupMsg"}


@pytest.mark.parametrize("event", EVENTS)
def test_a_callback_says_in_a_sentence_what_happened(event: type[Event]) -> None:
    sentence = (vars(event)["__doc__"] or "").split("\n")[0]
    assert sentence.endswith(".")


def test_a_revoked_message_is_after_in_spite_of_its_command() -> None:
    assert COMMANDS["callbackBeforeAfterMsgCommand"] is AfterRevokeMsg
    assert AfterRevokeMsg.routing_key == "message.after.revoke_msg"
    assert "callbackAfterRevokeMsgCommand" not in COMMANDS


@pytest.mark.parametrize(
    ("old", "command"),
    [
        ("callbackGroupMsgReadCommand", "callbackAfterGroupMsgReadCommand"),
        ("callbackSingleMsgRead", "callbackAfterSingleMsgReadCommand"),
        ("callbackMsgModifyCommand", "callbackBeforeMsgModifyCommand"),
        ("callbackUserKickOffCommand", "callbackAfterUserKickOffCommand"),
        ("callbackUserOfflineCommand", "callbackAfterUserOfflineCommand"),
        ("callbackUserOnlineCommand", "callbackAfterUserOnlineCommand"),
        ("callbackSuperGroupOnlinePushCommand", "callbackBeforeGroupOnlinePushCommand"),
        ("callbackOfflinePushCommand", "callbackBeforeOfflinePushCommand"),
        ("callbackOnlinePushCommand", "callbackBeforeOnlinePushCommand"),
        ("callbackAfterSetFriendRemark", "callbackAfterSetFriendRemarkCommand"),
        ("callbackBeforeSetFriendRemark", "callbackBeforeSetFriendRemarkCommand"),
        ("callbackDisMissGroupCommand", "callbackAfterDisMissGroupCommand"),
        ("callbackKillGroupCommand", "callbackAfterKickGroupCommand"),
        ("callbackQuitGroupCommand", "callbackAfterQuitGroupCommand"),
        ("callbackTransferGroupOwnerAfter", "callbackAfterTransferGroupOwnerCommand"),
        ("callbackAfterTransferGroupOwner", "callbackAfterTransferGroupOwnerCommand"),
        ("callbackBeforeMemberJoinGroupCommand", "callbackBeforeMembersJoinGroupCommand"),
    ],
)
def test_a_command_from_before_3_7_is_the_event_it_became(old: str, command: str) -> None:
    assert decode(old, sample(command)) == decode(command, sample(command))


def test_no_two_callbacks_share_a_command_old_or_new() -> None:
    assert len(COMMANDS) == 52 + 17


@pytest.mark.parametrize("number", [-(2**31), 2**31 - 1])
def test_an_int32_is_read_to_its_limits(number: int) -> None:
    assert read(AfterSendSingleMsg, changed(AfterSendSingleMsg, status=number)).status == number


@pytest.mark.parametrize("number", [-(2**63), 2**53 + 1, 2**63 - 1])
def test_an_int64_is_read_exactly_to_its_limits(number: int) -> None:
    event = read(AfterGroupMsgRead, changed(AfterGroupMsgRead, unreadMsgNum=number))
    assert event.unread_msg_num == number


@pytest.mark.parametrize("number", [0, 2**32 - 1])
def test_a_uint32_is_read_to_its_limits(number: int) -> None:
    assert read(AfterMsgSaveDB, changed(AfterMsgSaveDB, seq=number)).seq == number


@pytest.mark.parametrize(
    ("event", "name", "number"),
    [
        (AfterSendSingleMsg, "status", -(2**31) - 1),
        (AfterSendSingleMsg, "status", 2**31),
        (AfterGroupMsgRead, "unreadMsgNum", -(2**63) - 1),
        (AfterGroupMsgRead, "unreadMsgNum", 2**63),
        (AfterMsgSaveDB, "seq", -1),
        (AfterMsgSaveDB, "seq", 2**32),
    ],
)
def test_a_number_beyond_its_go_type_is_malformed(
    event: type[Event], name: str, number: int
) -> None:
    recorded = orjson.loads(sample(event.command))
    with pytest.raises(MalformedCallback, match=rf" at `\$\.{name}`$"):
        decode(event.command, msgspec.json.encode(recorded | {name: number}))


@pytest.mark.parametrize(
    ("event", "wire", "attribute"),
    [
        (AfterSendSingleMsg, "atUserList", "at_user_list"),
        (AfterSingleMsgRead, "Seqs", "seqs"),
        (BeforeOfflinePush, "userIDList", "user_id_list"),
        (AfterDisMissGroup, "membersID", "member_ids"),
        (AfterUserRegister, "users", "users"),
        (BeforeMembersJoinGroup, "memberList", "member_list"),
        (AfterSetGroupInfoEx, "groupName", "group_name"),
    ],
)
def test_null_is_none(event: type[Event], wire: str, attribute: str) -> None:
    assert getattr(read(event, changed(event, **{wire: None})), attribute) is None


@pytest.mark.parametrize(
    ("event", "wire", "attribute", "entry"),
    [
        (AfterUserRegister, "users", "users", RegisteredUser(user_id="u")),
        (BeforeMembersJoinGroup, "memberList", "member_list", JoiningMember(user_id="u")),
        (BeforeCreateGroup, "initMemberList", "init_member_list", InitialMember(user_id="u")),
    ],
)
def test_an_entry_of_a_list_may_be_null(
    event: type[Event], wire: str, attribute: str, entry: object
) -> None:
    body = changed(event, **{wire: [None, {"userID": "u"}]})
    assert getattr(read(event, body), attribute) == [None, entry]


def test_push_texts_are_none_when_the_message_brought_none() -> None:
    assert read(BeforeOfflinePush, without(BeforeOfflinePush, "title")).title is None


@pytest.mark.parametrize("event", [BeforeJoinGroup, AfterDisMissGroup])
def test_a_group_type_may_be_a_control_character(event: type[Event]) -> None:
    assert read(event, sample(event.command)).group_type == "\x02"


def test_a_group_type_is_a_number_where_a_group_is_created() -> None:
    assert read(AfterCreateGroup, sample(AfterCreateGroup.command)).group_type == 2


def test_a_field_nobody_knows_is_ignored() -> None:
    body = changed(BeforeMsgModify, keyVersion=3, added={"since": ["v4"]})
    assert read(BeforeMsgModify, body) == read(BeforeMsgModify, sample(BeforeMsgModify.command))


@pytest.mark.parametrize(
    ("event", "missing"),
    [
        (AfterSendSingleMsg, "recvID"),
        (AfterSendGroupMsg, "groupID"),
        (AfterRevokeMsg, "conversationID"),
        (AfterDisMissGroup, "groupID"),
        (COMMANDS["callbackAfterUserOnlineCommand"], "userID"),
        (COMMANDS["callbackAfterAddFriendAgreeCommand"], "blackUserID"),
        (COMMANDS["callbackAfterRemoveBlackCommand"], "ownerUserID"),
        (COMMANDS["callbackAfterCreateSingleChatConversationsCommand"], "conversationId"),
    ],
)
def test_an_event_names_what_it_is_about(event: type[Event], missing: str) -> None:
    with pytest.raises(MalformedCallback, match=f"missing required field `{missing}`"):
        decode(event.command, without(event, missing))


def test_what_an_older_release_leaves_out_is_gos_zero_value() -> None:
    event = read(AfterSendSingleMsg, b'{"sendID":"user_a","recvID":"user_b"}')
    assert event == AfterSendSingleMsg(send_id="user_a", recv_id="user_b")
    assert (event.content, event.send_time, event.at_user_list) == ("", 0, None)


def test_a_group_that_is_not_created_yet_needs_no_id() -> None:
    assert read(BeforeCreateGroup, b"{}").group_id == ""


@pytest.mark.parametrize(
    "command",
    [
        "callbackBeforeCreateSingleChatConversationsCommand",
        "callbackAfterCreateSingleChatConversationsCommand",
        "callbackBeforeCreateGroupChatConversationsCommand",
        "callbackAfterCreateGroupChatConversationsCommand",
    ],
)
def test_conversations_are_read_in_snake_case_too(command: str) -> None:
    event = decode(command, orjson.dumps(ENTERPRISE))
    read = msgspec.structs.asdict(event)
    assert read == {name: ENTERPRISE[name] for name in read}
    assert event.ordering_key(ENTERPRISE) == "si_user_a_user_b"
