"""Towline's own line: `{"type": "progress", "data": {...}}`."""

from __future__ import annotations

import json
from typing import Any

from towline.core.reading import MOST_COUNT, Progress, Seen, number


def read(line: str) -> Seen | None:
    """Read the line; None when it is not towline's."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None  # not ours: just a line that begins with a brace
    data = (
        value.get("data") if isinstance(value, dict) and value.get("type") == "progress" else None
    )
    if not isinstance(data, dict):
        return None
    metrics = data.get("metrics")
    fraction, eta_s = _amount(data.get("fraction")), _amount(data.get("eta_s"))
    return Seen(
        Progress(
            epoch=_count(data.get("epoch")),
            total_epochs=_count(data.get("total_epochs")),
            step=_count(data.get("step")),
            total_steps=_count(data.get("total_steps")),
            fraction=fraction if fraction is not None and fraction <= 1.0 else None,
            eta_s=eta_s,
            metrics=metrics_of(metrics if isinstance(metrics, dict) else {}),
            source="towline",
        )
    )


def metrics_of(values: dict[Any, Any]) -> dict[str, float | None]:
    """The numbers of a JSON object; what is no number is left out."""
    return {
        str(name).encode("utf-8", "replace").decode(): number(str(value))  # "\\ud800" is no text
        for name, value in values.items()
        if isinstance(value, int | float | str) and _is_number(value)
    }


def _is_number(value: float | str) -> bool:
    try:
        float(value)
    except (ValueError, OverflowError):
        return False
    return not isinstance(value, bool)


def _count(value: Any) -> int | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    return int(value) if ok and 0 <= value < MOST_COUNT else None


def _amount(value: Any) -> float | None:
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if ok and 0 <= value < MOST_COUNT else None
