"""Side files in JSON: lines of objects, the Hugging Face trainer's state, CatBoost's log."""

from __future__ import annotations

import json
import math
from typing import Any

from towline.core.progress import Progress
from towline.core.side_lines import LineReader, is_number, whole_number

_STEPS = ("step", "global_step", "iter", "iteration")
_NOT_METRICS = frozenset(("epoch", *_STEPS, "total_flos", "mode"))


class JsonLinesReader(LineReader):
    """One object a line: Detectron2, MMEngine, and many people's own."""

    whole = False

    def __init__(self, name: str, state: dict[str, Any]) -> None:
        super().__init__(state)
        self._name = name
        self._by_epoch = bool(state.get("by_epoch"))  # MMEngine: a validation's "step" is an epoch

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return super().state() | {"by_epoch": self._by_epoch}

    def line(self, text: str) -> Progress | None:
        """Read one object."""
        row = _object(text.rstrip(","))
        metrics = _metrics(row)
        if not metrics:
            return None
        epoch = whole_number(row.get("epoch"))
        step = next((whole_number(row[name]) for name in _STEPS if name in row), None)
        if "iter" in row and epoch is not None:
            self._by_epoch = True
        elif self._by_epoch and epoch is None:
            epoch, step = step, None
        if epoch is None and step is None and self._name.endswith(".json"):
            return None  # a summary of the whole training, as many write it at the end
        if step is not None and "iteration" in row:
            step += 1  # Detectron2 counts from 0
        return Progress(epoch=epoch, step=step, metrics=metrics, source=self._name)


class TrainerStateReader:
    """Hugging Face's trainer_state.json: written whole with each checkpoint."""

    whole = True

    def __init__(self, state: dict[str, Any]) -> None:
        self._seen = int(state.get("seen", 0))

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return {"seen": self._seen}

    def feed(self, data: bytes) -> list[Progress]:
        """Take the whole file; what was not in it last time is new."""
        value = _object(data.decode("utf-8", "replace"))
        history = value.get("log_history")
        if not isinstance(history, list):
            return []
        fresh = history[self._seen :] if len(history) >= self._seen else history
        self._seen = len(history)
        rows = [self._row(row, value) for row in fresh if isinstance(row, dict)]
        return [row for row in rows if row.metrics]

    def _row(self, row: dict[str, Any], value: dict[str, Any]) -> Progress:
        step, total = whole_number(row.get("step")), whole_number(value.get("max_steps"))
        epoch = _metrics({"at": row.get("epoch")}).get("at")  # a finite number, or None
        return Progress(
            epoch=None if epoch is None else max(1, math.ceil(epoch - 1e-6)),
            total_epochs=whole_number(value.get("num_train_epochs")),
            step=step,
            total_steps=total or None,
            fraction=min(1.0, step / total) if step is not None and total else None,
            metrics=_metrics(row),
            source="trainer_state.json",
        )


class CatBoostReader(LineReader):
    """catboost_training.json: an object that is closed at the end only, but has lines."""

    whole = False

    def __init__(self, state: dict[str, Any]) -> None:
        super().__init__(state)
        self._total: int | None = state.get("total")
        self._names: dict[str, list[str]] = state.get("names") or {}

    def state(self) -> dict[str, Any]:
        """What a fresh reader needs to go on."""
        return super().state() | {"total": self._total, "names": self._names}

    def line(self, text: str) -> Progress | None:
        """Read the head, or one iteration."""
        text = text.rstrip(",")
        if text.startswith('"meta"'):
            self._head(_object("{" + text + "}").get("meta"))
            return None
        row = _object(text)
        at = whole_number(row.get("iteration"))
        if at is None:
            return None
        left = row.get("remaining_time")
        return Progress(
            epoch=at + 1,
            total_epochs=self._total,
            fraction=min(1.0, (at + 1) / self._total) if self._total else None,
            eta_s=float(left) if isinstance(left, int | float) and math.isfinite(left) else None,
            metrics=self._values(row),
            source="catboost_training.json",
        )

    def _head(self, meta: Any) -> None:
        if not isinstance(meta, dict):
            return
        self._total = whole_number(meta.get("iteration_count"))
        for kind in ("learn", "test"):
            metrics = meta.get(f"{kind}_metrics")
            named = metrics if isinstance(metrics, list) else []
            self._names[kind] = [str(one.get("name")) for one in named if isinstance(one, dict)]

    def _values(self, row: dict[str, Any]) -> dict[str, float | None]:
        """The first metric of a set goes by the set's name, as on the console."""
        values: dict[str, float | None] = {}
        for kind in ("learn", "test"):
            numbers = row.get(kind)
            for at, number in enumerate(numbers if isinstance(numbers, list) else []):
                names = self._names.get(kind, [])
                more = f"-{names[at] if at < len(names) else at}" if at else ""
                if is_number(number):
                    values[kind + more] = _finite(number)
        return values


def _object(text: str) -> dict[str, Any]:
    """A JSON object; {} of anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _metrics(row: dict[str, Any]) -> dict[str, float | None]:
    return {
        name.encode("utf-8", "replace").decode(): _finite(value)
        for name, value in row.items()
        if name not in _NOT_METRICS and isinstance(value, int | float) and is_number(value)
    }


def _finite(value: Any) -> float | None:
    number = float(value)
    return number if math.isfinite(number) else None
