"""All callbacks there are, and which of them a request is."""

from collections.abc import Mapping

from bridge.contract import (
    black_list,
    conversation,
    friend,
    group,
    message,
    presence,
    push,
    user,
)
from bridge.contract.event import Event

EVENTS: tuple[type[Event], ...] = (
    message.BeforeSendSingleMsg,
    message.AfterSendSingleMsg,
    message.BeforeSendGroupMsg,
    message.AfterSendGroupMsg,
    message.BeforeMsgModify,
    message.AfterMsgSaveDB,
    message.AfterSingleMsgRead,
    message.AfterGroupMsgRead,
    message.AfterRevokeMsg,
    presence.AfterUserOnline,
    presence.AfterUserOffline,
    presence.AfterUserKickOff,
    push.BeforeOnlinePush,
    push.BeforeOfflinePush,
    push.BeforeGroupOnlinePush,
    friend.BeforeAddFriend,
    friend.AfterAddFriend,
    friend.BeforeAddFriendAgree,
    friend.AfterAddFriendAgree,
    friend.BeforeSetFriendRemark,
    friend.AfterSetFriendRemark,
    friend.BeforeImportFriends,
    friend.AfterImportFriends,
    friend.AfterDeleteFriend,
    black_list.BeforeAddBlack,
    black_list.AfterRemoveBlack,
    user.BeforeUserRegister,
    user.AfterUserRegister,
    user.BeforeUpdateUserInfo,
    user.AfterUpdateUserInfo,
    user.BeforeUpdateUserInfoEx,
    user.AfterUpdateUserInfoEx,
    group.BeforeCreateGroup,
    group.AfterCreateGroup,
    group.BeforeMembersJoinGroup,
    group.BeforeInviteJoinGroup,
    group.BeforeJoinGroup,
    group.AfterJoinGroup,
    group.AfterQuitGroup,
    group.AfterKickGroup,
    group.AfterDisMissGroup,
    group.AfterTransferGroupOwner,
    group.BeforeSetGroupInfo,
    group.AfterSetGroupInfo,
    group.BeforeSetGroupInfoEx,
    group.AfterSetGroupInfoEx,
    group.BeforeSetGroupMemberInfo,
    group.AfterSetGroupMemberInfo,
    conversation.BeforeCreateSingleChatConversations,
    conversation.AfterCreateSingleChatConversations,
    conversation.BeforeCreateGroupChatConversations,
    conversation.AfterCreateGroupChatConversations,
)
"""The class of every callback, by subject."""

COMMANDS: Mapping[str, type[Event]] = {
    command: event for event in EVENTS for command in (event.command, *event.old_commands)
}
"""The class of every callback command, those of older releases included."""

MALFORMED = "malformed"
"""Routing key of a body that is not a JSON object."""

_AGREEMENT_FIELDS = frozenset({"handleResult", "handleMsg", "HandleResult", "HandleMsg"})


def event_type(command: str, fields: Mapping[str, object]) -> type[Event] | None:
    """Tell which callback a request is, or None if its command is unknown.

    Args:
        command: The last part of the request's path.
        fields: The JSON fields of its body.

    """
    event = COMMANDS.get(command)
    if event is friend.AfterAddFriend and _is_agreement(fields):
        return friend.AfterAddFriendAgree
    return event


def routing_key(command: str, event: type[Event] | None, partition: int) -> str:
    """Give the routing key of a callback.

    Args:
        command: The last part of the request's path, within AMQP's 255 bytes.
        event: What `event_type` made of it.
        partition: Of its ordering key.

    Returns:
        For example `friend.after.add_friend_agree.p07`, or `unknown.<command>.p03`.

    """
    address = event.routing_key if event else f"unknown.{command}"
    return f"{address}.p{partition:02d}"


def _is_agreement(fields: Mapping[str, object]) -> bool:
    """Tell an agreement sent as the documentation shows it, under the application's command."""
    return "reqMsg" not in fields and not _AGREEMENT_FIELDS.isdisjoint(fields)
