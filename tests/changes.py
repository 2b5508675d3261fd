"""One change of each field that can be changed, and what OpenIM does then."""

from typing import Any, TypeAlias

import msgspec

from bridge.contract import (
    Change,
    ChangeCreateGroup,
    ChangeCreateGroupChatConversations,
    ChangeCreateSingleChatConversations,
    ChangedMember,
    ChangeGroupOnlinePush,
    ChangeImportFriends,
    ChangeMembersJoinGroup,
    ChangeMsgModify,
    ChangeOfflinePush,
    ChangeSetFriendRemark,
    ChangeSetGroupInfo,
    ChangeSetGroupInfoEx,
    ChangeSetGroupMemberInfo,
    ChangeUpdateUserInfo,
    ChangeUpdateUserInfoEx,
    ChangeUserRegister,
    PushTexts,
    RegisteredUser,
)

Changed: TypeAlias = tuple[Change[Any], dict[str, Any]]

CONVERSATION: dict[str, Any] = {
    "recv_msg_opt": 2,
    "is_pinned": True,
    "is_private_chat": True,
    "burn_duration": 30,
    "group_at_type": 1,
    "attached_info": "info",
    "ex": "ex",
}
GROUP: dict[str, Any] = {
    "group_id": "group_z",
    "group_name": "Climbers",
    "introduction": "",
    "face_url": "https://cdn.example.com/z.png",
    "ex": "ex",
    "need_verification": 2,
    "look_member_info": 1,
}
EVERYTHING: tuple[tuple[type[Change[Any]], dict[str, Any]], ...] = (
    (
        ChangeMsgModify,
        {
            "content": '{"content":"***"}',
            "recv_id": "user_z",
            "group_id": "group_z",
            "client_msg_id": "c1",
            "server_msg_id": "s1",
            "sender_platform_id": 2,
            "sender_nickname": "Al",
            "sender_face_url": "",
            "session_type": 3,
            "msg_from": 200,
            "content_type": 110,
            "status": 2,
            "options": {"history": False},
            "at_user_id_list": [],
            "attached_info": "info",
            "ex": "ex",
        },
    ),
    (ChangeOfflinePush, {"user_id_list": ["user_z"], "offline_push_info": PushTexts(desc="x")}),
    (ChangeGroupOnlinePush, {"user_id_list": ["user_y", "user_z"]}),
    (ChangeSetFriendRemark, {"remark": "Bob"}),
    (ChangeImportFriends, {"friend_user_ids": ["user_c"]}),
    (ChangeUserRegister, {"users": [RegisteredUser(user_id="user_z", nickname="Zoe")]}),
    (ChangeUpdateUserInfo, {"nickname": "Al", "face_url": "", "ex": "ex"}),
    (ChangeUpdateUserInfoEx, {"nickname": "Al"}),
    (
        ChangeCreateGroup,
        GROUP
        | {
            "notification": "Welcome",
            "owner_user_id": "user_z",
            "status": 1,
            "creator_user_id": "user_z",
            "group_type": 1,
        },
    ),
    (ChangeSetGroupInfo, GROUP | {"apply_member_friend": 1}),
    (ChangeSetGroupInfoEx, GROUP | {"apply_member_friend": 1}),
    (
        ChangeSetGroupMemberInfo,
        {"nickname": "C.", "face_url": "", "role_level": 60, "ex": "ex"},
    ),
    (ChangeCreateSingleChatConversations, CONVERSATION),
    (ChangeCreateGroupChatConversations, CONVERSATION),
)


def changed(change: Change[Any]) -> dict[str, Any]:
    """Give the fields that a change has, by their names in Python."""
    values = {name: getattr(change, name) for name in change.__struct_fields__}
    return {name: value for name, value in values.items() if value is not msgspec.UNSET}


def one(kind: type[Change[Any]], name: str, value: object) -> Changed:
    """Change one field; OpenIM names what it holds as the reply does."""
    change = kind(**{name: value})
    return change, msgspec.to_builtins(change)


MEMBER = ChangedMember(
    user_id="user_c", nickname="C.", face_url="z.png", role_level=60, mute_end_time=7, ex="ex"
)

CHANGED: list[Changed] = [
    *(one(kind, name, value) for kind, fields in EVERYTHING for name, value in fields.items()),
    *((kind(**fields), msgspec.to_builtins(kind(**fields))) for kind, fields in EVERYTHING),
    (
        ChangeMembersJoinGroup(member_callback_list=[MEMBER]),
        {"members": {"user_c": msgspec.to_builtins(MEMBER)}},
    ),
]
"""Changes of one field, then of all of a callback's."""
