"""The figures of all rounds, and the lines of the table made of them."""

import statistics
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Figures:
    """What was measured, round by round."""

    results: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, value: float) -> None:
        """Add one round's figure."""
        self.results.setdefault(name, []).append(value)

    def median(self, name: str) -> float:
        """Give the median of the rounds."""
        return statistics.median(self.results[name])


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Args:
        what: What was measured.
        figure: The figure, with its unit.
        ratio: What it is compared with.
        bar: What is to be reached, and whether it is.

    """

    what: str
    figure: str
    ratio: str = ""
    bar: tuple[str, bool] = ("", True)

    def __str__(self) -> str:
        """Give the line; a bar that was missed is bold."""
        bar, reached = self.bar
        shown = bar if reached else f"**{bar}**"
        return f"| {self.what} | {self.figure} | {self.ratio} | {shown} |"


def most(limit: float, *values: float) -> tuple[str, bool]:
    """Give the bar that no value may be above."""
    return f"≤ {limit:g}", max(values) <= limit


def least(limit: float, value: float) -> tuple[str, bool]:
    """Give the bar that the value may not be below."""
    return f"≥ {limit:g}", value >= limit


def both(first: tuple[str, bool], second: tuple[str, bool]) -> tuple[str, bool]:
    """Give two bars in one cell."""
    return f"{first[0]}, {second[0]}", first[1] and second[1]
