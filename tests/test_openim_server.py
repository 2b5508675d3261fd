"""OpenIM's server as we play it, beside what was seen of the real one."""

import pytest

from bridge import openim
from tests.openim_server import (
    ArgsError,
    DataError,
    Fields,
    Panic,
    Refused,
    about_to,
    goes_on_with,
)

MODIFY = "callbackBeforeMsgModifyCommand"
SET = "callbackBeforeSetGroupInfoCommand"
SET_PARTS = "callbackBeforeSetGroupInfoExCommand"
REMARK = "callbackBeforeSetFriendRemarkCommand"
JOIN = "callbackBeforeMembersJoinGroupCommand"
PROFILE = "callbackBeforeUpdateUserInfoExCommand"
REGISTER = "callbackBeforeUserRegisterCommand"


def after(command: str, reply: bytes, **unsaid: object) -> Fields:
    """Give what OpenIM does after a reply to the recorded callback."""
    _, body = openim.sample(command)
    return goes_on_with(command, about_to(command, body, **unsaid), reply)


@pytest.mark.parametrize(
    "reply",
    [
        b"{}",
        b"null",
        b'{"actionCode":1,"nextCode":1}',
        b'{"actionCode":0,"nextCode":2}',
        b'{"errCode":20001}',
        b'{"unknown":{"nextCode":1}}',
        b'{"remark":""}',
        b'{"remark":null}',
        b'{"nextCode":1,"nextCode":0}',
    ],
)
def test_it_goes_on(reply: bytes) -> None:
    assert after(REMARK, reply)["remark"] == "Bob from work"


@pytest.mark.parametrize(
    "reply", [b'{"nextCode":1,"errCode":20001}', b'{"NEXTCODE":1,"errcode":20001}']
)
def test_it_stops_at_a_refusal(reply: bytes) -> None:
    with pytest.raises(Refused) as caught:
        after(REMARK, reply)
    assert caught.value.args == (20001, "", "")


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"ok",
        b"[]",
        b'\xef\xbb\xbf{"nextCode":0}',
        b"{} x",
        b'{"nextCode":"1"}',
        b'{"nextCode":1.0}',
        b'{"nextCode":true}',
        b'{"nextCode":NaN}',
        b'{"errCode":2147483648}',
        b'{"remark":7}',
    ],
)
def test_it_fails_over_what_is_no_reply(reply: bytes) -> None:
    with pytest.raises(DataError):
        after(REMARK, reply)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (MODIFY, b'{"options":{"history":1}}'),
        (MODIFY, b'{"options":[]}'),
        (MODIFY, b'{"atUserIDList":"user_b"}'),
        (MODIFY, b'{"offlinePushInfo":[]}'),
        (MODIFY, b'{"msgDataList":"%"}'),
        (JOIN, b'{"memberCallbackList":{}}'),
        (SET_PARTS, b'{"groupName":{"value":"Hikers"}}'),
    ],
)
def test_it_fails_over_what_its_structures_have_no_room_for(command: str, reply: bytes) -> None:
    with pytest.raises(DataError):
        after(command, reply)


def test_a_plain_allow_blanks_what_it_sets_of_a_group() -> None:
    blanked = dict.fromkeys(("groupID", "groupName", "introduction", "faceURL"), "")
    assert after(SET, b"{}").items() >= blanked.items()
    parts = after(SET_PARTS, b"{}")
    assert (parts["groupID"], parts["groupName"], parts["needVerification"]) == ("", None, None)


@pytest.mark.parametrize(
    ("command", "reply"),
    [
        (JOIN, b'{"memberCallbackList":[{"nickname":"C."}]}'),
        (JOIN, b'{"memberCallbackList":[null]}'),
        (MODIFY, b'{"offlinePushInfo":{"title":"x"}}'),
        (PROFILE, b'{"faceURL":"x"}'),
        (PROFILE, b'{"ex":"x"}'),
        (REGISTER, b'{"users":[null]}'),
    ],
)
def test_it_panics_over_what_is_not_there(command: str, reply: bytes) -> None:
    with pytest.raises(Panic):
        after(command, reply)


def test_it_replaces_push_texts_that_are_there() -> None:
    reply = b'{"offlinePushInfo":{"title":"x","Desc":"y"}}'
    message = after(MODIFY, reply, offlinePushInfo={"title": "a"})
    assert message["offlinePushInfo"].items() >= {"title": "x", "desc": "y"}.items()


def test_it_ignores_members_that_it_does_not_know() -> None:
    reply = b'{"memberCallbackList":[{"userID":"user_z","ex":"x"}]}'
    assert after(JOIN, reply) == after(JOIN, b"{}")


@pytest.mark.parametrize("content", [b"hello", b"", b"NaN"])
def test_it_fails_over_content_that_is_no_json(content: bytes) -> None:
    with pytest.raises(ArgsError):
        after(MODIFY, b'{"content":"%s"}' % content)
