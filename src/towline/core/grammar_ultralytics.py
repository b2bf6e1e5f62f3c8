"""Ultralytics' table, and YOLOv5's and YOLOv7's, which count from 0.

The header names the columns; nothing else does, for they differ by task and model.
"""

from __future__ import annotations

import itertools
import re

from towline.core.reading import NUMBER, Memory, Progress, Rule, Seen, number, part, share

_HEADER = re.compile(r"^\s*Epoch\s+(gpu_mem|GPU_mem)\s+(\S.*)$")
_ROW = re.compile(r"^\s*(\d{1,9})/(\d{1,9})\s+[\d.]+[KMGT]?B?\s+(\S.*)$", re.ASCII)
_BAR = re.compile(
    r":\s*(\d{1,3})%[^\d]{1,80}?(\d{1,9})/(\d{1,9})"
    r"(?:\s+[\d.?]+\S*\s+|\s*\[)([\d.:hms]+)?(?:<([\d.:hms?]+))?[^\n]*?",
    re.ASCII,
)
_VAL = re.compile(r"^\s*(?:Class\s+Images\s+\S+|classes)\s+(\S.*?)(?:\s*:\s*\d{1,3}%.*)?$")
_ALL = re.compile(r"^\s*all((?:\s+" + NUMBER + r"){2,40})\s*$", re.ASCII)
_OVER = re.compile(r"\d+ epochs completed in |EarlyStopping|Validating \S+best\.pt")
_NAMES = {"P": "precision", "R": "recall", "mAP50-95)": "mAP50-95", "mAP@.5": "mAP50",
          "mAP@.5:.95:": "mAP50-95", "mAP@.5:.95": "mAP50-95"}  # fmt: skip
_COLUMN = re.compile(r"[A-Za-z][\w.@:-]*(?:\(\w+)?\)?:?$", re.ASCII)
_NO_LOSSES = frozenset({"instances", "size", "labels", "img_size"})
_MOST_COLUMNS = 40
_LONGEST = 40
_GROUP = re.compile(r"^(\w+)\((\w+)$")


def _header(line: str, memory: Memory) -> list[Seen] | None:
    header = _HEADER.match(line)
    if header is None:
        return None
    columns = [name[:_LONGEST] for name in header[2].split()[:_MOST_COLUMNS]]
    table = memory.get("ultralytics") or {"val": [], "epoch": None, "total": None, "base": 0}
    is_yolo5 = header[1] == "gpu_mem" or bool({"obj", "obj_loss"} & set(columns))
    memory["ultralytics"] = table | {"columns": columns, "base": int(is_yolo5) or table["base"]}
    return []


def _row(line: str, memory: Memory) -> list[Seen] | None:
    """A frame of an epoch: the header's columns, then the bar of the epoch's batches."""
    table = memory.get("ultralytics")
    row = _ROW.match(line) if table else None
    if table is None or row is None:
        return None
    epoch, total, rest = int(row[1]), int(row[2]), row[3]
    if epoch == 0:
        table["base"] = 1
    epoch, total = epoch + table["base"], total + table["base"]
    table["epoch"], table["total"] = epoch, total
    bar = _BAR.search(rest)
    step, whole = (int(bar[2]), int(bar[3])) if bar else (None, None)
    progress = Progress(
        epoch=epoch,
        total_epochs=total,
        step=step,
        total_steps=whole,
        fraction=share(epoch, total, part(step or 0, whole or 0)),
        metrics=_losses(table["columns"], rest[: bar.start()] if bar else rest),
        source="ultralytics",
    )
    return [Seen(progress, frame=True)]


def _losses(columns: list[str], text: str) -> dict[str, float | None]:
    return {
        f"train/{name}": number(value)
        for name, value in zip(columns, text.split(), strict=False)
        if name.lower() not in _NO_LOSSES and _is_number(value)
    }


def _is_number(value: str) -> bool:
    return re.fullmatch(NUMBER, value) is not None


def _validation(line: str, memory: Memory) -> list[Seen] | None:
    """The header of a validation: `Box(P R mAP50 mAP50-95)`, and `Mask(P ...` beside it."""
    columns = _VAL.match(line) if "ultralytics" in memory else None
    if columns is None:
        return None
    names: list[str] = []
    mark = ""
    for word in itertools.takewhile(_COLUMN.match, columns[1].split()[:_MOST_COLUMNS]):
        plain = word
        if group := _GROUP.match(word):
            plain = group[2]
            mark = "" if group[1] == "Box" else f"({group[1][0]})"
        names.append(_NAMES.get(plain, plain.rstrip(":)"))[:_LONGEST] + mark)
    is_classes = line.lstrip().startswith("classes")
    memory["ultralytics"] |= {"val": names, "skip": 0 if is_classes else 2}  # images, instances
    return []


def _validated(line: str, memory: Memory) -> list[Seen] | None:
    """The row of all classes; it stands for the epoch that was trained last."""
    table = memory.get("ultralytics")
    row = _ALL.match(line) if table else None
    if table is None or row is None or not table["val"]:
        return None
    if table["epoch"] is None:
        return []
    values = row[1].split()[table["skip"] :]
    progress = Progress(
        epoch=table["epoch"],
        total_epochs=table["total"],
        fraction=share(table["epoch"], table["total"]),
        metrics=dict(zip(table["val"], map(number, values), strict=False)),
        source="ultralytics",
    )
    return [Seen(progress)]


def _over(line: str, memory: Memory) -> list[Seen] | None:
    """The end of the epochs: what is validated from here on is the best model."""
    if "ultralytics" in memory and _OVER.match(line):
        memory["ultralytics"]["epoch"] = None
    return None


def drawn(line: str, memory: Memory) -> list[Seen] | None:
    """Read a line with a bar of tqdm, as versions before 8.3 and YOLOv5 drew it."""
    if "ultralytics" not in memory:
        return None
    seen = _row(line, memory)
    return seen if seen is not None else _validation(line, memory)


RULES: tuple[Rule, ...] = (
    ("_mem ", _header),
    ("/", _row),
    ("lass", _validation),
    ("all ", _validated),
    ("epochs completed in ", _over),
    ("EarlyStopping", _over),
    ("Validating ", _over),
)
