"""What the grammars of progress have in common: their result, and small readers of numbers.

Pure. A grammar is a list of rules: a piece of ASCII text that its lines have, and a function that reads
such a line. It gets the clean line and a small JSON mapping that it may write to; it returns what
it saw, None when the line is not its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

NUMBER = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|\.\d+(?:[eE][-+]?\d+)?|nan|NaN|inf|Infinity)"
MOST_COUNT = 10**9
#: words before a metric's name, and how they are written in it
PHASES = {
    "training": "train", "train": "train", "validation": "val", "valid": "val", "val": "val",
    "testing": "test", "test": "test", "eval": "eval",
}  # fmt: skip
_PHASES = "|".join(f"[{word[0].upper()}{word[0]}]{word[1:]}" for word in PHASES)
_PAIR = re.compile(
    r"(?<![\w.-])(?:("
    + _PHASES
    + r") +)?([A-Za-z][\w./@-]{0,119})\s*[=:]\s*("
    + NUMBER
    + r")(?![\w/:.-]*[\w/:])",
    re.ASCII,
)
_CLOCK = re.compile(r"(?:(\d{1,5}) days?, *)?(\d{1,7}):(\d\d)(?::(\d\d))?$", re.ASCII)
_NO_METRICS = frozenset({
    "epoch", "epochs", "step", "steps", "iter", "iteration", "batch", "eta", "time", "data", "v_num",
    "data_time", "max_mem", "memory", "max", "mem", "elapsed", "total_time", "seed", "rank", "gpu",
    "rate", "remaining", "total", "world_size", "device", "pid", "line", "http", "https", "file",
})  # fmt: skip

Memory = dict[str, Any]


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

    def with_metrics(self, metrics: dict[str, float | None]) -> Progress:
        """The same report with other figures."""
        return Progress(
            epoch=self.epoch,
            total_epochs=self.total_epochs,
            step=self.step,
            total_steps=self.total_steps,
            fraction=self.fraction,
            eta_s=self.eta_s,
            metrics=metrics,
            at=self.at,
            source=self.source,
        )


class Seen(NamedTuple):
    """What a grammar read out of a line.

    ``frame`` is for what is redrawn or repeated while an epoch lasts: the next one takes its place.
    What is no frame are figures that stand: of an epoch that is over, of a validation.
    ``elapsed_s`` is how long the bar has been there, where it says so.
    """

    progress: Progress
    frame: bool = False
    elapsed_s: float | None = None


Rule = tuple[str, Callable[[str, Memory], list[Seen] | None]]


def number(text: str) -> float | None:
    """A number as it is printed; None for nan, inf and what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


@lru_cache(maxsize=4096)
def count(text: str) -> int:
    """A count as bars print it: `12`, `1.2k`, `3M`."""
    scale = {"k": 1000, "K": 1000, "M": 10**6, "G": 10**9}.get(text[-1:])
    value = float(text[:-1]) * scale if scale else float(text)
    return int(min(value, MOST_COUNT))


def pairs(text: str) -> dict[str, float | None]:
    """All `name=value` and `name: value` of a text that can be metrics; `Val Loss: v` is `val_loss`."""
    found: dict[str, float | None] = {}
    for phase, name, value in _PAIR.findall(text):
        if phase:
            found[f"{PHASES[phase.lower()]}_{name.lower()}"] = number(value)
        elif name.lower() not in _NO_METRICS:
            found[name] = number(value)
    return found


@lru_cache(maxsize=4096)
def seconds(text: str) -> float | None:
    """A duration as bars and loggers print it: `MM:SS`, `H:MM:SS`, `1 day, H:MM:SS`."""
    found = _CLOCK.fullmatch(text.strip())
    if not found:
        return None
    days, first, second, third = (int(part or 0) for part in found.groups())
    if found[4] is None:
        return days * 86_400.0 + first * 60 + second
    return days * 86_400.0 + first * 3600 + second * 60 + third


def share(epoch: int, total: int | None, part: float = 1.0) -> float | None:
    """How much of a training is done when `part` of this epoch is."""
    if not total or epoch > total:
        return None
    return max(0.0, min(1.0, (epoch - 1 + part) / total))


def part(done: int, whole: int) -> float:
    """How much of a bar is done, 0..1."""
    return max(0.0, min(1.0, done / whole)) if whole else 0.0


def counted(memory: Memory, name: str, epoch: int) -> int:
    """An epoch counted from 1, of a framework or script whose first number tells its base."""
    bases = memory.setdefault("bases", {})
    if epoch == 0:
        bases[name] = 1
    return epoch + int(bases.setdefault(name, 0))
