"""timm, torchvision's reference scripts and DETR, Detectron2, and MMEngine."""

from __future__ import annotations

import re

from towline.core.reading import (
    NUMBER,
    Memory,
    Progress,
    Rule,
    Seen,
    number,
    pairs,
    part,
    seconds,
    share,
)

_TIMM = re.compile(
    r"(Train|Test)(?: \(\w+\))?:(?: (\d{1,9}))? \[\s*(\d{1,9})/(\d{1,9})(?: \(\s*\d{1,3}%\))?\]([^\[]*)$",
    re.ASCII,
)
_TIMM_EPOCHS = re.compile(r"Scheduled epochs: (\d{1,9})\b", re.ASCII)
_TIMM_NAMES = {"Loss": "loss", "Acc@1": "top1", "Acc@5": "top5"}
_MEAN = re.compile(rf"([A-Za-z][\w@./-]*):\s+({NUMBER}) \(\s*({NUMBER})\)", re.ASCII)
_RATE = re.compile(rf"\b(?:LR|lr): ({NUMBER})", re.ASCII)
_EPOCH = re.compile(r"Epoch: \[(\d{1,9})\]\s+\[\s*(\d{1,9})/(\d{1,9})\]\s+eta: (.*)$", re.ASCII)
_TEST = re.compile(r"^(?: \*|Test:\s+(?:EMA )?)\s*(Acc@1 .*)$")
_NAMED = re.compile(rf"(Acc@[15]) ({NUMBER})", re.ASCII)
_COCO = re.compile(
    r"Average Precision\s+\(AP\) @\[ IoU=(0\.50:0\.95|0\.50)\s*\| area=\s*all \| maxDets=\s*100 \] = "
    rf"({NUMBER})",
    re.ASCII,
)
_DETECTRON = re.compile(r"\beta: ((?:\d+ days?, )?[\d:]+)\s+iter: (\d{1,9})\s+(.*)$", re.ASCII)
_MM = re.compile(
    r"(Epoch|Iter)\((train|val)\)\s+(?:\[\s*(\d{1,9})\]\s*)?\[\s*(\d{1,9})/(\d{1,9})\]\s+(\S.*)$",
    re.ASCII,
)
_MM_ETA = re.compile(r"\beta: ((?:\d+ days?, )?[\d:]+)", re.ASCII)
_NOT_METRICS = frozenset({"time", "data", "img/s"})


def _timm(line: str, memory: Memory) -> list[Seen] | None:
    found = _TIMM.search(line)
    if found is None or (found[1] == "Train" and not found[2]):
        return None
    values = {name: number(mean) for name, _, mean in _MEAN.findall(found[5])}
    return _timm_train(found, values, memory) if found[2] else _timm_test(found, values, memory)


def _timm_train(
    found: re.Match[str], values: dict[str, float | None], memory: Memory
) -> list[Seen]:
    """`Train: e [ i/N (PPP%)]`, from 0."""
    epoch = memory["vision"] = int(found[2]) + 1
    done, whole, total = int(found[3]) + 1, int(found[4]), memory.get("total")
    metrics = {"train_loss": values["Loss"]} if "Loss" in values else {}
    if rate := _RATE.search(found[5]):
        metrics["lr"] = number(rate[1])
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        step=min(done, whole),
        total_steps=whole,
        fraction=share(epoch, total, part(done, whole)),
        metrics=metrics,
        source="timm",
    )
    return [Seen(at, frame=True)]


def _timm_test(found: re.Match[str], values: dict[str, float | None], memory: Memory) -> list[Seen]:
    """The last of `Test: [ i/N]`, whose means are the whole validation's."""
    epoch, total = memory.get("vision"), memory.get("total")
    if int(found[3]) < int(found[4]) or epoch is None:
        return []
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        fraction=share(epoch, total),
        metrics={f"eval_{new}": values[old] for old, new in _TIMM_NAMES.items() if old in values},
        source="timm",
    )
    return [Seen(at)]


def _timm_epochs(line: str, memory: Memory) -> list[Seen] | None:
    found = _TIMM_EPOCHS.search(line)
    if found is None:
        return None
    memory["total"] = int(found[1])
    return []


def _reference(line: str, memory: Memory) -> list[Seen] | None:
    """`Epoch: [e]  [ i/N]  eta: …  name: median (mean)`, from 0; the eta is the epoch's alone."""
    found = _EPOCH.search(line)
    if found is None:
        return None
    epoch = memory["vision"] = int(found[1]) + 1
    whole = int(found[3])
    metrics = {name: number(mean) for name, _, mean in _MEAN.findall(found[4])}
    if rate := _RATE.search(found[4]):
        metrics["lr"] = number(rate[1])
    at = Progress(
        epoch=epoch,
        step=min(int(found[2]) + 1, whole),
        total_steps=whole,
        metrics={name: value for name, value in metrics.items() if name not in _NOT_METRICS},
        source="torchvision",
    )
    return [Seen(at, frame=True)]


def _reference_test(line: str, memory: Memory) -> list[Seen] | None:
    found = _TEST.match(line)
    if found is None:
        return None
    metrics = {f"eval_{_TIMM_NAMES[name]}": number(v) for name, v in _NAMED.findall(found[1])}
    return [Seen(Progress(epoch=memory.get("vision"), metrics=metrics, source="torchvision"))]


def _coco(line: str, memory: Memory) -> list[Seen] | None:
    """The two lines of COCO's summary that are quoted everywhere."""
    found = _COCO.search(line)
    if found is None:
        return None
    name = "mAP50-95" if ":" in found[1] else "mAP50"
    at = Progress(epoch=memory.get("vision"), metrics={name: number(found[2])}, source="coco")
    return [Seen(at)]


def _detectron(line: str, _memory: Memory) -> list[Seen] | None:
    """Detectron2 counts iterations from 0; its eta is the whole training's."""
    found = _DETECTRON.search(line)
    metrics = pairs(found[3]) if found else {}
    if not found or not metrics:
        return None
    at = Progress(
        step=int(found[2]) + 1, eta_s=seconds(found[1]), metrics=metrics, source="detectron2"
    )
    return [Seen(at)]


def _mmengine(line: str, memory: Memory) -> list[Seen] | None:
    found = _MM.search(line)
    if found is None:
        return None
    epoch, done, whole = int(found[3]) if found[3] else None, int(found[4]), int(found[5])
    metrics = pairs(found[6])
    if found[2] == "val":
        step = memory.get("mm_step") if epoch is None else None
        at = Progress(epoch=epoch, step=step, metrics=metrics, source="mmengine")
        return [Seen(at)] if done == whole and metrics else []
    is_whole = found[1] == "Iter"
    memory["mm_step"] = done if is_whole else None
    eta = _MM_ETA.search(found[6])
    at = Progress(
        epoch=epoch,
        step=done,
        total_steps=whole,
        fraction=part(done, whole) if is_whole else None,
        eta_s=seconds(eta[1]) if eta else None,
        metrics=metrics,
        source="mmengine",
    )
    return [Seen(at, frame=not is_whole)]


RULES: tuple[Rule, ...] = (
    ("Train: ", _timm),
    ("Test", _timm),
    ("Scheduled epochs: ", _timm_epochs),
    ("Epoch: [", _reference),
    ("Acc@1 ", _reference_test),
    ("(AP)", _coco),
    ("iter: ", _detectron),
    ("(train)", _mmengine),
    ("(val)", _mmengine),
)
