"""Push: OpenIM is about to notify devices."""

from msgspec import field

from bridge.contract.event import Before, Event, Int32, Int64, JsonText
from bridge.contract.ordering import Either, Field, Receivers


class PushEvent(Event, frozen=True, kw_only=True):
    """Something is about to be pushed, be it a message, a notification or a read receipt.

    Notifications and read receipts come too, so there are more of these than of messages. A
    refusal, a late reply or an unreadable one drops this push.
    """

    subject = "push"

    operation_id: str = ""
    platform_id: Int64 = 0
    """The sender's platform."""
    platform: str = ""
    """Display name of the sender's platform, such as `Web` or `IOS`."""
    client_msg_id: str = ""
    content_type: Int32 = 0
    session_type: Int32 = 0
    at_user_id_list: list[str] | None = None
    content: JsonText = ""
    """A JSON document of its own, whose shape depends on `content_type`."""


class UserPushEvent(PushEvent, frozen=True, kw_only=True):
    """Something is about to be pushed to listed users.

    From `title` to `signal_info` all are None when the message brought no push texts.
    """

    send_id: str
    group_id: str = ""
    user_id_list: list[str] | None = None
    title: str | None = None
    desc: str | None = None
    ex: str | None = None
    ios_push_sound: str | None = field(name="iOSPushSound", default=None)
    ios_badge_count: bool | None = field(name="iOSBadgeCount", default=None)
    signal_info: str | None = None


class BeforeOnlinePush(Before, UserPushEvent, frozen=True, kw_only=True):
    """A dialogue's or a notification's item is about to reach connected users.

    The list may hold the sender as well, for the sender's other devices.
    """

    ordering = Receivers()
    old_commands = ("callbackOnlinePushCommand",)


class BeforeOfflinePush(Before, UserPushEvent, frozen=True, kw_only=True):
    """Users who could not be reached online are about to get a vendor's push.

    The list can be as long as the group has unreachable members.
    """

    ordering = Either(Field("groupID", prefix="sg_"), Receivers())
    old_commands = ("callbackOfflinePushCommand",)


class BeforeGroupOnlinePush(Before, PushEvent, frozen=True, kw_only=True):
    """A group's item is about to reach its connected members."""

    ordering = Field("groupID", prefix="sg_")
    old_commands = ("callbackSuperGroupOnlinePushCommand",)

    group_id: str
    send_id: str = ""
    seq: Int64 = 0
