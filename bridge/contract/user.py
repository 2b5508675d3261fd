"""Users: registrations and profiles."""

from msgspec import Struct, field

from bridge.contract.event import After, Before, Event, Int32, Int64, wire_name
from bridge.contract.ordering import Entry, Field


class UserEvent(Event, frozen=True, kw_only=True):
    """Anything that happens to an account."""

    subject = "user"


class RegisteredUser(Struct, frozen=True, kw_only=True, rename=wire_name):
    """One of the users registered together."""

    user_id: str = ""
    nickname: str = ""
    face_url: str = ""
    ex: str = ""
    create_time: Int64 = 0
    """What the caller gave, mostly 0."""
    app_manager_level: Int32 = field(name="appMangerLevel", default=0)
    global_recv_msg_opt: Int32 = 0


class UserRegister(UserEvent, frozen=True, kw_only=True):
    """Users are registered, one or many at once.

    Releases up to v3.8.0 send the server's secret in the body as well.
    """

    # A batch has no id of its own.
    ordering = Entry("users", "userID")

    users: list[RegisteredUser | None] | None = None


class BeforeUserRegister(Before, UserRegister, frozen=True, kw_only=True):
    """Users are about to be registered."""


class AfterUserRegister(After, UserRegister, frozen=True, kw_only=True):
    """Users were registered."""


class ProfileEvent(UserEvent, frozen=True, kw_only=True):
    """A user's profile changes."""

    ordering = Field("userID")

    user_id: str


class PartialProfileEvent(ProfileEvent, frozen=True, kw_only=True):
    """Parts of a user's profile change.

    None is no part of the change.
    """

    nickname: str | None = field(name="nickName", default=None)
    face_url: str | None = None
    ex: str | None = None
    """Always None, even when `ex` is what changes."""


class BeforeUpdateUserInfo(Before, PartialProfileEvent, frozen=True, kw_only=True):
    """A profile is about to be replaced, by the deprecated call."""


class AfterUpdateUserInfo(After, ProfileEvent, frozen=True, kw_only=True):
    """A profile was replaced, by the deprecated call.

    Blank is what was not given.
    """

    nickname: str = field(name="nickName", default="")
    face_url: str = ""
    ex: str = ""
    """Always blank, even when `ex` is what changed."""


class BeforeUpdateUserInfoEx(Before, PartialProfileEvent, frozen=True, kw_only=True):
    """Parts of a profile are about to change."""


class AfterUpdateUserInfoEx(After, PartialProfileEvent, frozen=True, kw_only=True):
    """Parts of a profile were changed."""
