"""Keras: `Epoch k/N`, then bars `n/N ━━ 0s 3ms/step - loss: v`, or one line with verbose=2."""

from __future__ import annotations

import re

from towline.core.reading import Memory, Progress, Rule, Seen, pairs, part, share

_EPOCH = re.compile(r"^Epoch (\d{1,9})/(\d{1,9})\s*$", re.ASCII)
_BAR = re.compile(
    r"^\s*(\d{1,9})/(\d{1,9})\s+(?:\[[=>.\s]*\] (?:- )?|[━\s]*(?P<plain>- )?)(?:ETA: )?[\d:]+m?s?\b(.*)$",
    re.ASCII,
)
_PACE = re.compile(
    r"^\s*(?:-?\s*)?[\d.]+(?:us|\u00b5s|ms|s)/(?:step|epoch|sample)|^\s*- \w+: ", re.ASCII
)


def _bar(line: str, memory: Memory) -> list[Seen] | None:
    bar = _BAR.match(line)
    if bar is None or not _PACE.match(bar[4]):
        return None
    done, whole, metrics = int(bar[1]), int(bar[2]), pairs(bar[4])
    if done > whole:
        return None
    state = memory.setdefault("keras", {"epoch": None, "total": None, "full": 0, "titled": False})
    if state["full"] and (done < whole or whole != state["full"]):
        state |= {"epoch": None, "full": 0}  # its own evaluation has begun
    if state["epoch"] is None:
        return _untitled(metrics, state) if done == whole else []  # else it evaluates
    if done == whole:
        state["full"] = whole
    progress = Progress(
        epoch=state["epoch"],
        total_epochs=state["total"],
        step=done,
        total_steps=whole,
        fraction=share(state["epoch"], state["total"], part(done, whole)),
        metrics=metrics,
        source="keras",
    )
    if bar["plain"]:  # verbose=2 says it once
        state |= {"epoch": None, "full": 0}
    return [Seen(progress, frame=not bar["plain"])]


def _title(line: str, memory: Memory) -> list[Seen] | None:
    title = _EPOCH.match(line)
    epoch, total = (int(title[1]), int(title[2])) if title else (0, 0)
    if epoch == 0:
        return None  # Keras counts from 1: another's title
    memory["plain"] = [epoch, total]  # it may be another's title as well
    state = memory.setdefault("keras", {})
    state |= {"epoch": epoch, "total": total, "full": 0, "titled": True}
    at = Progress(
        epoch=epoch, total_epochs=total, fraction=share(epoch, total, 0.0), source="keras"
    )
    return [Seen(at, frame=True)]


def _untitled(metrics: dict[str, float | None], state: Memory) -> list[Seen]:
    """A full bar without an epoch's title: of a fit with one epoch if it validates."""
    if state["titled"] or not any(name.startswith("val_") for name in metrics):
        return []
    return [Seen(Progress(epoch=1, total_epochs=1, fraction=1.0, metrics=metrics, source="keras"))]


RULES: tuple[Rule, ...] = (("Epoch ", _title), (" - ", _bar))
