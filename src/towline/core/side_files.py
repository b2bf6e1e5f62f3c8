"""Files in which a training writes its metrics: bytes in, progress out.

A reader is found by a file's name. It takes what was appended in any pieces, or the whole file
where that is rewritten each time. Content that is not what the name promises yields nothing.
"""

from __future__ import annotations

import csv
import math
from fnmatch import fnmatchcase
from typing import Any, Protocol

from towline.core.progress import Progress
from towline.core.side_events import EventReader
from towline.core.side_json import CatBoostReader, JsonLinesReader, TrainerStateReader
from towline.core.side_lines import LineReader, is_number, whole_number

#: patterns of file names, the most trusted first
SIDE_NAMES = (
    "results.csv", "metrics.csv", "metrics.json", "metrics.jsonl", "scalars.json",
    "trainer_state.json", "summary.csv", "history.csv", "training.csv", "training_log.csv",
    "train_log.csv", "log_history.csv", "log_history.jsonl", "log.csv", "catboost_training.json",
    "events.out.tfevents*",
)  # fmt: skip
_STEPS = ("step", "global_step", "iteration", "iter")
_ELAPSED = ("time", "elapsed")
_PLACES = frozenset(("epoch", *_STEPS, *_ELAPSED))


class SideReader(Protocol):
    """Reads one file; ``whole`` says whether it is given whole each time it changes."""

    whole: bool

    def feed(self, data: bytes) -> list[Progress]:
        """Take what was appended, or the whole file."""

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""


def reader(path: str, state: dict[str, Any] | None = None) -> SideReader | None:
    """A reader for a file by its name, None when it is no side file."""
    name = path.rpartition("/")[2]
    if not any(fnmatchcase(name, pattern) for pattern in SIDE_NAMES):
        return None
    state = state or {}
    if name == "trainer_state.json":
        return TrainerStateReader(state)
    if name == "catboost_training.json":
        return CatBoostReader(state)
    if name.startswith("events.out.tfevents"):
        return EventReader(path, state)
    if name.endswith((".json", ".jsonl")):
        return JsonLinesReader(name, state)
    return CsvReader(name, state)


class CsvReader(LineReader):
    """Rows under a header; a header without an epoch or step is none of a training's."""

    whole = False

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        super().__init__(state)
        self._name = name
        self._header: list[str] | None = state.get("header")
        self._mark: str = state.get("mark") or ""
        self._base: int | None = state.get("base")  # what is added to an epoch

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return super().state() | {"header": self._header, "mark": self._mark, "base": self._base}

    def line(self, text: str) -> Progress | None:
        """Read one row."""
        if self._header is None:
            self._mark = next((mark for mark in (",", ";", "\t") if mark in text), ",")
        try:
            cells = [cell.strip() for cell in next(csv.reader([text], delimiter=self._mark), [])]
        except csv.Error:
            return None
        if self._header is None:
            self._header = cells if cells != [""] else None
            return None
        names = [name.lower() for name in self._header]
        if not any(name in ("epoch", *_STEPS) for name in names):
            return None
        return self._row(
            dict(zip(names, cells, strict=False)), dict(zip(self._header, cells, strict=False))
        )

    def _row(self, places: dict[str, str], cells: dict[str, str]) -> Progress | None:
        values = {
            name: float(cell) if math.isfinite(float(cell)) else None
            for name, cell in cells.items()
            if name and name.lower() not in _PLACES and is_number(cell)
        }
        epoch = whole_number(places.get("epoch"))
        step = next((whole_number(places[name]) for name in _STEPS if name in places), None)
        if not values or (epoch is None and step is None):
            return None
        is_lightning = self._name == "metrics.csv" and "step" in places and "epoch" in places
        if epoch is not None and self._base is None:
            self._base = 1 if epoch == 0 or is_lightning else 0  # who starts at 0 counts from 0
        return Progress(
            epoch=None if epoch is None else epoch + (self._base or 0),
            step=step + 1 if step is not None and is_lightning else step,
            metrics=values,
            source=self._name,
        )
