"""Read progress out of what a training prints: bytes in, events out.

Understands towline's JSON lines and the plain `epoch k/n name=value` habit. Unknown text is
nobody's error: it yields nothing.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import Any

_BREAK = re.compile(rb"[\r\n\b]+")
_LINE_LIMIT = 64 * 1024  # a longer line is no progress line
_TEXT_LIMIT = 4 * 1024  # nor is a longer one that is not JSON; it keeps the grammar's cost small
_MOST_EPOCHS = 10**9
_ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_EPOCH = re.compile(r"\bepochs?\s*[:=#\[(]*\s*(\d{1,9})\s*(?:/|of)\s*(\d{1,9})", re.IGNORECASE)
_METRIC = re.compile(
    r"(?<![A-Za-z])([A-Za-z][\w./@-]*)\s*[=:]\s*([-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+|nan|inf))(?![\w/:.])"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One report of a training: epochs count from 1; metrics by name, nan and inf as None."""

    epoch: int | None = None
    total_epochs: int | None = None
    step: int | None = None
    total_steps: int | None = None
    fraction: float | None = None
    eta_s: float | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    at: float | None = None
    source: str = ""

    def data(self) -> dict[str, Any]:
        """JSON form, as `events` and `status` show it."""
        return {field: getattr(self, field) for field in self.__dataclass_fields__}


class ProgressParser:
    """Feed it a log in any pieces."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False  # the line under way has been too long already

    def feed(self, data: bytes) -> list[Progress]:
        """Read the complete lines of what has come so far."""
        *lines, self._rest = _BREAK.split(self._rest + data)
        if lines and self._skipping:
            del lines[0]
            self._skipping = False
        if self._skipping or len(self._rest) > _LINE_LIMIT:
            self._skipping, self._rest = True, b""
        found = (parse_line(line) for line in lines if line)
        return [progress for progress in found if progress]

    @property
    def at_line_start(self) -> bool:
        """Whether a fresh parser could take over here."""
        return not self._rest and not self._skipping

    def flush(self) -> list[Progress]:
        """Read what the last line left without a break."""
        rest, self._rest, self._skipping = self._rest, b"", False
        progress = parse_line(rest)
        return [progress] if progress else []


def parse_line(raw: bytes) -> Progress | None:
    """Read one line; None when it reports no progress."""
    if not raw or len(raw) > _LINE_LIMIT:
        return None
    line = raw.decode("utf-8", "replace").strip()
    if line.startswith("{"):
        return _json_line(line)
    if len(line) > _TEXT_LIMIT:
        return None
    line = _ANSI.sub("", line)
    epoch = _EPOCH.search(line)
    if epoch is None:
        return None
    rest = line[: epoch.start()] + line[epoch.end() :]
    metrics = {name: _number(value) for name, value in _METRIC.findall(rest)}
    return Progress(epoch=int(epoch[1]), total_epochs=int(epoch[2]), metrics=metrics)


def _json_line(line: str) -> Progress | None:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None  # not ours: just a line that begins with a brace
    if not isinstance(value, dict) or value.get("type") != "progress":
        return None
    data = value.get("data")
    if not isinstance(data, dict):
        return None
    metrics = data.get("metrics")
    return Progress(
        epoch=_count(data.get("epoch")),
        total_epochs=_count(data.get("total_epochs")),
        metrics={
            name.encode("utf-8", "replace").decode(): _number(number)  # "\\ud800" is no text
            for name, number in (metrics if isinstance(metrics, dict) else {}).items()
            if isinstance(number, int | float | str) and _is_number(number)
        },
    )


def _count(value: Any) -> int | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if ok and 0 <= value < _MOST_EPOCHS else None


def _is_number(value: float | str) -> bool:
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return not isinstance(value, bool)


def _number(value: float | str) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
