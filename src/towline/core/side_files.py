"""Files in which a training writes its metrics: bytes in, progress out."""

from __future__ import annotations

import csv
import math
from typing import Any, Protocol

from towline.core.progress import Progress

#: patterns of file names, the most trusted first
SIDE_NAMES = ("results.csv", "metrics.csv", "summary.csv")
_LINE_LIMIT = 64 * 1024


class SideReader(Protocol):
    """Reads one file; `whole` says whether it is given whole each time it changes."""

    whole: bool

    def feed(self, data: bytes) -> list[Progress]:
        """Take what was appended, or the whole file."""

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""


def reader(path: str, state: dict[str, Any] | None = None) -> SideReader | None:
    """A reader for a file by its name, None when it is no side file."""
    name = path.rpartition("/")[2]
    return _Csv(name, state or {}) if name in SIDE_NAMES else None


class _Csv:
    """Rows under a header; the columns epoch and step say where a row belongs."""

    whole = False

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        self._name = name
        self._rest = str(state.get("rest", "")).encode("latin-1")
        self._header: list[str] | None = state.get("header")

    def state(self) -> dict[str, Any]:
        return {"rest": self._rest.decode("latin-1"), "header": self._header}

    def feed(self, data: bytes) -> list[Progress]:
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[-_LINE_LIMIT:]
        rows = [self._row(line.decode("utf-8", "replace")) for line in lines]
        return [row for row in rows if row is not None]

    def _row(self, line: str) -> Progress | None:
        try:
            cells = [cell.strip() for cell in next(csv.reader([line]), [])]
        except csv.Error:
            return None
        if self._header is None:
            self._header = cells or None
            return None
        values = {
            name: _number(cell) for name, cell in zip(self._header, cells, strict=False) if cell
        }
        place = {name: values.pop(name, None) for name in ("epoch", "step")}
        values.pop("time", None)
        if not values:
            return None
        epoch, step = (None if one is None else int(one) for one in place.values())
        return Progress(epoch=epoch, metrics=values, step=step, source=self._name)


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
