"""Plots as SVG, drawn here so that they need no script and stand still without one."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TypeAlias

from markupsafe import Markup, escape

WIDTH, HEIGHT, BOTTOM, LEFT = 330, 104, 20, 36
"""Of a plot, in its own units; the browser makes it as wide as there is room."""

POINTS = 160
"""Points of a line, at most."""

Point: TypeAlias = tuple[float, float | None]
"""A time and a value; None where there was none."""

Line: TypeAlias = tuple[str, Sequence[Point]]
"""What it is called, and where it goes."""


def plot(title: str, unit: str, lines: Sequence[Line], *, least: float = 1.0) -> Markup:
    """Draw lines over time, with a sentence for who cannot see them.

    Args:
        title: What is drawn.
        unit: Of the values.
        lines: What to draw; all over the same time.
        least: What the scale goes up to at least.

    """
    thinned = [(name, _thinned(points)) for name, points in lines]
    values = [value for _, points in thinned for _, value in points if value is not None]
    times = [at for _, points in thinned for at, _ in points]
    begin, end = (min(times), max(times)) if times else (0.0, 1.0)
    top = _rounded(max([least, *values]))
    drawn = Markup("").join(
        _path(number, points, begin, max(end, begin + 1), top)
        for number, (_, points) in enumerate(thinned)
    )
    return Markup(
        '<svg class="plot" viewBox="0 0 {w} {h}" role="img" aria-label="{label}">'
        "{grid}{drawn}{times}</svg>"
    ).format(
        w=WIDTH,
        h=HEIGHT + BOTTOM,
        label=_in_words(title, unit, thinned),
        grid=_grid(top),
        drawn=drawn,
        times=_times(begin, end) if times else "",
    )


def _in_words(title: str, unit: str, lines: Sequence[Line]) -> str:
    parts = []
    for name, points in lines:
        values = [value for _, value in points if value is not None]
        if values:
            parts.append(f"{name} now {short(values[-1])}, at most {short(max(values))} {unit}")
    return f"{title}: {'; '.join(parts) or 'nothing yet'}"


def _thinned(points: Sequence[Point]) -> list[Point]:
    """Give no more points than can be told apart: of those that are one, the largest."""
    step = max(1, -(-len(points) // POINTS))
    groups = [points[at : at + step] for at in range(0, len(points), step)]
    return [(group[-1][0], _largest(value for _, value in group)) for group in groups]


def _largest(values: Iterable[float | None]) -> float | None:
    return max((value for value in values if value is not None), default=None)


def _rounded(value: float) -> float:
    """Give the next number that is good to read on a scale."""
    power = 1.0
    while power * 10 <= value:
        power *= 10
    while power > value:
        power /= 10
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= value)


def _path(number: int, points: Sequence[Point], begin: float, end: float, top: float) -> Markup:
    words, pen = [], "M"
    for at, value in points:
        if value is None:
            pen = "M"
            continue
        x = LEFT + (at - begin) / (end - begin) * (WIDTH - LEFT)
        y = HEIGHT - min(value / top, 1) * (HEIGHT - 8)
        words.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    # A point alone would not be seen.
    words += ["l.1 0"] if len(words) == 1 else []
    return Markup('<path class="line line-{}" d="{}"/>').format(number, " ".join(words))


def _grid(top: float) -> Markup:
    rows = Markup("")
    for share in (0, 0.5, 1):
        y = HEIGHT - share * (HEIGHT - 8)
        rows += Markup(
            '<path class="rule" d="M{left} {y}H{right}"/>'
            '<text class="scale" x="{x}" y="{base}" text-anchor="end">{value}</text>'
        ).format(left=LEFT, right=WIDTH, y=y, x=LEFT - 6, base=y + 4, value=short(share * top))
    return rows


def _times(begin: float, end: float) -> Markup:
    marks = Markup("")
    for share, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        at = datetime.fromtimestamp(begin + share * (end - begin), UTC)
        marks += Markup('<text class="scale" x="{}" y="{}" text-anchor="{}">{}</text>').format(
            LEFT + share * (WIDTH - LEFT),
            HEIGHT + BOTTOM - 3,
            anchor,
            escape(f"{at:%H:%M:%S}" if end - begin < 3600 else f"{at:%H:%M}"),  # noqa: PLR2004
        )
    return marks


def short(value: float) -> str:
    """Write a number in few characters."""
    if value >= 1_000_000:  # noqa: PLR2004
        return f"{value / 1_000_000:.3g}M"
    if value >= 10_000:  # noqa: PLR2004
        return f"{value / 1000:.3g}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"  # noqa: PLR2004
