"""A small line chart in text: braille dots where the terminal has them, else stars."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # by row and column of a cell
_BRAILLE = 0x2800
_LEAST_WIDTH, _MARGIN = 10, 2

Point = tuple[float, float]


def chart(
    title: str, points: Sequence[Point], width: int, height: int = 8, *, plain: bool = False
) -> list[str]:
    """Draw points, which are sorted by x, as lines of text with the ends of both axes.

    Args:
        title: What is drawn.
        points: (x, y) pairs, all finite.
        width: Columns that there are in all.
        height: Lines of the drawing itself.
        plain: Use ASCII only.
    """
    low, high = (edge(y for _x, y in points) for edge in (min, max))
    labels = [format(high, ".4g"), format(low, ".4g")]
    margin = max(len(label) for label in labels)
    room = max(_LEAST_WIDTH, width - margin - _MARGIN)
    across, down = (room, height) if plain else (room * 2, height * 4)
    dots = _line([(_scaled(x, points[0][0], points[-1][0], across),
                   down - 1 - _scaled(y, low, high, down)) for x, y in points])  # fmt: skip
    lines = _stars(dots, room, height) if plain else _braille(dots, room, height)
    left = [labels[0], *[""] * (height - 2), labels[1]]
    bar = "|" if plain else "│"
    drawn = [f"{label:>{margin}} {bar}{line}" for label, line in zip(left, lines, strict=True)]
    first, last = (format(x, ".6g") for x in (points[0][0], points[-1][0]))
    below = " " * (margin + _MARGIN) + first + last.rjust(max(1, room - len(first)))
    return [" " * (margin + _MARGIN) + title, *(one.rstrip() for one in drawn), below]


def _scaled(value: float, low: float, high: float, size: int) -> int:
    """Where a value lies on an axis of so many dots."""
    if high <= low:
        return size // 2 if low == high else 0
    share = value / 2 / (high / 2 - low / 2) - low / 2 / (high / 2 - low / 2)
    return min(size - 1, max(0, round(share * (size - 1))))


def _line(places: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """All dots of the lines between neighbours."""
    dots = set(places)
    for (x0, y0), (x1, y1) in itertools.pairwise(places):
        steps = max(abs(x1 - x0), abs(y1 - y0))
        for at in range(1, steps):
            dots.add((x0 + round((x1 - x0) * at / steps), y0 + round((y1 - y0) * at / steps)))
    return dots


def _braille(dots: set[tuple[int, int]], width: int, height: int) -> list[str]:
    cells = [[0] * width for _ in range(height)]
    for x, y in dots:
        cells[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
    return ["".join(chr(_BRAILLE + bits) if bits else " " for bits in row) for row in cells]


def _stars(dots: set[tuple[int, int]], width: int, height: int) -> list[str]:
    return ["".join("*" if (x, y) in dots else " " for x in range(width)) for y in range(height)]
