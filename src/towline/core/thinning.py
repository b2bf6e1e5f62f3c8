"""Which of all that a log says is worth an event: a bar redrawn 10 times a second is not 10 of them.

A frame becomes an event when the epoch changes, or the whole percent of the training; where the
training's length is unknown, after five seconds of its bar's clock or a tenth of an epoch. The
last frame of an epoch is held, and told with all its figures when the epoch is over.
"""

from __future__ import annotations

from typing import Any

from towline.core.reading import Memory, Progress, Seen

_EVERY_ROW = 1000  # so many rows are all told; of more, one in n/500, and the last
_SECONDS = 5.0
_BEHIND = 5  # so many frames in a row of an earlier epoch mean that it began anew


def offer(seen: Seen, memory: Memory) -> list[Progress]:
    """Take what was read; give back what is to be told now."""
    state = memory.setdefault("thin", {})
    return _frame(seen, state) if seen.frame else _row(seen.progress, state)


def rest(memory: Memory) -> list[Progress]:
    """What is held, at the end of the log."""
    state = memory.setdefault("thin", {})
    told = _release(state)
    if late := state.pop("late", None):
        told.append(Progress(**late))
    return told


# -- frames ---------------------------------------------------------------------------------------


def _frame(seen: Seen, state: Memory) -> list[Progress]:
    now = seen.progress
    if _is_stray(now, state):
        return []
    told = _release(state) if _is_other(now, state.get("held")) else []
    state["held"] = now.data()
    key = _key(now)
    if _is_news(now, key, seen.elapsed_s, state):
        known = state.setdefault("told", {})
        fresh = {n: v for n, v in now.metrics.items() if n not in known or known[n] != v}
        told.append(Progress(**(now.data() | {"metrics": fresh})))
        state |= {"epoch": now.epoch, "key": key, "clock": seen.elapsed_s, "source": now.source}
        state["whole"] = fresh == now.metrics and now.data()
        _remember(fresh, state)
    return told


def _key(now: Progress) -> list[Any]:
    """What has to change for a frame to be news."""
    if now.fraction is not None:
        return ["%", int(now.fraction * 100 + 1e-9)]
    if now.step is not None and now.total_steps:
        return ["step", now.step * 100 // now.total_steps]
    return ["", 0]


def _is_news(now: Progress, key: list[Any], elapsed_s: float | None, state: Memory) -> bool:
    before = state.get("key")
    if before is None or now.epoch != state.get("epoch") or before[0] != key[0]:
        return True
    if key == before:
        return False
    if key[0] == "%":
        return bool(key[1] > before[1] or before[1] >= 100 or now.epoch is not None)
    clock = state.get("clock")
    if elapsed_s is not None and clock is not None and elapsed_s >= clock:
        return bool(elapsed_s - clock >= _SECONDS)
    return bool(key[1] // 10 != before[1] // 10)


def _is_stray(now: Progress, state: Memory) -> bool:
    """Whether a frame tells of an earlier moment: another process's, or a validation's."""
    epoch, key = state.get("epoch"), state.get("key")
    if now.epoch is None or epoch is None or now.epoch >= epoch:
        state["behind"] = 0
        if now.epoch != epoch or now.fraction is None or key is None or key[0] != "%":
            return False
        return bool(int(now.fraction * 100 + 1e-9) < key[1] < 100)
    state["behind"] = state.get("behind", 0) + 1
    return bool(state["behind"] < _BEHIND)


def _is_other(now: Progress, held: dict[str, Any] | None) -> bool:
    """Whether a frame is of another epoch than the one held, which is over then."""
    return held is not None and (held["epoch"] != now.epoch or held["source"] != now.source)


def _release(state: Memory) -> list[Progress]:
    """The held frame with all its figures, unless they have been told."""
    held = state.pop("held", None)
    if not held or not held["metrics"] or held == state.get("whole"):
        return []
    _remember(held["metrics"], state)
    return [Progress(**held)]


def _remember(metrics: dict[str, Any], state: Memory) -> None:
    known = state.setdefault("told", {})
    known |= metrics
    while len(known) > 200:
        del known[next(iter(known))]


# -- rows -----------------------------------------------------------------------------------------


def _row(now: Progress, state: Memory) -> list[Progress]:
    """Figures that stand; the frame held of the same epoch is one with them."""
    told: list[Progress] = []
    held = state.get("held")
    if held and _belong(held, now):
        state.pop("held")
        more = {name: held[name] for name in ("step", "total_steps", "total_epochs", "fraction")}
        said = {name: value for name, value in now.data().items() if value is not None}
        now = Progress(**(more | said | {"metrics": held["metrics"] | now.metrics}))
    elif held and held["epoch"] is not None:
        told = _release(state)
    state |= {"epoch": now.epoch if now.epoch is not None else state.get("epoch"), "behind": 0}
    _remember(now.metrics, state)
    if now.fraction is not None:
        state |= {"key": _key(now)}
    state["rows"] = rows = state.get("rows", 0) + 1
    if rows <= _EVERY_ROW or rows % (rows // (_EVERY_ROW // 2)) == 0:
        state.pop("late", None)
        return [*told, now]
    state["late"] = now.data()
    return told


def _belong(held: dict[str, Any], row: Progress) -> bool:
    same = held["epoch"] is not None and held["epoch"] == row.epoch
    return bool(same and held["source"] == row.source)
