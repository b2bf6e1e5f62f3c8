"""tqdm's bars: Lightning's, Hugging Face's, Accelerate's, and any script's own.

`desc: PPP%|bar| n/N [elapsed<left, rate, name=value, ...]`. Which bar is the training's is told by
its description and its total; bars that load, save or validate are left out.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

from towline.core.reading import (
    Memory,
    Progress,
    Seen,
    count,
    counted,
    pairs,
    part,
    seconds,
    share,
)

_BAR = re.compile(
    r"%\|[^|]*\|\s*(\d[\d.]*[kKMG]?)/(\d[\d.]*[kKMG]?)\s*\[([^\]<]*)<([^\],]*(?:day[^\],]*,[^\],]*)?)"
    r"(?:,\s*([^\],]*))?(?:,\s*([^\]]*))?\]?",
    re.ASCII,
)
_EPOCH = re.compile(
    r"\bepochs?\b\W{0,3}(\d{1,9})(?:\s*(?:/|of)\s*(\d{1,9}))?", re.IGNORECASE | re.ASCII
)
_EPOCHS = re.compile(r"^\W*epochs?\W*$", re.IGNORECASE)
_OTHER = re.compile(
    r"sanity|valid|\bval\b|\btest|predict|eval|writing|loading|saving|download|upload|\bmap\b|token"
    r"|scan|fetch|resolv|cach|filter|extract|generat|prepar|process|shard|creat|cast|pack|truncat"
    r"|infer|import|convert|inference|\.(?:bin|pt|pth|zip|json|gz|tar|txt|safetensors|h5|csv)\b",
    re.IGNORECASE,
)
_SAID_EPOCH = re.compile(r"\bepoch=(\d{1,9})(?![\d.])", re.ASCII)
_MOST_BARS = 8
_LONGEST_NAME = 40
_LONGEST_DESC = 200


class _Bar(NamedTuple):
    done: int
    whole: int
    left_s: float | None
    said: str  # what stands behind the rate
    metrics: dict[str, float | None]


def read(line: str, memory: Memory) -> tuple[list[Seen], str]:
    """All bars of a line, and what is left of it behind them: another's line may be glued there."""
    seen: list[Seen] = []
    end = 0
    while (at := line.find("%|", end)) >= 0:
        found = _BAR.match(line, at)
        if not found:
            return seen, line[end:]
        desc = line[end:at].rstrip("0123456789.")[-_LONGEST_DESC:].strip()
        one = _bar(desc, found, memory)
        if one is not None:
            seen.append(one)
        end = found.end()
    return seen, line[end:].strip()


@lru_cache(maxsize=1024)
def _kind(desc: str) -> tuple[str, int, int | None]:
    """What a bar's description says: which kind it is, which epoch, of how many."""
    if _OTHER.search(desc):
        is_lightning = desc.startswith(("Sanity Checking", "Validation DataLoader"))
        return "lightning" if is_lightning else "other", 0, None
    if found := _EPOCH.search(desc):
        return "epoch", int(found[1]), int(found[2]) if found[2] else None
    return "epochs" if _EPOCHS.match(desc) else "steps", 0, None


def _bar(desc: str, found: re.Match[str], memory: Memory) -> Seen | None:
    """One bar: of an epoch, over the epochs, or over the steps of a training."""
    kind, epoch, total = _kind(desc)
    if kind in {"lightning", "other"}:
        if kind == "lightning":
            memory.setdefault("bases", {})["Epoch"] = 1  # it counts from 0
        return None
    said = found[6] or ""
    bar = _Bar(count(found[1]), count(found[2]), seconds(found[4]), said, pairs(said))
    if kind == "epoch":
        progress = _epoch_bar(epoch, total, bar, memory)
    elif kind == "epochs":
        progress = _epochs_bar(bar)
    else:
        progress = _steps_bar(desc, bar, memory)
    if progress is None:
        return None
    return Seen(progress, frame=True, elapsed_s=seconds(found[3]))


def _epoch_bar(epoch: int, total: int | None, bar: _Bar, memory: Memory) -> Progress | None:
    is_lightning = "v_num=" in bar.said
    if is_lightning:
        memory.setdefault("bases", {})["Epoch"] = 1
    if not _is_largest(f"epoch {epoch}", bar.whole, memory):
        return None  # its validation
    at = counted(memory, "Epoch", epoch)
    if total is None:
        total = memory.get("total")
        total = None if total is not None and at > total else total
    elif at > total:
        total = at
    return Progress(
        epoch=at,
        total_epochs=total,
        step=bar.done,
        total_steps=bar.whole,
        fraction=share(at, total, part(bar.done, bar.whole)),
        metrics=bar.metrics,
        source="lightning" if is_lightning else "tqdm",
    )


def _epochs_bar(bar: _Bar) -> Progress:
    """A bar over the epochs: as many are over as it says."""
    return Progress(
        epoch=bar.done or None,
        total_epochs=bar.whole,
        fraction=part(bar.done, bar.whole),
        eta_s=bar.left_s,
        metrics=bar.metrics,
        source="tqdm",
    )


def _steps_bar(desc: str, bar: _Bar, memory: Memory) -> Progress | None:
    """A bar over steps: of the whole training, as far as can be told."""
    state = memory.get("hf") or {}
    memory["last_bar"] = bar.whole
    if state.get("over") or (state.get("total") not in {None, bar.whole}):
        return None
    name = "steps " + desc[:_LONGEST_NAME]
    if not state and not _is_largest(name, bar.whole, memory):
        return None
    is_whole = not _restarts(name, bar.done, bar.whole, memory) or bool(state)
    return Progress(
        epoch=_said_epoch(bar.said, memory),
        step=bar.done,
        total_steps=bar.whole,
        fraction=part(bar.done, bar.whole) if is_whole else None,
        eta_s=bar.left_s if is_whole else None,
        metrics=bar.metrics,
        source="huggingface" if state else "tqdm",
    )


def _said_epoch(said: str, memory: Memory) -> int | None:
    found = _SAID_EPOCH.search(said)
    return counted(memory, "epoch=", int(found[1])) if found else None


def _is_largest(name: str, whole: int, memory: Memory) -> bool:
    """Whether a bar of this name has the largest total so far: the others are validations."""
    largest = memory.setdefault("largest", {})
    if name not in largest and len(largest) >= _MOST_BARS:
        del largest[next(iter(largest))]
    largest[name] = max(whole, largest.get(name, 0))
    return bool(whole >= largest[name])


def _restarts(name: str, done: int, whole: int, memory: Memory) -> bool:
    """Whether a bar of this name ran to its end before: then it is one of each epoch."""
    ended = memory.setdefault("ended", {})
    if done >= whole > 0:
        if name not in ended and len(ended) >= _MOST_BARS:
            del ended[next(iter(ended))]
        ended.setdefault(name, 1)
        return bool(ended[name] > 1)
    if name in ended:
        ended[name] = 2
        return True
    return False
