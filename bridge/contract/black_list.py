"""Black lists: users who want nothing more to do with others."""

from bridge.contract.event import After, Before, Event
from bridge.contract.ordering import Pair


class BlackListEvent(Event, frozen=True, kw_only=True):
    """A user's black list changes."""

    subject = "black_list"
    ordering = Pair("ownerUserID", "blackUserID")

    owner_user_id: str
    black_user_id: str


class BeforeAddBlack(Before, BlackListEvent, frozen=True, kw_only=True):
    """A user is about to be put on a black list; OpenIM has no event for afterwards."""


class AfterRemoveBlack(After, BlackListEvent, frozen=True, kw_only=True):
    """A user was taken off a black list."""
