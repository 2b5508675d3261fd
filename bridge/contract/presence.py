"""Presence: users coming and going, per platform."""

from bridge.contract.event import After, Event, Int64
from bridge.contract.ordering import Field


class PresenceEvent(Event, frozen=True, kw_only=True):
    """A user's connection on one platform changed."""

    subject = "presence"
    ordering = Field("userID")

    user_id: str
    operation_id: str = ""
    """Shared by all events of one batch, so it names no single change."""
    platform_id: Int64 = 0
    platform: str = ""
    """Display name, such as `Web` or `IOS`."""
    seq: Int64 = 0
    """Unix milliseconds; of two events of a user and platform, the greater is newer."""


class AfterUserOnline(After, PresenceEvent, frozen=True, kw_only=True):
    """A user is connected.

    Said again about every ten minutes, and when another device of the user goes offline:
    being told so does not mean that anything changed.
    """

    old_commands = ("callbackUserOnlineCommand",)

    is_app_background: bool = False
    conn_id: str = ""
    """Mostly blank: OpenIM relays the change without it."""


class AfterUserOffline(After, PresenceEvent, frozen=True, kw_only=True):
    """A connection of a user went away; another on the same platform may still be up."""

    old_commands = ("callbackUserOfflineCommand",)

    conn_id: str = ""
    """Mostly blank: OpenIM relays the change without it."""


class AfterUserKickOff(After, PresenceEvent, frozen=True, kw_only=True):
    """A user was forced offline; documented, but sent by no known release."""

    old_commands = ("callbackUserKickOffCommand",)
