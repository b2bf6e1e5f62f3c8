"""Ultralytics' table, and YOLOv5's and YOLOv7's, which count from 0.

The header names the columns; nothing else does, for they differ by task and model.
"""

from __future__ import annotations

import itertools
import re

from towline.core.reading import NUMBER, Memory, Progress, Seen, number, part, share

_HEADER = re.compile(r"^\s*Epoch\s+(gpu_mem|GPU_mem)\s+(\S.*)$")
_ROW = re.compile(r"^\s*(\d{1,9})/(\d{1,9})\s+[\d.]+[KMGT]?B?\s+(\S.*)$", re.ASCII)
_BAR = re.compile(
    r":\s*(\d{1,3})%[^\d]{1,80}?(\d{1,9})/(\d{1,9})"
    r"(?:\s+[\d.?]+\S*\s+|\s*\[)([\d.:hms]+)?(?:<([\d.:hms?]+))?[^\n]*?",
    re.ASCII,
)
_VAL = re.compile(r"^\s*(?:Class\s+Images\s+\S+|classes)\s+(\S.*?)(?:\s*:\s*\d{1,3}%.*)?$")
_ALL = re.compile(r"^\s*all((?:\s+" + NUMBER + r"){2,40})\s*$", re.ASCII)
_OVER = re.compile(r"epochs completed in |^EarlyStopping|^Validating \S+best\.pt")
_NAMES = {"P": "precision", "R": "recall", "mAP50-95)": "mAP50-95", "mAP@.5": "mAP50",
          "mAP@.5:.95:": "mAP50-95", "mAP@.5:.95": "mAP50-95"}  # fmt: skip
_COLUMN = re.compile(r"[A-Za-z][\w.@:-]*(?:\(\w+)?\)?:?$", re.ASCII)
_GROUP = re.compile(r"^(\w+)\((\w+)$")


def read(line: str, memory: Memory) -> list[Seen] | None:
    """Read a header, a row of a training's epoch, or a validation's row."""
    if "_mem " in line and (header := _HEADER.match(line)):
        return _start(header, memory)
    table = memory.get("ultralytics")
    if table is None:
        return None
    if "/" in line[:24] and (row := _ROW.match(line)):
        return _row(row, table)
    if "lass" in line and (columns := _VAL.match(line)):
        table["val"] = _val_columns(columns[1])
        table["skip"] = 0 if line.lstrip().startswith("classes") else 2  # images and instances
        return []
    if "all " in line and (values := _ALL.match(line)) and table["val"]:
        return _validated(values[1].split(), table)
    if _OVER.search(line):
        table["epoch"] = None  # what is validated from here on is the best model
    return None


def _start(header: re.Match[str], memory: Memory) -> list[Seen]:
    columns = [name for name in header[2].split() if len(name) <= 40][:40]
    table = memory.get("ultralytics") or {"val": [], "epoch": None, "total": None, "base": 0}
    is_yolo5 = header[1] == "gpu_mem" or bool({"obj", "obj_loss"} & set(columns))
    memory["ultralytics"] = table | {"columns": columns, "base": int(is_yolo5) or table["base"]}
    return []


def _row(row: re.Match[str], table: Memory) -> list[Seen]:
    epoch, total, rest = int(row[1]), int(row[2]), row[3]
    if epoch == 0:
        table["base"] = 1
    epoch, total = epoch + table["base"], total + table["base"]
    table["epoch"], table["total"] = epoch, total
    bar = _BAR.search(rest)
    step, whole = (int(bar[2]), int(bar[3])) if bar else (None, None)
    values = (rest[: bar.start()] if bar else rest).split()
    metrics = {
        name: number(value)
        for name, value in zip(table["columns"], values, strict=False)
        if name.lower() not in ("instances", "size", "labels", "img_size") and _is_number(value)
    }
    progress = Progress(
        epoch=epoch,
        total_epochs=total,
        step=step,
        total_steps=whole,
        fraction=share(epoch, total, part(step or 0, whole or 0)),
        metrics={f"train/{name}": value for name, value in metrics.items()},
        source="ultralytics",
    )
    return [Seen(progress, frame=True)]


def _is_number(value: str) -> bool:
    return re.fullmatch(NUMBER, value) is not None


def _val_columns(text: str) -> list[str]:
    """Columns of the validation's header: `Box(P R mAP50 mAP50-95)`, and `Mask(P ...` beside it."""
    names: list[str] = []
    mark = ""
    for word in itertools.takewhile(_COLUMN.match, text.split()[:24]):
        plain = word
        if group := _GROUP.match(word):
            plain = group[2]
            mark = "" if group[1] == "Box" else f"({group[1][0]})"
        names.append(_NAMES.get(plain, plain.rstrip(":)")) + mark)
    return names


def _validated(values: list[str], table: Memory) -> list[Seen]:
    """The row of all classes; it stands for the epoch that was trained last."""
    if table["epoch"] is None:
        return []
    values = values[table["skip"] :]
    progress = Progress(
        epoch=table["epoch"],
        total_epochs=table["total"],
        fraction=share(table["epoch"], table["total"]),
        metrics=dict(zip(table["val"], map(number, values), strict=False)),
        source="ultralytics",
    )
    return [Seen(progress)]
