"""Lines that people print themselves: `epoch k/n loss=v`; nanoGPT, nanochat, fastai; towline's JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from towline.core.reading import (
    MOST_COUNT,
    NUMBER,
    Memory,
    Progress,
    Seen,
    counted,
    number,
    pairs,
    part,
    seconds,
    share,
)

_OF = re.compile(
    r"\bepochs?\s*[:=#\[(]*\s*(\d{1,9})\s*(?:/|of)\s*(\d{1,9})(?![\d.])", re.I | re.ASCII
)
_ALONE = re.compile(r"\bepochs?\s*[:=#\[(]*\s*(\d{1,9})(?![\d.%]|\s*/)\b", re.I | re.ASCII)
_STEP = re.compile(
    r"\b(?:step|batch|iter(?:ation)?)s?\b\W{0,3}(\d{1,9})\s*(?:/|of)\s*(\d{1,9})", re.I | re.ASCII
)
_ASIDE = re.compile(
    r"improv|sav(?:e|ing)|best|restor|stopp|reached|found|checkpoint|load|resum|skip|after|from epoch|warm",
    re.I,
)
_MNIST = re.compile(r"^Train Epoch: (\d{1,9}) \[(\d{1,12})/(\d{1,12}) \(\d+%\)\]\s+(.*)$", re.ASCII)
_PHASE = re.compile(r"^(train|val|valid|validation|test|eval)\w*:?\s+(\S.*)$", re.I)
_NANO_STEP = re.compile(
    rf"^step (\d{{1,9}}): train loss ({NUMBER}), val loss ({NUMBER})$", re.ASCII
)
_NANO_ITER = re.compile(rf"^iter (\d{{1,9}}): loss ({NUMBER}), time ", re.ASCII)
_CHAT = re.compile(r"^step (\d{1,9})/(\d{1,9}) \([\d.]+%\) \| (.*)$", re.ASCII)
_CHAT_VALID = re.compile(rf"^Step (\d{{1,9}}) \| Validation bpb: ({NUMBER})", re.ASCII)
_CHAT_ETA = re.compile(r"\beta: ([\d.]+)m\b", re.ASCII)
_FASTAI_HEADER = re.compile(r"^epoch\s+train_loss\s+(\S.*?)\s+time\s*$")
_FASTAI_ROW = re.compile(
    rf"^(\d{{1,9}})\s+((?:(?:{NUMBER}|None|#na#)\s+)+)(\d+:\d\d(?::\d\d)?)\s*$", re.ASCII
)
_FASTAI_BAR = re.compile(
    r"^Epoch (\d{1,9})/(\d{1,9}) : \|[^|]*\| [\d.]+% \[(\d{1,9})/(\d{1,9}) ", re.ASCII
)


def read(line: str, memory: Memory) -> list[Seen] | None:
    """Read one of these lines."""
    if "tep" in line or "iter" in line:
        seen = _nano(line)
        if seen is not None:
            return seen
    if "train_loss" in line and (header := _FASTAI_HEADER.match(line)):
        memory["fastai"] = {
            "columns": ["train_loss", *header[1].split()[:40]],
            "total": None,
            "whole": 0,
        }
        return []
    if memory.get("fastai") and (seen := _fastai(line, memory["fastai"])) is not None:
        return seen
    if "poch" in line or "POCH" in line:
        return _epoch(line, memory)
    return _phase(line, memory)


# -- epochs ---------------------------------------------------------------------------------------


def _epoch(line: str, memory: Memory) -> list[Seen] | None:
    if found := _MNIST.match(line):
        return _mnist(found, memory)
    if found := _OF.search(line):
        return _of(found, line, memory)
    found = _ALONE.search(line)
    if found is None or _ASIDE.search(line):
        return None
    metrics = pairs(line[: found.start()] + " " + line[found.end() :])
    if not metrics:
        return None
    epoch = counted(memory, "plain", int(found[1]))
    memory["plain"] = [epoch, None]
    step = _STEP.search(line, found.end())
    at = Progress(
        epoch=epoch,
        step=int(step[1]) if step else None,
        total_steps=int(step[2]) if step else None,
        metrics=metrics,
        source="text",
    )
    return [Seen(at, frame=step is not None)]


def _of(found: re.Match[str], line: str, memory: Memory) -> list[Seen]:
    """`epoch k/n`, with or without figures, with or without a step of the epoch."""
    said, total = int(found[1]), int(found[2])
    rest = line[: found.start()] + " " + line[found.end() :]
    step = _STEP.search(rest)
    metrics = pairs(rest)
    if said == 0:
        # a title `Epoch 0/24` is followed by 24 more; `epoch 0/25 loss=…` by 24 too
        memory.setdefault("bases", {}).setdefault("last", int(not metrics and step is None))
    epoch = counted(memory, "plain", said)
    total = max(total + int((memory.get("bases") or {}).get("last", 0)), epoch)
    memory["plain"] = [epoch, total]
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        step=int(step[1]) if step else None,
        total_steps=int(step[2]) if step else None,
        fraction=_share(epoch, total, step, metrics),
        metrics=metrics,
        source="text",
    )
    return [Seen(at, frame=step is not None or not metrics)]


def _share(
    epoch: int, total: int, step: re.Match[str] | None, metrics: dict[str, float | None]
) -> float | None:
    """What is done: with figures an epoch is over; a title alone may stand before or behind it."""
    if step:
        return share(epoch, total, part(int(step[1]), int(step[2])))
    return share(epoch, total) if metrics else None


def _mnist(found: re.Match[str], memory: Memory) -> list[Seen]:
    """PyTorch's example: `Train Epoch: 1 [640/60000 (1%)]  Loss: v`."""
    epoch = counted(memory, "plain", int(found[1]))
    memory["plain"] = [epoch, None]
    done, whole = (min(int(text), MOST_COUNT) for text in (found[2], found[3]))
    at = Progress(epoch=epoch, step=done, total_steps=whole, metrics=pairs(found[4]), source="text")
    return [Seen(at, frame=True)]


def _phase(line: str, memory: Memory) -> list[Seen] | None:
    """`val Loss: v Acc: v` under an epoch's title."""
    if not memory.get("plain") or "oss" not in line:
        return None
    found = _PHASE.match(line)
    metrics = pairs(found[2]) if found else {}
    if not found or not metrics:
        return None
    epoch, total = memory["plain"]
    phase = {"valid": "val", "validation": "val"}.get(found[1].lower(), found[1].lower())
    named = {f"{phase}_{name.lower()}": value for name, value in metrics.items()}
    fraction = share(epoch, total) if phase != "train" else None
    at = Progress(epoch=epoch, total_epochs=total, fraction=fraction, metrics=named, source="text")
    return [Seen(at)]


# -- steps ----------------------------------------------------------------------------------------


def _nano(line: str) -> list[Seen] | None:
    """nanoGPT's and nanochat's lines."""
    if found := _NANO_STEP.match(line):
        metrics = {"train_loss": number(found[2]), "val_loss": number(found[3])}
        return [Seen(Progress(step=int(found[1]), metrics=metrics, source="nanogpt"))]
    if found := _NANO_ITER.match(line):
        loss = {"loss": number(found[2])}
        return [Seen(Progress(step=int(found[1]), metrics=loss, source="nanogpt"), frame=True)]
    if found := _CHAT_VALID.match(line):
        bpb = {"val_bpb": number(found[2])}
        return [Seen(Progress(step=int(found[1]), metrics=bpb, source="nanochat"))]
    if not (found := _CHAT.match(line)):
        return None
    step, total, eta = int(found[1]), int(found[2]), _CHAT_ETA.search(found[3])
    loss = re.search(rf"\bloss: ({NUMBER})", found[3], re.ASCII)
    at = Progress(
        step=step,
        total_steps=total,
        fraction=part(step, total),
        eta_s=float(eta[1]) * 60 if eta and number(eta[1]) is not None else None,
        metrics={"loss": number(loss[1])} if loss else {},
        source="nanochat",
    )
    return [Seen(at, frame=True)]


# -- fastai ---------------------------------------------------------------------------------------


def _fastai(line: str, table: Memory) -> list[Seen] | None:
    """A row of its table, which counts from 0, or a frame of its bar, which counts from 1."""
    if bar := _FASTAI_BAR.match(line):
        epoch, total, done, whole = (int(text) for text in bar.groups())
        table["total"], table["whole"] = total, max(whole, table["whole"])
        if whole < table["whole"]:
            return []  # its validation
        fraction = share(epoch, total, part(done, whole))
        at = Progress(
            epoch=epoch,
            total_epochs=total,
            step=done,
            total_steps=whole,
            fraction=fraction,
            source="fastai",
        )
        return [Seen(at, frame=True)]
    row = _FASTAI_ROW.match(line)
    if row is None:
        return [] if line.startswith("Epoch ") and line.rstrip().endswith(":") else None
    epoch, total = int(row[1]) + 1, table["total"]
    metrics = {
        n: number(v)
        for n, v in zip(table["columns"], row[2].split(), strict=False)
        if v not in ("None", "#na#")
    }
    fraction = share(epoch, total)
    return [
        Seen(
            Progress(
                epoch=epoch, total_epochs=total, fraction=fraction, metrics=metrics, source="fastai"
            )
        )
    ]


# -- towline's own --------------------------------------------------------------------------------


def read_json(line: str) -> Seen | None:
    """Read towline's own line: `{"type": "progress", "data": {...}}`."""
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
            metrics=json_metrics(metrics if isinstance(metrics, dict) else {}),
            source="towline",
        )
    )


def json_metrics(values: dict[Any, Any]) -> dict[str, float | None]:
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
