"""Where a training stands: the newest of what it has reported, and the time that is left.

A side file wins over the console as in `metrics`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from towline.core.metrics import CONSOLE, key, rank


def newest(
    before: dict[str, Any] | None, data: dict[str, Any], at: float, order: Sequence[str]
) -> dict[str, Any]:
    """The newest value of each thing, after one more report.

    Args:
        before: What this function returned last; None at the beginning.
        data: The report, as its event holds it.
        at: When it came, in UTC seconds.
        order: Names of side files, the most trusted first.
    """
    known: dict[str, Any] = {"metrics": {}, "sides": {}, **(before or {})}
    place = rank(data, order)
    known |= _position(known, data, at, from_console=place == CONSOLE)
    metrics, sides = dict(known["metrics"]), dict(known["sides"])
    for name, value in data["metrics"].items():
        said = sides.get(key(name))  # the name and epoch that a side file gave it, and its rank
        if place != CONSOLE and (said is None or place <= said[2]):
            for old in [old for old in metrics if old != name and key(old) == key(name)]:
                del metrics[old]
            sides[key(name)] = [name, data.get("epoch"), place]
            metrics[name] = value
        elif said is None:
            metrics[name] = value
        elif place == CONSOLE and _is_later(data.get("epoch"), said[1]):
            metrics[said[0]] = value
    return known | {"metrics": metrics, "sides": sides}


def _position(
    known: dict[str, Any], data: dict[str, Any], at: float, *, from_console: bool
) -> dict[str, Any]:
    """Where the training stands; a side file, which comes later, does not turn it back."""
    keys = ("epoch", "total_epochs", "step", "total_steps", "fraction", "eta_s")
    said = {name: data[name] for name in keys if data.get(name) is not None}
    if not from_console and known.get("console"):
        here, there = (_place(one) for one in (said, known))
        if here <= there:
            said = {name: said[name] for name in said if known.get(name) is None}
    elif from_console and said:
        said["console"] = True
        if said.get("epoch") not in (None, known.get("epoch")) and "step" not in said:
            said["step"] = said["total_steps"] = None  # of an epoch that is over
    return _timed(known, said, at)


def _timed(known: dict[str, Any], said: dict[str, Any], at: float) -> dict[str, Any]:
    """Note when how much was done: what is left is judged by it."""
    done = said.get("fraction")
    if done is None:
        if (done := share(known | said)) is None:
            return said
        if said.get("epoch") is None or said["epoch"] >= (known.get("epoch") or 0):
            done = max(done, known.get("fraction") or 0.0)  # a bar may have been further
    first = known.get("first")
    if first is None or first[1] > done:
        first = [at, done]
    return said | {"fraction": done, "at": at, "first": first, "eta_s": said.get("eta_s")}


def _place(data: dict[str, Any]) -> tuple[float, float, float]:
    return (data.get("epoch") or 0, data.get("step") or 0, data.get("fraction") or 0.0)


def share(known: dict[str, Any]) -> float | None:
    """How much of the training is done, where the framework does not say it."""
    part, whole = ("epoch", "total_epochs")
    if known.get("epoch") is None:  # else the steps may be those of one epoch
        part, whole = ("step", "total_steps")
    if known.get(part) is None or not known.get(whole):
        return None
    return float(min(1.0, known[part] / known[whole]))


def _is_later(epoch: int | None, than: int | None) -> bool:
    return epoch is not None and than is not None and epoch > than


def eta_s(known: dict[str, Any], started_at: float | None, now: float) -> float | None:
    """Seconds that are left: what the framework said, else judged from the time so far."""
    done, at = known.get("fraction"), known.get("at") or now
    said = known.get("eta_s")
    if said is not None:
        return float(round(max(0.0, said - (now - at)), 1))
    if not done:
        return None
    first = known.get("first")
    if first is not None and done > first[1] and at > first[0]:
        # the time before the first report, for imports and downloads, is no measure of the rest
        left = (at - first[0]) * (1 - done) / (done - first[1])
    elif started_at is not None:
        left = max(0.0, at - started_at) * (1 - done) / done
    else:
        return None
    return float(round(max(0.0, left - (now - at)), 1))
