"""timm, torchvision's reference scripts and DETR, Detectron2, and MMEngine."""

from __future__ import annotations

import re

from towline.core.reading import NUMBER, Memory, Progress, Seen, number, pairs, part, seconds, share

_NUM = f"({NUMBER})"
_TIMM = re.compile(
    r"(Train|Test)(?: \(\w+\))?:(?: (\d{1,9}))? \[\s*(\d{1,9})/(\d{1,9})(?: \(\s*\d{1,3}%\))?\](.*)$",
    re.ASCII,
)
_TIMM_EPOCHS = re.compile(r"Scheduled epochs: (\d{1,9})\b", re.ASCII)
_AVERAGED = re.compile(r"([A-Za-z][\w@./-]*):\s+" + _NUM + r" \(\s*" + _NUM + r"\)", re.ASCII)
_LR = re.compile(r"\bLR: " + _NUM, re.ASCII)
_REFERENCE = re.compile(r"Epoch: \[(\d{1,9})\]\s+\[\s*(\d{1,9})/(\d{1,9})\]\s+eta: (.*)$", re.ASCII)
_REFERENCE_TEST = re.compile(r"^Test:\s+(?:\w+\s+)?(Acc@1 .*)$|^ \* (Acc@1 .*)$")
_NAMED = re.compile(r"(\S+) " + _NUM, re.ASCII)
_COCO = re.compile(
    r"Average Precision\s+\(AP\) @\[ IoU=(0\.50:0\.95|0\.50)\s*\| area=\s*all \| maxDets=\s*100 \] = "
    + _NUM,
    re.ASCII,
)
_DETECTRON = re.compile(r"\beta: ((?:\d+ days?, )?[\d:]+)\s+iter: (\d{1,9})\s+(.*)$", re.ASCII)
_DETECTRON_ITER = re.compile(r"^\S*.*\biter: (\d{1,9})  (total_loss: .*)$", re.ASCII)
_MM = re.compile(
    r"(Epoch|Iter)\((train|val|test)\)\s+(?:\[(\d{1,9})\])?\s*\[\s*(\d{1,9})/(\d{1,9})\]\s+(.*)$",
    re.ASCII,
)
_MM_ETA = re.compile(r"\beta: ((?:\d+ days?, )?[\d:]+)", re.ASCII)
_TIMM_NAMES = {"Loss": "loss", "Acc@1": "top1", "Acc@5": "top5"}


def read(line: str, memory: Memory) -> list[Seen] | None:
    """Read a line of one of them."""
    if "[" in line and "]" in line:
        if (found := _TIMM.search(line)) and (found[1] == "Test" or found[2]):
            return _timm(found, memory)
        if found := _REFERENCE.search(line):
            return _reference(found, memory)
        if "(" in line and (found := _MM.search(line)):
            return _mmengine(found, memory)
        if found := _COCO.search(line):
            name = "mAP50-95" if ":" in found[1] else "mAP50"
            return _tested({name: number(found[2])}, "coco", memory)
    if "iter: " in line and (found := _DETECTRON.search(line)):
        return _detectron(seconds(found[1]), int(found[2]), found[3])
    if "Acc@1" in line and (found := _REFERENCE_TEST.match(line)):
        values = {name: number(value) for name, value in _NAMED.findall(found[1] or found[2])}
        return _tested({_TIMM_NAMES.get(n, n): v for n, v in values.items()}, "torchvision", memory)
    if "Scheduled epochs: " in line and (found := _TIMM_EPOCHS.search(line)):
        memory["total"] = int(found[1])
        return []
    return None


def _tested(metrics: dict[str, float | None], source: str, memory: Memory) -> list[Seen]:
    epoch = memory.get("vision")
    named = {
        f"eval_{name}" if source == "torchvision" else name: value
        for name, value in metrics.items()
    }
    return [Seen(Progress(epoch=epoch, metrics=named, source=source))]


def _timm(found: re.Match[str], memory: Memory) -> list[Seen]:
    done, whole = int(found[3]) + 1, int(found[4]) + (found[1] == "Test")
    values = {name: number(mean) for name, _, mean in _AVERAGED.findall(found[5])}
    prefix = "train" if found[1] == "Train" else "eval"
    metrics = {f"{prefix}_{new}": values[old] for old, new in _TIMM_NAMES.items() if old in values}
    total = memory.get("total")
    if found[1] == "Test":
        epoch = memory.get("vision")
        if done < whole or epoch is None:
            return []
        fraction = share(epoch, total)
        return [
            Seen(
                Progress(
                    epoch=epoch,
                    total_epochs=total,
                    fraction=fraction,
                    metrics=metrics,
                    source="timm",
                )
            )
        ]
    if rate := _LR.search(found[5]):
        metrics["lr"] = number(rate[1])
    epoch = memory["vision"] = int(found[2]) + 1
    at = Progress(
        epoch=epoch,
        total_epochs=total,
        step=done,
        total_steps=whole,
        fraction=share(epoch, total, part(done, whole)),
        metrics=metrics,
        source="timm",
    )
    return [Seen(at, frame=True)]


def _reference(found: re.Match[str], memory: Memory) -> list[Seen]:
    """torchvision's `Epoch: [e]  [ i/N]  eta: …  name: median (mean)`, from 0; the eta is the epoch's."""
    epoch, done, whole = int(found[1]) + 1, int(found[2]) + 1, int(found[3])
    memory["vision"] = epoch
    text = found[4]
    metrics = {name: number(mean) for name, _, mean in _AVERAGED.findall(text)}
    metrics = {n: v for n, v in metrics.items() if n not in ("time", "data", "img/s")}
    if rate := re.search(r"\blr: " + _NUM, text, re.ASCII):
        metrics["lr"] = number(rate[1])
    at = Progress(
        epoch=epoch, step=min(done, whole), total_steps=whole, metrics=metrics, source="torchvision"
    )
    return [Seen(at, frame=True)]


def _detectron(eta_s: float | None, iteration: int, text: str) -> list[Seen]:
    metrics = pairs(text)
    if not metrics:
        return []
    return [Seen(Progress(step=iteration + 1, eta_s=eta_s, metrics=metrics, source="detectron2"))]


def _mmengine(found: re.Match[str], memory: Memory) -> list[Seen]:
    kind, phase, done, whole = found[1], found[2], int(found[4]), int(found[5])
    metrics = pairs(found[6])
    epoch = int(found[3]) if found[3] else None
    if phase != "train":
        if done < whole or phase == "test" or not metrics:
            return []
        return [
            Seen(
                Progress(
                    epoch=epoch,
                    step=memory.get("mm_step") if epoch is None else None,
                    metrics=metrics,
                    source="mmengine",
                )
            )
        ]
    eta = _MM_ETA.search(found[6])
    is_whole = kind == "Iter" and epoch is None
    if is_whole:
        memory["mm_step"] = done
    at = Progress(
        epoch=epoch,
        step=done,
        total_steps=whole,
        fraction=part(done, whole) if is_whole else None,
        eta_s=seconds(eta[1]) if eta else None,
        metrics=metrics,
        source="mmengine",
    )
    return [Seen(at, frame=epoch is not None and done < whole)]
