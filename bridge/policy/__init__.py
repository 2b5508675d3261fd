"""What OpenIM's before callbacks are answered: the operator's policy, read from a file."""

from bridge.policy.deciding import (
    ALLOWED,
    DEFAULT,
    FALLBACK,
    POLICY,
    SOURCES,
    VERDICTS,
    Decided,
    Decision,
    Policy,
)
from bridge.policy.reading import read

__all__ = [
    "ALLOWED",
    "DEFAULT",
    "FALLBACK",
    "POLICY",
    "SOURCES",
    "VERDICTS",
    "Decided",
    "Decision",
    "Policy",
    "read",
]
