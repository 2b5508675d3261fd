"""From a before callback to a verdict, its source and the body that says it to OpenIM.

A decision never fails and never waits for anything: when there is none that could be said in
time, OpenIM goes on, and the problem is reported.
"""

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import NamedTuple, TypeAlias

from bridge.contract import Allow, BadReply, Event, Refuse, Reply, answer
from bridge.policy.limits import Limit
from bridge.policy.paths import Found, Read

DEFAULT, POLICY, RULE, HANDLER, FALLBACK = (
    "default",
    "policy",
    "rule",
    "handler",
    "fallback",
)
SOURCES: Mapping[str, str] = {
    DEFAULT: "the policy says nothing about this callback, so it is allowed",
    POLICY: "the table of this callback, as no rule applied",
    RULE: "a rule, which is named",
    HANDLER: "a decision handler, which is named",
    FALLBACK: "there is no decision: no handler gave one, and why is named; or the verdict"
    " could not be said to this callback, or the rules took longer than half a second",
}
"""Where a verdict comes from, and what that means."""

LONGEST = 0.5
"""Seconds after which no further rule is looked at: nobody else is answered meanwhile."""

LimitKey: TypeAlias = tuple[str, Hashable]
"""The name of a limit's rule, and what the limit says."""

ALLOW, REFUSE, CHANGE = VERDICTS = ("allow", "refuse", "change")


class TooSlow(Exception):
    """Deciding took too long; OpenIM must be answered without a decision."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to say to OpenIM, and why."""

    reply: Reply
    source: str
    """One of SOURCES."""
    name: str = ""
    """Which of several of that source."""

    @cached_property
    def verdict(self) -> str:
        """One of VERDICTS."""
        if isinstance(self.reply, Allow):
            return ALLOW
        return REFUSE if isinstance(self.reply, Refuse) else CHANGE

    @property
    def origin(self) -> str:
        """Source and name in one text."""
        return f"{self.source}:{self.name}" if self.name else self.source


class Decided(NamedTuple):
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


@dataclass(frozen=True, kw_only=True)
class Question:
    """What decision handlers are asked, instead of a decision."""

    within: float
    """Seconds until OpenIM is answered in any case."""
    otherwise: Allow | Refuse
    """What it is answered if nobody has decided by then."""
    origin: str = ""
    """Who asks: source and name, as of a decision."""


ALLOWED = Decision(reply=Allow(), source=DEFAULT)


class Condition(NamedTuple):
    """Something that must hold for a rule to apply."""

    read: Read
    test: Callable[[Found], bool]


class Limited(NamedTuple):
    """A limit, and where to read who is limited."""

    read: Read
    limit: Limit

    def exceeded(self, fields: Mapping[str, object]) -> bool:
        """Count a callback; say whether its user has none left."""
        found = self.read(fields)
        return bool(found) and self.limit.exceeded(str(found[0]))


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A verdict about some callbacks."""

    conditions: tuple[Condition, ...]
    limited: Limited | None
    verdict: Decision | Question

    def applies(self, fields: Mapping[str, object]) -> bool:
        """Say whether it is about a callback; what gets as far as its limit is counted."""
        for condition in self.conditions:
            if not condition.test(condition.read(fields)):
                return False
        return self.limited is None or self.limited.exceeded(fields)


@dataclass(frozen=True, kw_only=True)
class Ruling:
    """How one callback is decided about."""

    rules: tuple[Rule, ...] = ()
    """The first that applies decides."""
    otherwise: Decision | Question = ALLOWED

    def verdict(self, event: type[Event], fields: Mapping[str, object]) -> Decision | Question:
        """Give the decision about a callback, or whom to ask for it.

        Raises:
            TooSlow: the rules took too long.

        """
        if self.rules:
            latest = perf_counter() + LONGEST
            spelled = event.in_wire_names(fields)
            for rule in self.rules:
                if rule.applies(spelled):
                    return rule.verdict
                if perf_counter() > latest:
                    raise TooSlow(f"its rules took longer than {LONGEST} s")
        return self.otherwise


class Policy:
    """What each before callback is answered.

    Args:
        rulings: Those for callbacks that are not simply allowed.
        limits: The limits in them, by what they say.

    """

    def __init__(
        self,
        rulings: Mapping[type[Event], Ruling] | None = None,
        limits: Mapping[LimitKey, Limit] | None = None,
    ) -> None:
        self.rulings = rulings or {}
        self.limits = limits or {}

    @property
    def asks(self) -> bool:
        """Whether decision handlers are asked about anything."""
        verdicts = (
            each
            for ruling in self.rulings.values()
            for each in (ruling.otherwise, *(rule.verdict for rule in ruling.rules))
        )
        return any(isinstance(each, Question) for each in verdicts)

    def decide(self, case: "Case") -> Decided | Question:
        """Decide about a callback, or say that decision handlers have to."""
        try:
            ruling = self.rulings.get(case.event, _ALLOWING)
            verdict = ruling.verdict(case.event, case.fields)
        except TooSlow as error:
            return case.undecided(Allow(), str(error))
        if isinstance(verdict, Question):
            return verdict
        return case.decided(verdict, Allow())


class Case:
    """A callback that is decided about, since now.

    Args:
        event: Which one.
        fields: The JSON fields of its body.

    """

    def __init__(self, event: type[Event], fields: Mapping[str, object]) -> None:
        self.event = event
        self.fields = fields
        self._started = perf_counter()

    def decided(self, decision: Decision, otherwise: Allow | Refuse) -> Decided:
        """Put a decision into OpenIM's words; `otherwise`, if it has none for it."""
        try:
            body = answer(decision.reply, self.event, self.fields)
        except BadReply as error:
            return self.undecided(otherwise, str(error))
        return Decided(decision=decision, body=body, seconds=perf_counter() - self._started)

    def undecided(self, otherwise: Allow | Refuse, problem: str, name: str = "") -> Decided:
        """Put `otherwise` into OpenIM's words, as there is no decision.

        Args:
            otherwise: What to say.
            problem: Why there is none, for people.
            name: The same in a word.

        """
        return Decided(
            decision=Decision(reply=otherwise, source=FALLBACK, name=name),
            body=answer(otherwise, self.event, self.fields),
            seconds=perf_counter() - self._started,
            problem=problem,
        )


_ALLOWING = Ruling()
