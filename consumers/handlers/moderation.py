"""Decides about messages with links, as an example: a service is asked that takes its time.

The policy in `deploy/moderation` asks about those messages only.
"""

import asyncio
import re

from bridge.contract import Allow, BeforeSendMsg, Refuse
from consumers.decisions import Decisions, Question

decisions = Decisions("moderation")

_LINK = re.compile(r"https?://([^/\s\"\\]+)", re.IGNORECASE)
_TRUSTED = ("openim.io", "example.com")


@decisions.on(BeforeSendMsg)
async def look_at_links(event: BeforeSendMsg, question: Question) -> Allow | Refuse:
    """Let links to known places pass."""
    hosts = [match[1].lower() for match in _LINK.finditer(event.content)]
    suspicious = [host for host in hosts if not await _is_trusted(host)]
    question.log.info("links looked at", extra={"links": len(hosts), "bad": len(suspicious)})
    if suspicious:
        return Refuse(20004, "Links to unknown places are not welcome here")
    return Allow()


async def _is_trusted(host: str) -> bool:
    # Stands for a request to your service.
    await asyncio.sleep(0.2)
    return any(host == known or host.endswith(f".{known}") for known in _TRUSTED)
