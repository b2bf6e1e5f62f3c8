"""How a look at a dataset is shown: by `plan`, and by `train` before anything is rented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from towline.core.units import count_text

_MOST_CLASSES = 12
_MOST_FINDINGS = 12
_NAMES = {
    "yolo": "YOLO",
    "classes": "class folders",
    "coco": "COCO annotations",
    "table": "table",
    "text": "texts",
    "pictures": "pictures without labels",
}
_THINGS = {"pictures": "picture", "rows": "row", "files": "file"}


def dataset_lines(found: dict[str, Any]) -> list[str]:
    """The dataset in a few lines; [] for one of no known kind in which nothing is wrong."""
    if found["kind"] == "files" and not found["findings"]:
        return []
    return [*_what(found), *found["notes"], *_findings(found["findings"])]


def _what(found: dict[str, Any]) -> Iterator[str]:
    kind = _NAMES.get(found["kind"])
    if kind is None:
        return
    task = f" {found['task']}" if found["task"] else ""
    classes = (
        f", {count_text(len(found['classes']), 'class', 'classes')}" if found["classes"] else ""
    )
    yield f"{kind}{task}{classes}"
    for split, row in found["splits"].items():
        amount = ", ".join(count_text(row[k], one) for k, one in _THINGS.items() if k in row)
        yield f"{split}: {amount}{_by_class(row.get('classes') or {})}"


def _by_class(counts: dict[str, int]) -> str:
    shown = [f"{name} {count:,}" for name, count in list(counts.items())[:_MOST_CLASSES]]
    more = f", and {len(counts) - _MOST_CLASSES} more" if len(counts) > _MOST_CLASSES else ""
    return f" ({', '.join(shown)}{more})" if shown else ""


def _findings(findings: list[dict[str, Any]]) -> Iterator[str]:
    for one in findings[:_MOST_FINDINGS]:
        line = f":{one['line']}" if one["line"] else ""
        place = f"{one['path']}{line}: " if one["path"] else ""
        yield f"warning: {place}{one['text']}"
    if len(findings) > _MOST_FINDINGS:
        yield f"and {len(findings) - _MOST_FINDINGS} more warnings; `towline plan --json` lists them"
