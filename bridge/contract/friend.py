"""Friends: applications, agreements, remarks, imports and deletions."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import ClassVar

from msgspec import field

from bridge.contract.event import After, Before, Event, Int32
from bridge.contract.ordering import Field, Pair


class FriendEvent(Event, frozen=True, kw_only=True):
    """Anything that happens between two users' friend lists."""

    subject = "friend"


class AddFriend(FriendEvent, frozen=True, kw_only=True):
    """A user applies to be another's friend."""

    ordering = Pair("fromUserID", "toUserID")

    from_user_id: str
    to_user_id: str
    req_msg: str = ""


class BeforeAddFriend(Before, AddFriend, frozen=True, kw_only=True):
    """A friend application wants to be recorded; nobody has accepted anything."""

    ex: str = ""


class AfterAddFriend(After, AddFriend, frozen=True, kw_only=True):
    """A friend application was recorded; nobody has accepted anything.

    OpenIM's page on agreements shows this command by mistake. A body of that page is read
    as the AfterAddFriendAgree that it means.
    """

    aliases: ClassVar[Mapping[str, str]] = MappingProxyType({"blackUserID": "toUserID"})


class AddFriendAgree(FriendEvent, frozen=True, kw_only=True):
    """A friend application is accepted.

    One that is rejected is not reported at all.
    """

    ordering = Pair("fromUserID", "blackUserID")
    # The server's spelling is odd, and OpenIM's documentation shows another one.
    aliases: ClassVar[Mapping[str, str]] = MappingProxyType(
        {
            "toUserID": "blackUserID",
            "handleResult": "HandleResult",
            "handleMsg": "HandleMsg",
        }
    )

    from_user_id: str
    """Who applied."""
    to_user_id: str = field(name="blackUserID")
    """Who accepts; has nothing to do with a black list."""
    handle_result: Int32 = field(name="HandleResult", default=0)
    """Always 1, for accepted."""
    handle_msg: str = field(name="HandleMsg", default="")


class BeforeAddFriendAgree(Before, AddFriendAgree, frozen=True, kw_only=True):
    """A friend application is about to be accepted."""


class AfterAddFriendAgree(After, AddFriendAgree, frozen=True, kw_only=True):
    """A friend application was accepted: the two are friends now."""

    since = "v3.8.1"


class SetFriendRemark(FriendEvent, frozen=True, kw_only=True):
    """A user names a friend in words of their own."""

    ordering = Pair("ownerUserID", "friendUserID")

    owner_user_id: str
    friend_user_id: str
    remark: str = ""


class BeforeSetFriendRemark(Before, SetFriendRemark, frozen=True, kw_only=True):
    """A friend's remark is about to change; whether the user may is not checked yet."""

    old_commands = ("callbackBeforeSetFriendRemark",)


class AfterSetFriendRemark(After, SetFriendRemark, frozen=True, kw_only=True):
    """A friend's remark was changed."""

    old_commands = ("callbackAfterSetFriendRemark",)


class ImportFriends(FriendEvent, frozen=True, kw_only=True):
    """An administrator gives a user friends."""

    ordering = Field("ownerUserID")

    owner_user_id: str
    friend_user_ids: list[str] | None = None


class BeforeImportFriends(Before, ImportFriends, frozen=True, kw_only=True):
    """Friends are about to be imported."""


class AfterImportFriends(After, ImportFriends, frozen=True, kw_only=True):
    """Friends were imported."""


class AfterDeleteFriend(After, FriendEvent, frozen=True, kw_only=True):
    """A friend was removed from the owner's list."""

    ordering = Pair("ownerUserID", "friendUserID")

    owner_user_id: str
    friend_user_id: str
