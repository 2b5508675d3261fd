"""A decision handler that costs nothing."""

from bridge.contract import Allow, BeforeSendMsg
from consumers.decisions import Decisions

decisions = Decisions("bench")


@decisions.on(BeforeSendMsg)
async def allow(_event: BeforeSendMsg) -> Allow:
    """Allow."""
    return Allow()
