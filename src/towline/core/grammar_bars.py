"""tqdm's bars: Lightning's, Hugging Face's, Accelerate's, and any script's own.

`desc: PPP%|bar| n/N [elapsed<left, rate, name=value, ...]`. Which bar is the training's is told by
its description and its total; bars that load, save or validate are left out.
"""

from __future__ import annotations

import re

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


def read(line: str, memory: Memory) -> tuple[list[Seen], str]:
    """All bars of a line, and what is left of it behind them: another's line may be glued there."""
    seen: list[Seen] = []
    end = 0
    while (at := line.find("%|", end)) >= 0:
        found = _BAR.match(line, at)
        if not found:
            return seen, line[end:]
        front = line[end:at].rstrip("0123456789.")
        one = _bar(front[-200:], found, memory)
        if one is not None:
            seen.append(one)
        end = found.end()
    return seen, line[end:].strip()


def _bar(front: str, found: re.Match[str], memory: Memory) -> Seen | None:
    """One bar: of an epoch, over the epochs, or over the steps of a training."""
    done, whole = count(found[1]), count(found[2])
    desc = front.strip()
    if _OTHER.search(desc):
        if desc.startswith(("Sanity Checking", "Validation DataLoader")):
            memory.setdefault("bases", {})["Epoch"] = 1  # Lightning counts from 0
        return None
    metrics = pairs(found[6] or "")
    left, elapsed = seconds(found[4]), seconds(found[3])
    said = found[6] or ""
    if epoch := _EPOCH.search(desc):
        progress = _epoch_bar(epoch, (done, whole), said, memory)
    elif _EPOCHS.match(desc):
        progress = _epochs_bar(done, whole, left)
    else:
        progress = _steps_bar(desc, (done, whole), left, said, memory)
    if progress is None:
        return None
    return Seen(progress.with_metrics(metrics), frame=True, elapsed_s=elapsed)


def _epoch_bar(
    epoch: re.Match[str], bar: tuple[int, int], said: str, memory: Memory
) -> Progress | None:
    if "v_num=" in said:
        memory.setdefault("bases", {})["Epoch"] = 1
    done, whole = bar
    if not _is_largest(f"epoch {epoch[1]}", whole, memory):
        return None  # its validation
    at = counted(memory, "Epoch", int(epoch[1]))
    total = int(epoch[2]) if epoch[2] else memory.get("total")
    if total is not None and at > total:
        total = at if epoch[2] else None
    return Progress(
        epoch=at,
        total_epochs=total,
        step=done,
        total_steps=whole,
        fraction=share(at, total, part(done, whole)),
        source="lightning" if "v_num=" in said else "tqdm",
    )


def _epochs_bar(done: int, whole: int, left: float | None) -> Progress | None:
    """A bar over the epochs: as many are over as it says."""
    if not done:
        return Progress(total_epochs=whole, fraction=0.0, source="tqdm")
    return Progress(
        epoch=done, total_epochs=whole, fraction=part(done, whole), eta_s=left, source="tqdm"
    )


def _steps_bar(
    desc: str, bar: tuple[int, int], left: float | None, said: str, memory: Memory
) -> Progress | None:
    """A bar over steps: of the whole training, as far as can be told."""
    done, whole = bar
    state = memory.get("hf") or {}
    memory["last_bar"] = whole
    if state.get("over") or (state.get("total") not in (None, whole)):
        return None
    name = "steps" if not desc else "steps " + desc[:_LONGEST_NAME].lower()
    if not state and not _is_largest(name, whole, memory):
        return None
    restarts = _restarts(name, done, whole, memory)
    epoch = _said_epoch(said, memory)
    is_whole = bool(state) or not restarts
    return Progress(
        epoch=epoch,
        step=done,
        total_steps=whole,
        fraction=part(done, whole) if is_whole else None,
        eta_s=left if is_whole else None,
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
