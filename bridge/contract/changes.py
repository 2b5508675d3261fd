"""What may be changed of what OpenIM asks about: `ChangeMsgModify` answers `BeforeMsgModify`.

Callbacks that have no class here can be allowed or refused only: OpenIM reads nothing else
from their replies, or ignores what it reads.
"""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

import orjson
from msgspec import UNSET, Meta, UnsetType, field

from bridge.contract.conversation import (
    BeforeCreateGroupChatConversations,
    BeforeCreateSingleChatConversations,
)
from bridge.contract.event import Before, Int32, Int64, JsonText, wire_name
from bridge.contract.friend import BeforeImportFriends, BeforeSetFriendRemark
from bridge.contract.group import (
    BeforeCreateGroup,
    BeforeMembersJoinGroup,
    BeforeSetGroupInfo,
    BeforeSetGroupInfoEx,
    BeforeSetGroupMemberInfo,
)
from bridge.contract.message import BeforeMsgModify
from bridge.contract.push import BeforeGroupOnlinePush, BeforeOfflinePush
from bridge.contract.replies import BadReply, Change, Checked, EventT
from bridge.contract.user import (
    BeforeUpdateUserInfo,
    BeforeUpdateUserInfoEx,
    BeforeUserRegister,
    RegisteredUser,
)

Id: TypeAlias = Annotated[str, Meta(min_length=1)]
Ids: TypeAlias = Annotated[list[Id], Meta(min_length=1)]
"""OpenIM takes an empty list for no change."""


class ChangeMsgModify(Change[BeforeMsgModify], frozen=True, kw_only=True):
    """The message is sent so.

    `offlinePushInfo` is left out: OpenIM panics over it where the message has none, and does
    not say whether it has.
    """

    content: JsonText | UnsetType = UNSET
    """A JSON document, as the type of content asks for."""
    recv_id: Id | UnsetType = UNSET
    group_id: Id | UnsetType = UNSET
    client_msg_id: Id | UnsetType = UNSET
    server_msg_id: Id | UnsetType = UNSET
    sender_platform_id: Int32 | UnsetType = UNSET
    sender_nickname: str | UnsetType = UNSET
    sender_face_url: str | UnsetType = UNSET
    session_type: Int32 | UnsetType = UNSET
    msg_from: Int32 | UnsetType = UNSET
    content_type: Int32 | UnsetType = UNSET
    status: Int32 | UnsetType = UNSET
    options: dict[str, bool] | UnsetType = UNSET
    at_user_id_list: list[str] | UnsetType = field(name="atUserIDList", default=UNSET)
    attached_info: str | UnsetType = UNSET
    ex: str | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse content that OpenIM could not read."""
        super().__post_init__()
        try:
            orjson.loads("null" if self.content is UNSET else self.content)
        except orjson.JSONDecodeError as error:
            raise BadReply(f"ChangeMsgModify.content is not JSON: {error}") from error


class PushTexts(Checked, frozen=True, kw_only=True, rename=wire_name):
    """What a vendor's push shows; what is not given is blank."""

    title: str = ""
    desc: str = ""
    ex: str = ""
    ios_push_sound: str = field(name="iOSPushSound", default="")
    ios_badge_count: bool = field(name="iOSBadgeCount", default=False)
    signal_info: str = ""


class ChangeOfflinePush(Change[BeforeOfflinePush], frozen=True, kw_only=True):
    """These users get a vendor's push, or it shows this."""

    user_id_list: Ids | UnsetType = field(name="userIDList", default=UNSET)
    offline_push_info: PushTexts | UnsetType = UNSET
    """Replaces all texts at once."""


class ChangeGroupOnlinePush(Change[BeforeGroupOnlinePush], frozen=True, kw_only=True):
    """These users get the group's item."""

    user_id_list: Ids | UnsetType = field(name="userIDList", default=UNSET)


class ChangeSetFriendRemark(Change[BeforeSetFriendRemark], frozen=True, kw_only=True):
    """The friend is named so."""

    remark: Annotated[str, Meta(min_length=1)] | UnsetType = UNSET
    """OpenIM takes a blank one for no change."""


class ChangeImportFriends(Change[BeforeImportFriends], frozen=True, kw_only=True):
    """These users become friends."""

    friend_user_ids: Ids | UnsetType = field(name="friendUserIDs", default=UNSET)


_WITH_ID = {"required": ["userID"], "properties": {"userID": {"minLength": 1}}}

Registered: TypeAlias = Annotated[RegisteredUser, Meta(extra_json_schema=_WITH_ID)]
"""One that has an id."""


class ChangeUserRegister(Change[BeforeUserRegister], frozen=True, kw_only=True):
    """These users are registered, and none of those that were asked for."""

    users: Annotated[list[Registered], Meta(min_length=1)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse users without an id."""
        super().__post_init__()
        if self.users is not UNSET and not all(user.user_id for user in self.users):
            raise BadReply("ChangeUserRegister.users has a user without user_id")


class ChangeUpdateUserInfo(Change[BeforeUpdateUserInfo], frozen=True, kw_only=True):
    """The profile is replaced by this."""

    nickname: str | UnsetType = field(name="nickName", default=UNSET)
    face_url: str | UnsetType = UNSET
    ex: str | UnsetType = UNSET


class ChangeUpdateUserInfoEx(Change[BeforeUpdateUserInfoEx], frozen=True, kw_only=True):
    """These parts of the profile change so.

    Only what is about to change can be changed: OpenIM panics over the rest. `ex` is left out,
    as OpenIM does not say whether it is about to change.
    """

    nickname: str | UnsetType = field(name="nickName", default=UNSET)
    face_url: str | UnsetType = UNSET

    def check_against(self, fields: Mapping[str, object]) -> None:
        """Refuse what is no part of the update."""
        for name, value in (("nickName", self.nickname), ("faceURL", self.face_url)):
            if value is not UNSET and fields.get(name) is None:
                raise BadReply(f"{name} is no part of this update, so it cannot be changed")


class ChangeCreateGroup(Change[BeforeCreateGroup], frozen=True, kw_only=True):
    """The group is created so."""

    group_id: Id | UnsetType = UNSET
    group_name: str | UnsetType = UNSET
    notification: str | UnsetType = UNSET
    introduction: str | UnsetType = UNSET
    face_url: str | UnsetType = UNSET
    owner_user_id: Id | UnsetType = UNSET
    ex: str | UnsetType = UNSET
    status: Int32 | UnsetType = UNSET
    creator_user_id: Id | UnsetType = UNSET
    group_type: Int32 | UnsetType = UNSET
    need_verification: Int32 | UnsetType = UNSET
    look_member_info: Int32 | UnsetType = UNSET


class ChangedMember(Checked, frozen=True, kw_only=True, rename=wire_name):
    """How one of those who are about to become members becomes one."""

    user_id: Id
    nickname: str | UnsetType = UNSET
    face_url: str | UnsetType = UNSET
    role_level: Int32 | UnsetType = UNSET
    """60 an administrator, 20 a member."""
    mute_end_time: Int64 | UnsetType = UNSET
    """Unix milliseconds."""
    ex: str | UnsetType = UNSET


class ChangeMembersJoinGroup(Change[BeforeMembersJoinGroup], frozen=True, kw_only=True):
    """These members join so, all others as they were about to."""

    member_callback_list: Annotated[list[ChangedMember], Meta(min_length=1)] | UnsetType = UNSET


class ChangeSetGroupInfo(Change[BeforeSetGroupInfo], frozen=True, kw_only=True):
    """The group is described so."""

    group_id: Id | UnsetType = UNSET
    group_name: str | UnsetType = UNSET
    introduction: str | UnsetType = UNSET
    face_url: str | UnsetType = UNSET
    ex: str | UnsetType = UNSET
    need_verification: Int32 | UnsetType = UNSET
    look_member_info: Int32 | UnsetType = UNSET
    apply_member_friend: Int32 | UnsetType = UNSET


class ChangeSetGroupInfoEx(Change[BeforeSetGroupInfoEx], frozen=True, kw_only=True):
    """These parts of the group's description change so; None takes one out of the update."""

    group_id: Id | UnsetType = UNSET
    group_name: str | UnsetType | None = UNSET
    introduction: str | UnsetType | None = UNSET
    face_url: str | UnsetType | None = UNSET
    ex: str | UnsetType | None = UNSET
    need_verification: Int32 | UnsetType | None = UNSET
    look_member_info: Int32 | UnsetType | None = UNSET
    apply_member_friend: Int32 | UnsetType | None = UNSET


class ChangeSetGroupMemberInfo(Change[BeforeSetGroupMemberInfo], frozen=True, kw_only=True):
    """The member is described so, also in what was not about to change."""

    nickname: str | UnsetType = field(name="nickName", default=UNSET)
    face_url: str | UnsetType = UNSET
    role_level: Int32 | UnsetType = UNSET
    ex: str | UnsetType = UNSET


class ChangeConversations(Change[EventT], frozen=True, kw_only=True):
    """Conversations are created so."""

    recv_msg_opt: Int32 | UnsetType = UNSET
    is_pinned: bool | UnsetType = UNSET
    is_private_chat: bool | UnsetType = UNSET
    burn_duration: Int32 | UnsetType = UNSET
    group_at_type: Int32 | UnsetType = UNSET
    attached_info: str | UnsetType = UNSET
    ex: str | UnsetType = UNSET


class ChangeCreateSingleChatConversations(
    ChangeConversations[BeforeCreateSingleChatConversations], frozen=True, kw_only=True
):
    """A side of the dialogue is created so."""


class ChangeCreateGroupChatConversations(
    ChangeConversations[BeforeCreateGroupChatConversations], frozen=True, kw_only=True
):
    """The members get the group's conversation so."""


CHANGES: Mapping[type[Before], type[Change[Any]]] = {
    change.answers: change
    for change in (
        ChangeMsgModify,
        ChangeOfflinePush,
        ChangeGroupOnlinePush,
        ChangeSetFriendRemark,
        ChangeImportFriends,
        ChangeUserRegister,
        ChangeUpdateUserInfo,
        ChangeUpdateUserInfoEx,
        ChangeCreateGroup,
        ChangeMembersJoinGroup,
        ChangeSetGroupInfo,
        ChangeSetGroupInfoEx,
        ChangeSetGroupMemberInfo,
        ChangeCreateSingleChatConversations,
        ChangeCreateGroupChatConversations,
    )
}
"""The class for changes of each callback that can be answered with some."""
