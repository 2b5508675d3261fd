"""What is done with a callback that is taken."""

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bridge.span_kinds import Receipt


class Accepted(NamedTuple):
    """What is done with a callback."""

    message: bytes
    """To store, if the answer waits for that."""
    reply: bytes
    """To answer."""
    waits: bool
    """Whether the answer waits until the message is durable."""
    receipt: "Receipt | None" = None
    """The span of that, if traces are made."""
