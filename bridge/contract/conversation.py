"""Conversations: created for a first contact or a new group."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from msgspec import field

from bridge.contract.event import After, Before, Event, Int32
from bridge.contract.ordering import Field


class ConversationEvent(Event, frozen=True, kw_only=True):
    """Conversations are created."""

    subject = "conversation"
    since = "after v3.8.3"
    ordering = Field("conversationId")
    # The Enterprise edition, and builds before October 2025 (PR #3609), write snake case.
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "owner_user_id": "ownerUserId",
            "conversation_id": "conversationId",
            "conversation_type": "conversationType",
            "user_id": "userId",
            "group_id": "groupId",
            "recv_msg_opt": "recvMsgOpt",
            "is_pinned": "isPinned",
            "is_private_chat": "isPrivateChat",
            "burn_duration": "burnDuration",
            "group_at_type": "groupAtType",
            "attached_info": "attachedInfo",
        }
    )

    conversation_id: str = field(name="conversationId")
    owner_user_id: str = field(name="ownerUserId", default="")
    conversation_type: Int32 = 0
    recv_msg_opt: Int32 = 0
    is_pinned: bool = False
    is_private_chat: bool = False
    burn_duration: Int32 = 0
    group_at_type: Int32 = 0
    attached_info: str = ""
    ex: str = ""


class CreateSingleChatConversations(ConversationEvent, frozen=True, kw_only=True):
    """Two users, or a user and a notification account, meet for the first time."""

    user_id: str = field(name="userId", default="")


class CreateGroupChatConversations(ConversationEvent, frozen=True, kw_only=True):
    """A group's members get its conversation.

    `owner_user_id` is blank, and no member is named.
    """

    group_id: str = field(name="groupId", default="")


class BeforeCreateSingleChatConversations(
    Before, CreateSingleChatConversations, frozen=True, kw_only=True
):
    """The two sides of a dialogue are about to be created.

    Asked twice, both times with the first side's fields.
    """


class AfterCreateSingleChatConversations(
    After, CreateSingleChatConversations, frozen=True, kw_only=True
):
    """One side of a dialogue was created.

    Said also when storing it failed.
    """


class BeforeCreateGroupChatConversations(
    Before, CreateGroupChatConversations, frozen=True, kw_only=True
):
    """The conversation of a group is about to be created for its members."""


class AfterCreateGroupChatConversations(
    After, CreateGroupChatConversations, frozen=True, kw_only=True
):
    """The conversation of a group was created for its members."""
