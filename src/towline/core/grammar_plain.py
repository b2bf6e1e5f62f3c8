"""Lines that people print themselves: `epoch k/n loss=v`, `val Loss: v Acc: v`."""

from __future__ import annotations

import re

from towline.core.reading import (
    MOST_COUNT,
    PHASES,
    Memory,
    Progress,
    Rule,
    Seen,
    counted,
    pairs,
    part,
    share,
)

_OF = re.compile(
    r"(?<![\w?&/=.-])epochs?\s*[:=#\[(]*\s*(\d{1,9})\s*(?:/|of)\s*(\d{1,9})(?![\d.])",
    re.IGNORECASE | re.ASCII,
)
_ALONE = re.compile(
    r"(?<![\w?&/=.-])epochs?\s*[:=#\[(]*\s*(\d{1,9})(?![\d.%]|\s*/)\b", re.IGNORECASE | re.ASCII
)
_STEP = re.compile(
    r"\b(?:step|batch|iter(?:ation)?)s?\b\W{0,3}(\d{1,9})\s*(?:/|of)\s*(\d{1,9})",
    re.IGNORECASE | re.ASCII,
)
_ASIDE = re.compile(
    r"improv|sav(?:e|ing)|best|restor|stopp|reached|found|checkpoint|load|resum|skip|after|from epoch|warm",
    re.IGNORECASE,
)
_MNIST = re.compile(r"^Train Epoch: (\d{1,9}) \[(\d{1,12})/(\d{1,12}) \(\d+%\)\]\s+(.*)$", re.ASCII)
_PHASE = re.compile(rf"^\s*({'|'.join(PHASES)})\b", re.IGNORECASE)
_PREFIXES = tuple(f"{phase}_" for phase in PHASES.values())


def _alone(line: str, memory: Memory) -> list[Seen] | None:
    """`epoch k` with figures."""
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


def _of(line: str, memory: Memory) -> list[Seen] | None:
    """`epoch k/n`, with or without figures, with or without a step of the epoch."""
    found = _OF.search(line)
    if found is None:
        return None
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


def _mnist(line: str, memory: Memory) -> list[Seen] | None:
    """PyTorch's example: `Train Epoch: 1 [640/60000 (1%)]  Loss: v`."""
    found = _MNIST.match(line)
    if found is None:
        return None
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
    metrics = pairs(line) if found else {}
    if not found or not metrics:
        return None
    epoch, total = memory["plain"]
    phase = PHASES[found[1].lower()]
    named = {
        name if name.startswith(_PREFIXES) else f"{phase}_{name.lower()}": value
        for name, value in metrics.items()
    }
    fraction = share(epoch, total) if phase != "train" else None
    at = Progress(epoch=epoch, total_epochs=total, fraction=fraction, metrics=named, source="text")
    return [Seen(at)]


RULES: tuple[Rule, ...] = (
    ("Train Epoch: ", _mnist),
    ("poch", _of),
    ("POCH", _of),
    ("poch", _alone),
    ("oss", _phase),
)
