"""What OpenIM's before callbacks are answered: the operator's policy, read from a file."""

from bridge.policy.deciding import (
    ALLOWED,
    DEFAULT,
    FALLBACK,
    HANDLER,
    POLICY,
    SOURCES,
    VERDICTS,
    Case,
    Decided,
    Decision,
    Policy,
    Question,
)
from bridge.policy.reading import read

__all__ = [
    "ALLOWED",
    "DEFAULT",
    "FALLBACK",
    "HANDLER",
    "POLICY",
    "SOURCES",
    "VERDICTS",
    "Case",
    "Decided",
    "Decision",
    "Policy",
    "Question",
    "read",
]
