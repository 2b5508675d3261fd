"""What a check is, what comes of it, and how checks follow one another."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

State: TypeAlias = Literal["ok", "warning", "failed", "not tried"]


class Wrong(Exception):
    """What was looked at is not as it should be.

    Args:
        found: What is so.
        means: What that means for callbacks.
        remedy: What to do.
        warning: Whether callbacks still travel.

    """

    def __init__(self, found: str, *, means: str, remedy: str, warning: bool = False) -> None:
        super().__init__(found)
        self.found = found
        self.means = means
        self.remedy = remedy
        self.state: State = "warning" if warning else "failed"


class NotTried(Exception):
    """It could not be looked at; the message says why. Nothing else is amiss."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to look at."""

    name: str
    look: Callable[[], Awaitable[str]]
    """Gives what was found, or raises `Wrong` or `NotTried`."""
    needs: tuple[str, ...] = ()
    """Names of checks that must have gone well."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What came of a check."""

    check: str
    state: State
    found: str
    means: str = ""
    """What it means for callbacks, if something is wrong."""
    remedy: str = ""
    """What to do about it."""


async def examined(checks: Iterable[Check]) -> AsyncIterator[Finding]:
    """Give what comes of each check; what depends on one that failed is not tried."""
    undone: set[str] = set()
    for check in checks:
        lacking = [name for name in check.needs if name in undone]
        finding = (
            Finding(check=check.name, state="not tried", found=f"needs {lacking[0]}")
            if lacking
            else await _of(check)
        )
        if finding.state in {"failed", "not tried"}:
            undone.add(check.name)
        yield finding


async def _of(check: Check) -> Finding:
    try:
        found = await check.look()
    except Wrong as wrong:
        return Finding(
            check=check.name,
            state=wrong.state,
            found=wrong.found,
            means=wrong.means,
            remedy=wrong.remedy,
        )
    except NotTried as reason:
        return Finding(check=check.name, state="not tried", found=str(reason))
    except OSError as error:
        return Finding(
            check=check.name,
            state="failed",
            found=str(error),
            means="nobody can say how it is, nor use it as this user",
            remedy="let this user read it, or run this as the user of the process",
        )
    return Finding(check=check.name, state="ok", found=found)
