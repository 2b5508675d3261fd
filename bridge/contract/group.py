"""Groups: created, joined, left, described and dismissed."""

from typing import ClassVar

from msgspec import Struct, field

from bridge.contract.event import After, Before, Event, Int32, Int64, Uint32, wire_name
from bridge.contract.ordering import Either, Entry, Field, Rule

_OWNER = 100


class GroupEvent(Event, frozen=True, kw_only=True):
    """Anything that happens to a group or its members."""

    subject = "group"
    ordering: ClassVar[Rule] = Field("groupID")

    group_id: str


class InitialMember(Struct, frozen=True, kw_only=True, rename=wire_name):
    """A user who is in a group from its creation."""

    user_id: str = ""
    role_level: Int32 = 0
    """100 the owner, 60 an administrator, 20 a member."""


class CreateGroup(GroupEvent, frozen=True, kw_only=True):
    """A group is created."""

    group_id: str = ""
    group_name: str | None = None
    notification: str | None = None
    introduction: str | None = None
    face_url: str | None = None
    owner_user_id: str | None = None
    create_time: Int64 | None = None
    member_count: Uint32 | None = None
    ex: str | None = None
    status: Int32 | None = None
    creator_user_id: str | None = None
    group_type: Int32 | None = None
    need_verification: Int32 | None = None
    look_member_info: Int32 | None = None
    apply_member_friend: Int32 | None = None
    notification_update_time: Int64 | None = None
    notification_user_id: str | None = None
    init_member_list: list[InitialMember | None] | None = None


class BeforeCreateGroup(Before, CreateGroup, frozen=True, kw_only=True):
    """A group is about to be created.

    It mostly has no id yet, and its owner stands only in `init_member_list`.
    """

    ordering = Either(Field("groupID"), Entry("initMemberList", "userID", role_level=_OWNER))

    operation_id: str = ""


class AfterCreateGroup(After, CreateGroup, frozen=True, kw_only=True):
    """A group was created.

    Owner and administrators are listed a second time, as ordinary members.
    """


class JoiningMember(Struct, frozen=True, kw_only=True, rename=wire_name):
    """A user who is about to become a member."""

    user_id: str = ""
    ex: str = ""


class BeforeMembersJoinGroup(Before, GroupEvent, frozen=True, kw_only=True):
    """Members are about to be added, in whatever way.

    Releases before v3.8 ask for one member at a time, whom the event then does not name.
    """

    config_key = "beforeMemberJoinGroup"
    old_commands = ("callbackBeforeMemberJoinGroupCommand",)

    member_list: list[JoiningMember | None] | None = None
    group_ex: str = ""


class BeforeInviteJoinGroup(Before, GroupEvent, frozen=True, kw_only=True):
    """Users are about to be invited; by whom is not said."""

    config_key = "beforeInviteUserToGroup"

    operation_id: str = ""
    reason: str = ""
    invited_user_ids: list[str] | None = None


class BeforeJoinGroup(Before, GroupEvent, frozen=True, kw_only=True):
    """A user asks to join."""

    config_key = "beforeApplyJoinGroup"

    group_type: str = ""
    """One character with the type as its code: `"\\x02"` is type 2."""
    apply_id: str = ""
    """Who asks."""
    req_message: str = ""
    ex: str = ""


class AfterJoinGroup(After, GroupEvent, frozen=True, kw_only=True):
    """A user joined a group that needs no verification.

    Invited users and approved applicants are not reported.
    """

    operation_id: str = ""
    req_message: str = ""
    join_source: Int32 = 0
    inviter_user_id: str = ""
    """Who joined, in spite of the name."""


class AfterQuitGroup(After, GroupEvent, frozen=True, kw_only=True):
    """A member left."""

    old_commands = ("callbackQuitGroupCommand",)

    user_id: str = ""


class AfterKickGroup(After, GroupEvent, frozen=True, kw_only=True):
    """Members were removed; by whom is not said."""

    config_key = "afterKickGroupMember"
    old_commands = ("callbackKillGroupCommand",)

    kicked_user_ids: list[str] | None = None
    reason: str = ""


class AfterDisMissGroup(After, GroupEvent, frozen=True, kw_only=True):
    """A group was dismissed.

    Expect it twice, the second time with the members already gone.
    """

    config_key = "afterDismissGroup"
    old_commands = ("callbackDisMissGroupCommand",)

    owner_id: str = ""
    group_type: str = ""
    """One character with the type as its code: `"\\x02"` is type 2."""
    member_ids: list[str] | None = field(name="membersID", default=None)


class AfterTransferGroupOwner(After, GroupEvent, frozen=True, kw_only=True):
    """A group has a new owner."""

    old_commands = ("callbackTransferGroupOwnerAfter", "callbackAfterTransferGroupOwner")

    old_owner_user_id: str = ""
    new_owner_user_id: str = ""


class SetGroupInfo(GroupEvent, frozen=True, kw_only=True):
    """A group's description changes, by the older call.

    Blank is what was not given.
    """

    operation_id: str = ""
    """Always blank."""
    group_name: str = ""
    notification: str = ""
    introduction: str = ""
    face_url: str = ""


class BeforeSetGroupInfo(Before, SetGroupInfo, frozen=True, kw_only=True):
    """A group's description is about to change, by the older call."""

    # internal/rpc/group/callback.go takes these from the reply unconditionally.
    echoed = ("groupID", "groupName", "introduction", "faceURL")

    ex: str = ""
    need_verification: Int32 = 0
    look_member_info: Int32 = 0
    apply_member_friend: Int32 = 0


class AfterSetGroupInfo(After, SetGroupInfo, frozen=True, kw_only=True):
    """A group's description was changed, by the older call.

    None is no part of the change.
    """

    ex: str | None = None
    need_verification: Int32 | None = None
    look_member_info: Int32 | None = None
    apply_member_friend: Int32 | None = None


class SetGroupInfoEx(GroupEvent, frozen=True, kw_only=True):
    """Parts of a group's description change.

    None is no part of the change.
    """

    since = "v3.8.1"

    operation_id: str = ""
    """Always blank."""
    group_name: str | None = None
    notification: str | None = None
    introduction: str | None = None
    face_url: str | None = None
    ex: str | None = None
    need_verification: Int32 | None = None
    look_member_info: Int32 | None = None
    apply_member_friend: Int32 | None = None


class BeforeSetGroupInfoEx(Before, SetGroupInfoEx, frozen=True, kw_only=True):
    """Parts of a group's description are about to change."""

    # internal/rpc/group/callback.go takes these from the reply unconditionally.
    echoed = (
        "groupID",
        "groupName",
        "introduction",
        "faceURL",
        "ex",
        "needVerification",
        "lookMemberInfo",
        "applyMemberFriend",
    )


class AfterSetGroupInfoEx(After, SetGroupInfoEx, frozen=True, kw_only=True):
    """Parts of a group's description were changed."""


class SetGroupMemberInfo(GroupEvent, frozen=True, kw_only=True):
    """A member's description changes.

    There is one event for each member that a request names. None is no part of the change.
    """

    user_id: str = ""
    nickname: str | None = field(name="nickName", default=None)
    face_url: str | None = None
    role_level: Int32 | None = None
    ex: str | None = None


class BeforeSetGroupMemberInfo(Before, SetGroupMemberInfo, frozen=True, kw_only=True):
    """A member's description is about to change."""


class AfterSetGroupMemberInfo(After, SetGroupMemberInfo, frozen=True, kw_only=True):
    """A member's description was changed."""
