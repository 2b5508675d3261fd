"""What we answer OpenIM, and what cannot be answered."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.contract import (
    ALLOW,
    CHANGES,
    EVENTS,
    Allow,
    Allowed,
    BadReply,
    Before,
    BeforeMsgModify,
    BeforeSetGroupInfo,
    BeforeSetGroupInfoEx,
    BeforeUpdateUserInfo,
    BeforeUpdateUserInfoEx,
    Change,
    ChangeCreateGroup,
    ChangedMember,
    ChangeGroupOnlinePush,
    ChangeImportFriends,
    ChangeMembersJoinGroup,
    ChangeMsgModify,
    ChangeOfflinePush,
    ChangeSetFriendRemark,
    ChangeSetGroupInfo,
    ChangeSetGroupInfoEx,
    ChangeUpdateUserInfo,
    ChangeUpdateUserInfoEx,
    ChangeUserRegister,
    Event,
    PushTexts,
    Refuse,
    RegisteredUser,
    Reply,
    answer,
    fields_of,
    judge,
    problem,
)
from bridge.contract.replies import Checked
from tests.changes import CHANGED, changed
from tests.contract.recorded import sample
from tests.openim_server import Fields, Refused, about_to, goes_on_with

PLAIN = {"actionCode": 0, "errCode": 0, "errMsg": "", "errDlt": "", "nextCode": 0}
ASKS = [event for event in EVENTS if issubclass(event, Before)]
ECHOING: list[type[Event]] = [BeforeSetGroupInfo, BeforeSetGroupInfoEx]


def answered(event: type[Event], reply: Reply, **fields: object) -> bytes:
    """Answer a recorded body with some fields replaced."""
    return answer(reply, event, fields_of(sample(event.command)) | fields)


def echoed(event: type[Event], **fields: object) -> dict[str, Any]:
    """Give what an allow has beside what all have."""
    reply = orjson.loads(answered(event, Allow(), **fields))
    return {name: value for name, value in reply.items() if name not in PLAIN}


def held(event: type[Event]) -> Fields:
    """Give what OpenIM is about to do at the recorded callback."""
    return about_to(event.command, sample(event.command))


def test_an_allow_is_all_zeros() -> None:
    assert ALLOW == b'{"actionCode":0,"errCode":0,"errMsg":"","errDlt":"","nextCode":0}'


@pytest.mark.parametrize("event", [None, *(e for e in EVENTS if e not in ECHOING)])
def test_most_callbacks_are_allowed_alike(event: type[Event] | None) -> None:
    fields: dict[str, object] = {"groupID": "g1", "groupName": "Hikers"}
    assert answer(Allow(), event, fields) == ALLOW


def test_setting_group_info_is_allowed_with_its_four_fields() -> None:
    assert echoed(BeforeSetGroupInfo) == {
        "groupID": "3012345678",
        "groupName": "Hikers",
        "introduction": "trail talk",
        "faceURL": "https://cdn.example.com/g.png",
    }


def test_setting_parts_of_group_info_is_allowed_with_its_eight_fields_and_nulls() -> None:
    assert echoed(BeforeSetGroupInfoEx) == {
        "groupID": "3012345678",
        "groupName": "Hikers",
        "introduction": None,
        "faceURL": None,
        "ex": None,
        "needVerification": 1,
        "lookMemberInfo": None,
        "applyMemberFriend": None,
    }


@pytest.mark.parametrize("event", ECHOING)
def test_an_echoing_allow_begins_like_any_other(event: type[Event]) -> None:
    assert answered(event, Allow()).startswith(ALLOW.removesuffix(b"}"))


def test_a_field_that_is_missing_is_not_echoed() -> None:
    assert answer(Allow(), BeforeSetGroupInfo, {}) == ALLOW


@pytest.mark.parametrize(
    ("event", "name", "value"),
    [
        (BeforeSetGroupInfo, "groupID", 7),
        (BeforeSetGroupInfo, "groupName", None),
        (BeforeSetGroupInfoEx, "groupName", ["Hikers"]),
        (BeforeSetGroupInfoEx, "needVerification", "1"),
        (BeforeSetGroupInfoEx, "needVerification", 1.5),
        (BeforeSetGroupInfoEx, "needVerification", True),
        (BeforeSetGroupInfoEx, "lookMemberInfo", 2**31),
    ],
)
def test_a_field_that_openim_could_not_decode_is_not_echoed(
    event: type[Event], name: str, value: object
) -> None:
    assert name not in echoed(event, **{name: value})


@given(
    st.sampled_from([*EVENTS, None]),
    st.dictionaries(
        st.sampled_from(BeforeSetGroupInfoEx.echoed),
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats()
        | st.text()
        | st.lists(st.text()),
    ),
)
def test_an_allow_is_allowed_whatever_the_body_says(
    event: type[Event] | None, fields: dict[str, object]
) -> None:
    assert judge(answer(Allow(), event, fields)) == Allowed()


@pytest.mark.parametrize("event", ASKS)
def test_openim_goes_on_as_it_was_about_to_when_allowed(event: type[Event]) -> None:
    before = held(event)
    assert goes_on_with(event.command, before, answered(event, Allow())) == before


@pytest.mark.parametrize("event", ASKS)
def test_openim_stops_when_refused_and_passes_code_and_texts_on(event: type[Event]) -> None:
    reply = answered(event, Refuse(20001, "not \U0001f600 here", 'line\n"2"'))
    with pytest.raises(Refused) as caught:
        goes_on_with(event.command, held(event), reply)
    assert caught.value.args == (20001, "not \U0001f600 here", 'line\n"2"')


@pytest.mark.parametrize(("change", "done"), CHANGED)
def test_openim_goes_on_with_what_was_changed_and_else_as_it_was_about_to(
    change: Change[Any], done: Fields
) -> None:
    event = change.answers
    before = held(event)
    after = goes_on_with(event.command, before, answered(event, change))
    assert after == before | done
    assert after != before


def test_every_field_that_can_be_changed_is_tried() -> None:
    fields = {
        (change, name) for change in CHANGES.values() for name in change.__struct_fields__
    }
    tried = {(type(change), name) for change, _ in CHANGED for name in changed(change)}
    # The recorded update is of the nickname alone.
    assert fields - tried == {(ChangeUpdateUserInfoEx, "face_url")}


def test_any_part_of_an_update_of_a_profile_can_be_changed() -> None:
    change = ChangeUpdateUserInfoEx(face_url="z.png")
    event = change.answers
    body = b'{"userID":"user_a","nickName":null,"faceURL":"a.png","ex":null}'
    before = about_to(event.command, body)
    after = goes_on_with(event.command, before, answer(change, event, fields_of(body)))
    assert after == before | {"faceURL": "z.png"}


@pytest.mark.parametrize("change", CHANGES.values())
def test_a_change_without_fields_is_an_allow(change: type[Change[Any]]) -> None:
    assert answered(change.answers, change()) == answered(change.answers, Allow())


def test_none_takes_a_part_out_of_an_update_of_a_group() -> None:
    event = BeforeSetGroupInfoEx
    reply = answered(event, ChangeSetGroupInfoEx(group_name=None))
    assert goes_on_with(event.command, held(event), reply) == held(event) | {"groupName": None}


def test_only_one_member_of_several_is_changed() -> None:
    change = ChangeMembersJoinGroup(member_callback_list=[ChangedMember(user_id="b", ex="x")])
    event = change.answers
    body = b'{"groupID":"g","memberList":[{"userID":"a","ex":""},{"userID":"b","ex":""}]}'
    before = about_to(event.command, body)
    after = goes_on_with(event.command, before, answer(change, event, fields_of(body)))
    assert [each["ex"] for each in after["members"].values()] == ["", "x"]


@pytest.mark.parametrize(
    ("kind", "values", "why"),
    [
        (
            Refuse,
            {"code": 20000, "message": "no"},
            "Refuse.code is not allowed: Expected `int` >= 20001",
        ),
        (
            Refuse,
            {"code": 30000, "message": "no"},
            "Refuse.code is not allowed: Expected `int` <= 29999",
        ),
        (Refuse, {"code": 20001.0, "message": "no"}, "Refuse.code is not allowed"),
        (Refuse, {"code": True, "message": "no"}, "Refuse.code is not allowed"),
        (Refuse, {"code": "20001", "message": "no"}, "Refuse.code is not allowed"),
        (Refuse, {"code": 20001, "message": None}, "Refuse.message is not allowed"),
        (Refuse, {"code": 20001, "message": "x" * 1001}, "Refuse.message is not allowed"),
        (Refuse, {"code": 20001, "message": "no", "detail": 7}, "Refuse.detail is not allowed"),
        (Refuse, {"code": 20001, "message": "\ud800"}, "Refuse.message is not allowed"),
        (ChangeMsgModify, {"content": "hello"}, "content is not JSON"),
        (ChangeMsgModify, {"content": ""}, "content is not JSON"),
        (ChangeMsgModify, {"content": '{"a":NaN}'}, "content is not JSON"),
        (ChangeMsgModify, {"content": b"{}"}, "content is not allowed: got `bytes`"),
        (ChangeMsgModify, {"content": None}, "content is not allowed"),
        (ChangeMsgModify, {"status": 2**31}, "status is not allowed"),
        (ChangeMsgModify, {"status": 1.0}, "status is not allowed"),
        (ChangeMsgModify, {"options": {"history": 1}}, "options is not allowed"),
        (ChangeMsgModify, {"at_user_id_list": ("a",)}, "at_user_id_list is not allowed"),
        (ChangeMsgModify, {"ex": object()}, "ex is not allowed"),
        (ChangeMsgModify, {"recv_id": ""}, "recv_id is not allowed"),
        (ChangeSetGroupInfo, {"group_id": ""}, "group_id is not allowed"),
        (ChangeSetGroupInfo, {"group_name": None}, "group_name is not allowed"),
        (ChangeSetGroupInfoEx, {"group_id": None}, "group_id is not allowed"),
        (ChangeCreateGroup, {"owner_user_id": ""}, "owner_user_id is not allowed"),
        (ChangeSetFriendRemark, {"remark": ""}, "remark is not allowed"),
        (ChangeImportFriends, {"friend_user_ids": []}, "friend_user_ids is not allowed"),
        (ChangeOfflinePush, {"user_id_list": []}, "user_id_list is not allowed"),
        (ChangeGroupOnlinePush, {"user_id_list": [""]}, "user_id_list is not allowed"),
        (PushTexts, {"ios_badge_count": 1}, "PushTexts.ios_badge_count is not allowed"),
        (ChangeUserRegister, {"users": []}, "users is not allowed"),
        (ChangeUserRegister, {"users": [None]}, "users is not allowed"),
        (ChangeUserRegister, {"users": [{"userID": "a"}]}, "users is not allowed"),
        (ChangeUserRegister, {"users": [RegisteredUser()]}, "a user without user_id"),
        (ChangedMember, {"user_id": ""}, "ChangedMember.user_id is not allowed"),
        (
            ChangeMembersJoinGroup,
            {"member_callback_list": [None]},
            "member_callback_list is not allowed",
        ),
    ],
)
def test_a_reply_that_openim_could_not_take_cannot_be_built(
    kind: type[Checked], values: dict[str, Any], why: str
) -> None:
    with pytest.raises(BadReply, match=why):
        kind(**values)


def test_a_member_without_an_id_cannot_be_named() -> None:
    with pytest.raises(TypeError, match="user_id"):
        ChangedMember(nickname="Carol")  # type: ignore[call-arg]


def test_what_openim_panics_over_or_ignores_has_no_field() -> None:
    with pytest.raises(TypeError, match="offline_push_info"):
        ChangeMsgModify(offline_push_info=PushTexts())  # type: ignore[call-arg]


@pytest.mark.parametrize(
    "change", [ChangeUpdateUserInfoEx(nickname="x"), ChangeUpdateUserInfoEx(face_url="x")]
)
def test_what_is_no_part_of_an_update_cannot_be_changed(change: Change[Any]) -> None:
    with pytest.raises(BadReply, match="is no part of this update"):
        answer(change, BeforeUpdateUserInfoEx, {"nickName": None})


@pytest.mark.parametrize("event", [BeforeUpdateUserInfoEx, BeforeMsgModify, None])
def test_a_change_answers_its_own_callback_only(event: type[Event] | None) -> None:
    with pytest.raises(BadReply, match="ChangeUpdateUserInfo is no answer to "):
        answer(ChangeUpdateUserInfo(ex="x"), event, {})


def test_a_reply_larger_than_openim_should_read_is_not_sent() -> None:
    with pytest.raises(BadReply, match="may have 1,048,576 bytes, not 1,048,9"):
        answer(ChangeUpdateUserInfo(ex="x" * 2**20 + "y" * 300), BeforeUpdateUserInfo, {})


def test_a_problem_is_reported_and_the_operation_goes_on() -> None:
    reply = problem(20001, "disk full", "quota of 1 GiB")
    assert orjson.loads(reply) == {
        "actionCode": 1,
        "errCode": 20001,
        "errMsg": "disk full",
        "errDlt": "quota of 1 GiB",
        "nextCode": 0,
    }
    assert judge(reply) == Allowed()


def test_a_problem_needs_no_detail() -> None:
    assert orjson.loads(problem(20001, "disk full"))["errDlt"] == ""
