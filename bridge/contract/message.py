"""Messages: sent, changed, stored, read and revoked."""

from msgspec import field

from bridge.contract.event import After, Before, Event, Int32, Int64, JsonText, Uint32
from bridge.contract.ordering import Dialogue, Either, Field


class MessageEvent(Event, frozen=True, kw_only=True):
    """Anything that happens to messages."""

    subject = "message"


class Message(MessageEvent, frozen=True, kw_only=True):
    """A whole message."""

    send_id: str
    server_msg_id: str = ""
    """One for each accepted message: tells two messages apart."""
    client_msg_id: str = ""
    """Chosen by the client, and kept when it sends the same message again."""
    operation_id: str = ""
    sender_platform_id: Int32 = 0
    sender_nickname: str = ""
    session_type: Int32 = 0
    msg_from: Int32 = 0
    content_type: Int32 = 0
    status: Int32 = 0
    send_time: Int64 = 0
    """Unix milliseconds; the best hint at the order in which messages were sent."""
    create_time: Int64 = 0
    content: JsonText = ""
    """A JSON document of its own, whose shape depends on `content_type`."""
    seq: Uint32 = 0
    """0 until the message is stored; only AfterMsgSaveDB has the number."""
    at_user_list: list[str] | None = None
    """None when nobody is mentioned."""
    face_url: str = ""
    ex: str = ""


class BeforeSendMsg(Before, Message, frozen=True, kw_only=True):
    """A message wants to be accepted, in a dialogue or a group.

    Typing is left out, and in releases after v3.8.3 notifications are (content types 1000 to
    5000).
    """

    command = ""


class AfterSendMsg(After, Message, frozen=True, kw_only=True):
    """A message was accepted, in a dialogue or a group; it may not be stored yet.

    Typing is left out, and in releases after v3.8.3 notifications are (content types 1000 to
    5000).
    """

    command = ""


class BeforeSendSingleMsg(BeforeSendMsg, frozen=True, kw_only=True):
    """A message to one user wants to be accepted.

    Not asked for administrators of the app as senders.
    """

    ordering = Dialogue()

    recv_id: str


class AfterSendSingleMsg(AfterSendMsg, frozen=True, kw_only=True):
    """A message to one user was accepted."""

    ordering = Dialogue()

    recv_id: str


class BeforeSendGroupMsg(BeforeSendMsg, frozen=True, kw_only=True):
    """A message to a group wants to be accepted."""

    ordering = Field("groupID", prefix="sg_")

    group_id: str


class AfterSendGroupMsg(AfterSendMsg, frozen=True, kw_only=True):
    """A message to a group was accepted."""

    ordering = Field("groupID", prefix="sg_")

    group_id: str


class BeforeMsgModify(Before, Message, frozen=True, kw_only=True):
    """A message that may be sent can still be changed.

    Neither the receiver nor the group is named. Releases up to v3.8.3 ask for text only.
    """

    ordering = Field("sendID")
    old_commands = ("callbackMsgModifyCommand",)


class AfterMsgSaveDB(After, Message, frozen=True, kw_only=True):
    """Storing a message was attempted.

    Sent also when the insert failed, and then again when it is tried again.
    """

    ordering = Either(Dialogue(), Field("groupID", prefix="sg_"))
    since = "after v3.8.3"

    recv_id: str = ""
    """Blank in a group."""
    group_id: str = ""
    """Blank in a dialogue."""


class AfterGroupMsgRead(After, MessageEvent, frozen=True, kw_only=True):
    """A user marked a group conversation as read; which group is not said."""

    ordering = Field("sendID")
    old_commands = ("callbackGroupMsgReadCommand",)

    send_id: str
    """The reader."""
    receive_id: str = ""
    """The reader once more."""
    unread_msg_num: Int64 = 0
    """Not a count: the sequence number up to which the reader has read."""
    content_type: Int64 = 0
    """The type of the conversation, not of a message."""


class AfterSingleMsgRead(After, MessageEvent, frozen=True, kw_only=True):
    """A user marked messages as read.

    Single messages may be of any conversation, groups included. Releases before v3.7 named
    `sendID` and `receiveID` instead of the conversation; such a body is malformed.
    """

    ordering = Field("conversationID")
    old_commands = ("callbackSingleMsgRead",)

    conversation_id: str
    user_id: str = ""
    seqs: list[Int64] | None = field(name="Seqs", default=None)
    content_type: Int32 = 0
    """The type of the conversation, not of a message."""


class AfterRevokeMsg(After, MessageEvent, frozen=True, kw_only=True):
    """A message was withdrawn; it is named by conversation and sequence number only.

    The command really is spelled so on the wire (pkg/callbackstruct/constant.go), slip and all.
    """

    command = "callbackBeforeAfterMsgCommand"
    ordering = Field("conversationID")

    conversation_id: str
    seq: Int64 = 0
    user_id: str = ""
    """Whom the request named, which is not the operator when an administrator revokes."""
