"""From a before callback to a verdict, its source and the body that says it to OpenIM.

A decision never fails and never waits for anything: when what the policy says cannot be said
to this callback, OpenIM goes on, and the problem is reported.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from time import perf_counter

from bridge.contract import Allow, BadReply, Event, Refuse, Reply, answer

DEFAULT, POLICY, FALLBACK = "default", "policy", "fallback"
SOURCES: Mapping[str, str] = {
    DEFAULT: "the policy says nothing about this callback, so it is allowed",
    POLICY: "the policy of this callback",
    FALLBACK: "the verdict could not be said to this callback, so it is allowed",
}
"""Where a verdict comes from, and what that means."""

ALLOW, REFUSE, CHANGE = VERDICTS = ("allow", "refuse", "change")


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to say to OpenIM, and why."""

    reply: Reply
    source: str
    """One of SOURCES."""
    name: str = ""
    """Which of several of that source."""

    @property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if isinstance(self.reply, Allow):
            return ALLOW
        return REFUSE if isinstance(self.reply, Refuse) else CHANGE

    @property
    def origin(self) -> str:
        """Source and name in one text."""
        return f"{self.source}:{self.name}" if self.name else self.source


@dataclass(frozen=True, kw_only=True)
class Decided:
    """A decision about one callback."""

    decision: Decision
    body: bytes
    """The reply."""
    seconds: float
    """How long deciding took."""
    problem: str = ""
    """Why it is a fallback."""

    @property
    def headers(self) -> dict[str, str]:
        """What a subscriber is told of it."""
        return {
            "x-verdict": self.decision.verdict,
            "x-verdict-source": self.decision.origin,
            "x-decision-ms": f"{self.seconds * 1000:.3f}",
        }


ALLOWED = Decision(reply=Allow(), source=DEFAULT)


class Policy:
    """What each before callback is answered.

    Args:
        decisions: Those about callbacks that are not simply allowed.

    """

    def __init__(self, decisions: Mapping[type[Event], Decision] | None = None) -> None:
        self._decisions = decisions or {}

    def decide(self, event: type[Event], fields: Mapping[str, object]) -> Decided:
        """Decide about a callback.

        Args:
            event: Which one.
            fields: The JSON fields of its body.

        """
        started = perf_counter()
        problem = ""
        decision = self._decisions.get(event, ALLOWED)
        try:
            body = answer(decision.reply, event, fields)
        except BadReply as error:
            problem = str(error)
            decision = Decision(reply=Allow(), source=FALLBACK, name=decision.name)
            body = answer(decision.reply, event, fields)
        return Decided(
            decision=decision, body=body, seconds=perf_counter() - started, problem=problem
        )
