"""OpenIM's server behind its before callbacks: how it reads a reply, and what it goes on with.

Written from OpenIM's sources at commit 7848d7c7, not from `bridge.contract`: the structures of
pkg/callbackstruct, read as Go's encoding/json reads them, and internal/rpc/*/callback.go and
internal/push/callback.go, which take fields from them. A pointer that is nil is None.
"""

import base64
import copy
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeAlias

Fields: TypeAlias = dict[str, Any]


class DataError(Exception):
    """90007: the reply is not what its structure says."""


class Refused(Exception):
    """The reply refuses; arguments are code, message and detail."""


class ArgsError(Exception):
    """1001: the operation fails over what it was told."""


class Panic(Exception):
    """A nil pointer was followed; the operation fails."""


class Object(tuple[tuple[str, Any], ...]):
    """A JSON object: its pairs, doubles included."""

    __slots__ = ()


class Number(str):
    """A JSON number as it is spelled."""

    __slots__ = ()


@dataclass(frozen=True)
class Type:
    """A Go type: its zero value, and how a JSON value is stored in one that has a value."""

    zero: Any
    store: Callable[[Any, Any], Any]


def mismatch(value: object) -> NoReturn:
    raise DataError(f"cannot unmarshal {type(value).__name__}")


def scalar(kind: type, zero: object) -> Type:
    """Give a type whose values are those of one in Python; null leaves what there is."""

    def store(value: Any, old: Any) -> Any:  # noqa: ANN401  # any JSON
        if value is None:
            return old
        return value if type(value) is kind else mismatch(value)

    return Type(zero, store)


def integer(bits: int) -> Type:
    def store(value: Any, old: Any) -> Any:  # noqa: ANN401
        if value is None:
            return old
        if not isinstance(value, Number) or not re.fullmatch("-?[0-9]+", value):
            mismatch(value)
        inside = -(2 ** (bits - 1)) <= int(value) < 2 ** (bits - 1)
        return int(value) if inside else mismatch(value)

    return Type(0, store)


def pointer(to: Type) -> Type:
    def store(value: Any, old: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        return to.store(value, copy.deepcopy(to.zero) if old is None else old)

    return Type(None, store)


def slice_(of: Type) -> Type:
    def store(value: Any, _old: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        if type(value) is not list:
            mismatch(value)
        return [of.store(each, copy.deepcopy(of.zero)) for each in value]

    return Type(None, store)


def map_(of: Type) -> Type:
    def store(value: Any, old: Any) -> Any:  # noqa: ANN401
        if value is None:
            return None
        if not isinstance(value, Object):
            mismatch(value)
        return (old or {}) | {key: of.store(each, of.zero) for key, each in value}

    return Type(None, store)


def struct(**fields: Type) -> Type:
    """Give a structure; keys that differ from its fields' in letter case are theirs too."""
    named = {name.casefold(): name for name in fields}

    def store(value: Any, old: Any) -> Any:  # noqa: ANN401
        if value is None:
            return old
        if not isinstance(value, Object):
            mismatch(value)
        for key, each in value:
            name = key if key in fields else named.get(key.casefold())
            if name is not None:
                old[name] = fields[name].store(each, old[name])
        return old

    return Type({name: copy.deepcopy(each.zero) for name, each in fields.items()}, store)


def store_bytes(value: Any, old: Any) -> Any:  # noqa: ANN401
    """Store a []uint8, which is base64 in JSON."""
    text = STRING.store(value, "")
    return old if value is None else base64.b64decode(text, validate=True)


STRING, BOOL = scalar(str, ""), scalar(bool, False)  # noqa: FBT003
INT32, INT64 = integer(32), integer(64)
TEXT, NUMBER, FLAG = pointer(STRING), pointer(INT32), pointer(BOOL)
TEXTS = slice_(STRING)
PUSH_INFO = struct(
    title=STRING,
    desc=STRING,
    ex=STRING,
    iOSPushSound=STRING,
    iOSBadgeCount=BOOL,
    signalInfo=STRING,
)
USER = struct(
    userID=STRING,
    nickname=STRING,
    faceURL=STRING,
    ex=STRING,
    createTime=INT64,
    appMangerLevel=INT32,
    globalRecvMsgOpt=INT32,
)
MEMBER = struct(
    userID=TEXT,
    nickname=TEXT,
    faceURL=TEXT,
    roleLevel=NUMBER,
    muteEndTime=pointer(INT64),
    ex=TEXT,
)
PUSH = {"userIDList": TEXTS, "offlinePushInfo": pointer(PUSH_INFO)}
# wrapperspb's values are plain ones in JSON.
PROFILE = {"nickName": TEXT, "faceURL": TEXT, "ex": TEXT}
CONVERSATION = {
    "recvMsgOpt": NUMBER,
    "isPinned": FLAG,
    "isPrivateChat": FLAG,
    "burnDuration": NUMBER,
    "groupAtType": NUMBER,
    "attachedInfo": TEXT,
    "ex": TEXT,
}

RESPONSES: Mapping[str, Mapping[str, Type]] = {
    "BeforeSendSingleMsg": {},
    "BeforeSendGroupMsg": {},
    "BeforeMsgModify": {
        **dict.fromkeys(("content", "recvID", "groupID", "clientMsgID", "serverMsgID"), TEXT),
        **dict.fromkeys(("senderNickname", "senderFaceURL", "attachedInfo", "ex"), TEXT),
        **dict.fromkeys(("senderPlatformID", "sessionType", "msgFrom"), NUMBER),
        **dict.fromkeys(("contentType", "status"), NUMBER),
        "options": pointer(map_(BOOL)),
        "offlinePushInfo": pointer(PUSH_INFO),
        "atUserIDList": pointer(TEXTS),
        "msgDataList": pointer(Type(None, store_bytes)),
    },
    "BeforeOnlinePush": PUSH,
    "BeforeOfflinePush": PUSH,
    "BeforeGroupOnlinePush": PUSH,
    "BeforeAddFriend": {},
    "BeforeAddFriendAgree": {},
    "BeforeSetFriendRemark": {"remark": STRING},
    "BeforeImportFriends": {"friendUserIDs": TEXTS},
    "BeforeAddBlack": {},
    "BeforeUserRegister": {"users": slice_(pointer(USER))},
    "BeforeUpdateUserInfo": PROFILE,
    "BeforeUpdateUserInfoEx": PROFILE,
    "BeforeCreateGroup": {
        **dict.fromkeys(("groupID", "groupName", "notification", "introduction"), TEXT),
        **dict.fromkeys(("faceURL", "ownerUserID", "ex", "creatorUserID"), TEXT),
        **dict.fromkeys(("status", "groupType", "needVerification"), NUMBER),
        **dict.fromkeys(("lookMemberInfo", "applyMemberFriend"), NUMBER),
    },
    "BeforeMembersJoinGroup": {"memberCallbackList": slice_(pointer(MEMBER))},
    "BeforeInviteJoinGroup": {"refusedMembersAccount": TEXTS},
    "BeforeJoinGroup": {},
    "BeforeSetGroupInfo": {
        **dict.fromkeys(("groupID", "groupName", "notification"), STRING),
        **dict.fromkeys(("introduction", "faceURL"), STRING),
        "ex": TEXT,
        **dict.fromkeys(("needVerification", "lookMemberInfo", "applyMemberFriend"), NUMBER),
    },
    "BeforeSetGroupInfoEx": {
        "groupID": STRING,
        **dict.fromkeys(("groupName", "notification", "introduction"), TEXT),
        **dict.fromkeys(("faceURL", "ex"), TEXT),
        **dict.fromkeys(("needVerification", "lookMemberInfo", "applyMemberFriend"), NUMBER),
    },
    "BeforeSetGroupMemberInfo": {
        **dict.fromkeys(("nickName", "faceURL", "ex"), TEXT),
        "roleLevel": NUMBER,
    },
    "BeforeCreateSingleChatConversations": CONVERSATION,
    "BeforeCreateGroupChatConversations": CONVERSATION,
}
"""What the reply to each callback may hold, beside what all may."""


def short(command: str) -> str:
    """Give a command without its frame."""
    return command.removeprefix("callback").removesuffix("Command")


def read(command: str, reply: bytes) -> Fields:
    """Unmarshal a reply, whatever its HTTP status was."""
    response = struct(
        actionCode=INT32,
        errCode=INT32,
        errMsg=STRING,
        errDlt=STRING,
        nextCode=INT32,
        **RESPONSES[short(command)],
    )
    try:
        document = json.loads(
            reply.decode(errors="replace"),
            object_pairs_hook=Object,
            parse_int=Number,
            parse_float=Number,
            parse_constant=mismatch,
        )
        return dict(response.store(document, copy.deepcopy(response.zero)))
    except ValueError as error:
        raise DataError(str(error)) from error


def about_to(command: str, body: bytes, **unsaid: object) -> Fields:
    """Give what OpenIM is about to do when it asks.

    Args:
        command: The callback.
        body: Its body.
        unsaid: What OpenIM holds and does not say.

    """
    fields: Fields = json.loads(body)
    for name in ("callbackCommand", "operationID"):
        fields.pop(name, None)
    match short(command):
        case "BeforeMsgModify":
            fields["senderFaceURL"] = fields.pop("faceURL")
            fields["atUserIDList"] = fields.pop("atUserList")
            fields |= dict.fromkeys(("recvID", "groupID", "attachedInfo"), "")
            fields |= {"options": None, "offlinePushInfo": None}
        case "BeforeOfflinePush":
            texts = PUSH_INFO.zero
            fields["offlinePushInfo"] = {name: fields.pop(name) for name in texts}
        case "BeforeGroupOnlinePush":
            fields["userIDList"] = None
        case "BeforeMembersJoinGroup":
            blank = {"nickname": "", "faceURL": "", "roleLevel": 20, "muteEndTime": 0}
            fields["members"] = {each["userID"]: blank | each for each in fields["memberList"]}
        case _:
            pass
    return fields | unsaid


def goes_on_with(command: str, held: Fields, reply: bytes) -> Fields:
    """Give what OpenIM does in the end, if it does it.

    Args:
        command: The callback.
        held: What it was about to do.
        reply: The body of the answer.

    Raises:
        DataError: and the others above, when the operation fails for the user.

    """
    response = read(command, reply)
    # CommonCallbackResp.Parse, pkg/callbackstruct/common.go.
    if response["actionCode"] == 0 and response["nextCode"] == 1:
        raise Refused(response["errCode"], response["errMsg"], response["errDlt"])
    done = copy.deepcopy(held)
    APPLIES.get(short(command), ignore)(done, response)
    return done


def ignore(_done: Fields, _response: Fields) -> None:
    """Take nothing from a reply."""


def where_not_nil(*names: str) -> Callable[[Fields, Fields], None]:
    """Take these fields from a reply if it has them: datautil.NotNilReplace."""

    def apply(done: Fields, response: Fields) -> None:
        done |= {name: response[name] for name in names if response[name] is not None}

    return apply


def where_not_empty(name: str) -> Callable[[Fields, Fields], None]:
    def apply(done: Fields, response: Fields) -> None:
        if response[name]:
            done[name] = response[name]

    return apply


def through_pointers(done: Fields, response: Fields, *names: str) -> None:
    """Take fields from a reply into what is a pointer, which may be nil."""
    for name in names:
        if response[name] is not None:
            if done[name] is None:
                raise Panic(name)
            done[name] = response[name]


def modify_message(done: Fields, response: Fields) -> None:
    if response["content"] is not None:
        try:
            json.loads(response["content"], parse_constant=mismatch)
        except (ValueError, DataError) as error:
            raise ArgsError("content") from error
    through_pointers(done, response, "offlinePushInfo")
    taken = set(RESPONSES["BeforeMsgModify"]) - {"offlinePushInfo", "msgDataList"}
    where_not_nil(*taken)(done, response)


def push_offline(done: Fields, response: Fields) -> None:
    where_not_empty("userIDList")(done, response)
    where_not_nil("offlinePushInfo")(done, response)


def register(done: Fields, response: Fields) -> None:
    where_not_empty("users")(done, response)
    if None in done["users"]:
        raise Panic("users")


def join(done: Fields, response: Fields) -> None:
    for entry in response["memberCallbackList"] or []:
        if entry is None or entry["userID"] is None:
            raise Panic("memberCallbackList")
        member = done["members"].get(entry["userID"])
        if member is not None:
            where_not_nil("nickname", "faceURL", "roleLevel", "muteEndTime", "ex")(
                member, entry
            )


def set_group_info(done: Fields, response: Fields) -> None:
    for name in ("groupID", "groupName", "introduction", "faceURL"):
        done[name] = response[name]
    where_not_nil("ex", "needVerification", "lookMemberInfo", "applyMemberFriend")(
        done, response
    )


def set_group_info_ex(done: Fields, response: Fields) -> None:
    done |= {
        name: response[name]
        for name in RESPONSES["BeforeSetGroupInfoEx"]
        if name != "notification"
    }


APPLIES: Mapping[str, Callable[[Fields, Fields], None]] = {
    "BeforeMsgModify": modify_message,
    "BeforeOfflinePush": push_offline,
    "BeforeGroupOnlinePush": where_not_empty("userIDList"),
    "BeforeSetFriendRemark": where_not_empty("remark"),
    "BeforeImportFriends": where_not_empty("friendUserIDs"),
    "BeforeUserRegister": register,
    "BeforeUpdateUserInfo": where_not_nil("nickName", "faceURL", "ex"),
    "BeforeUpdateUserInfoEx": lambda done, response: through_pointers(
        done, response, "nickName", "faceURL", "ex"
    ),
    "BeforeCreateGroup": where_not_nil(
        *(name for name in RESPONSES["BeforeCreateGroup"] if name != "applyMemberFriend")
    ),
    "BeforeMembersJoinGroup": join,
    "BeforeSetGroupInfo": set_group_info,
    "BeforeSetGroupInfoEx": set_group_info_ex,
    "BeforeSetGroupMemberInfo": where_not_nil("nickName", "faceURL", "ex", "roleLevel"),
    "BeforeCreateSingleChatConversations": where_not_nil(*CONVERSATION),
    "BeforeCreateGroupChatConversations": where_not_nil(*CONVERSATION),
}
"""What each operation takes from a reply; the others take nothing."""
