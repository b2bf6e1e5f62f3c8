"""All that a training has reported, as rows: each figure once, with the best of them.

A side file and the console often report the same figure under two names. The side file wins: its
name and its value are kept, and the console fills in what no side file has said yet. A report
that came from a side file carries its path as "file".
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Any

CONSOLE = 1000  # below any side file
_PREFIXES = ("metrics_", "train_", "training_")
_SAME = {"map_50": "map50", "map_0_5": "map50", "map50_95": "map", "p": "precision", "r": "recall",
         "validation_loss": "val_loss", "valid_loss": "val_loss", "valid_0_": "val_"}  # fmt: skip
_HIGHER = re.compile(
    r"acc|map|auc|f1|precision|recall|iou|r2|psnr|ssim|bleu|rouge|dice|top_?[15]|score|fitness"
)
_LOWER = re.compile(r"loss|err|mae|mse|perplexity|ppl|wer|cer|bpb|logloss|divergence|fid")
#: the metric that a chart shows, the first that is there
_MAIN = (
    r"^map$|map50_95", r"^val.*acc", r"^eval_(acc|f1)", r"acc", r"^map", r"auc", r"f1",
    r"^(val|eval).*loss", r"loss", r"rmse|mae|mse|err",
)  # fmt: skip


def key(name: str) -> str:
    """What two names of one metric have in common: `metrics/mAP50(B)` and `mAP50` are `map50`."""
    plain = re.sub(r"\(b\)$", "", name.strip().lower())
    plain = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return _SAME.get(plain, plain) or name


def rank(data: dict[str, Any], order: Sequence[str]) -> int:
    """How far down the list of side files a report's source stands; the console is last."""
    if not (path := data.get("file")):
        return CONSOLE
    name = path.rpartition("/")[2]
    places = (at for at, pattern in enumerate(order) if fnmatchcase(name, pattern))
    return next(places, len(order))


def rows(
    reports: Iterable[tuple[float | None, dict[str, Any]]], order: Sequence[str]
) -> list[dict[str, Any]]:
    """Make rows of "time", "epoch", "step" and "metrics" of all reports, (time, data) each.

    What is said twice of one epoch and step is in one row, once.
    """
    reports = _with_epochs(list(reports))
    trusted = _trusted(reports, order)
    made: list[dict[str, Any]] = []
    last: dict[tuple[Any, Any], dict[str, Any]] = {}
    for at, data in reports:
        epoch, step = data.get("epoch"), data.get("step")
        metrics = _counted(at, data, rank(data, order), trusted)
        if not metrics:
            continue
        row = last.get((epoch, step))
        together = row is not None and epoch is step is None and row["time"] != at
        if row is None or together or _disagree(row["metrics"], metrics):
            row = {"time": data.get("at") or at, "epoch": epoch, "step": step, "metrics": {}}
            last[epoch, step] = row
            made.append(row)
        row["metrics"].update(metrics)
    return made


def _with_epochs(
    reports: list[tuple[float | None, dict[str, Any]]],
) -> list[tuple[float | None, dict[str, Any]]]:
    """The reports that have metrics; with their epoch, where the same file says it of their step."""
    said = {
        (data["file"], data.get("step")): data["epoch"]
        for _at, data in reports
        if data.get("file") and data.get("epoch") is not None
    }
    return [
        (at, data if data.get("epoch") is not None
         else data | {"epoch": said.get((data.get("file"), data.get("step")))})
        for at, data in reports
        if data.get("metrics")
    ]  # fmt: skip


def _trusted(
    reports: list[tuple[float | None, dict[str, Any]]], order: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """By key of a metric: the best side file that has it, under which name, and for when."""
    best: dict[str, dict[str, Any]] = {}
    for at, data in reports:
        place = rank(data, order)
        if place == CONSOLE:
            continue
        for name in data["metrics"]:
            entry = best.get(key(name))
            if entry is None or place < entry["rank"]:
                entry = {
                    "rank": place,
                    "names": set(),
                    "name": name,
                    "moments": {"epoch": set(), "step": set()},
                    "until": 0.0,
                }
                best[key(name)] = entry
            if place == entry["rank"]:
                entry["names"].add(name)
                for unit, moments in entry["moments"].items():
                    if data.get(unit) is not None:
                        moments.add(data[unit])
                entry["until"] = max(entry["until"], at or 0.0)
    return best


def _counted(
    at: float | None, data: dict[str, Any], place: int, trusted: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    """The metrics of a report that no better source has."""
    metrics = {}
    for name, value in data["metrics"].items():
        entry = trusted.get(key(name))
        if entry is None or place == entry["rank"]:
            metrics[name] = value
        elif place == CONSOLE and not _is_covered(at, data, entry):
            metrics[entry["name"]] = value
    return metrics


def _is_covered(at: float | None, data: dict[str, Any], entry: dict[str, Any]) -> bool:
    """Whether a side file has spoken of this moment; of a step beyond its last it has not."""
    steps = entry["moments"]["step"]
    if steps and (data.get("step") or 0) > max(steps):
        return False
    epochs = entry["moments"]["epoch"]
    if steps and epochs and data.get("epoch") == max(epochs):
        return bool((at or 0.0) <= entry["until"])  # of its newest epoch it may have said a part
    for place in ("epoch", "step"):
        moments = entry["moments"][place]
        if data.get(place) is not None and moments:
            return data[place] in moments
    return bool((at or 0.0) <= entry["until"])


def _disagree(row: dict[str, Any], more: dict[str, Any]) -> bool:
    return any(name in row and row[name] != value for name, value in more.items())


def names(table: Iterable[dict[str, Any]]) -> list[str]:
    """Names of all metrics of the rows, in the order in which they first came."""
    return list(dict.fromkeys(name for row in table for name in row["metrics"]))


def csv_text(table: Sequence[dict[str, Any]]) -> str:
    """Rows as CSV: time, epoch, step, then one column a metric."""
    columns = sorted(names(table))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["time", "epoch", "step", *columns])
    for row in table:
        values = (row["metrics"].get(name) for name in columns)
        time = "" if row["time"] is None else f"{row['time']:.3f}"
        writer.writerow([time, row["epoch"], row["step"], *values])
    return out.getvalue()


def by_epoch(table: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row an epoch, with the last value of each metric in it; the rows as they are without.

    A training may count its epochs anew, for another fold, say: then they have rows of their own.
    """
    made: list[dict[str, Any]] = []
    open_rows: dict[int, dict[str, Any]] = {}
    for row in table:
        epoch = row["epoch"]
        if epoch is None:
            continue
        before = open_rows.get(epoch)
        if before and epoch < max(open_rows) and _disagree(before["metrics"], row["metrics"]):
            open_rows.clear()
        if epoch not in open_rows:
            open_rows[epoch] = {**row, "metrics": {}}
            made.append(open_rows[epoch])
        open_rows[epoch]["metrics"].update(row["metrics"])
        open_rows[epoch]["step"] = row["step"]
    return made or list(table)


def best(table: Iterable[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """By metric, its best value and where; only of those that have a better and a worse."""
    found: dict[str, dict[str, Any]] = {}
    for row in table:
        for name, value in row["metrics"].items():
            sign = direction(name)
            if sign and isinstance(value, int | float) and math.isfinite(value):
                before = found.get(name)
                if before is None or (value - before["value"]) * sign > 0:
                    found[name] = {"value": value, "epoch": row["epoch"], "step": row["step"]}
    return found


def direction(name: str) -> int:
    """1 when more of a metric is better, -1 when less is, 0 when that can't be told."""
    plain = key(name)
    if _LOWER.search(plain):
        return -1
    return 1 if _HIGHER.search(plain) or plain == "map" else 0


def main_metrics(table: Sequence[dict[str, Any]], most: int = 2) -> list[str]:
    """The metrics that tell most of a training: the one it is judged by, and its loss."""
    known = names(table)
    found: list[str] = []
    for wanted in (_MAIN, (r"^(val|eval|valid).*loss", r"loss")):
        hits = (n for pattern in wanted for n in known if re.search(pattern, key(n)))
        hit = next((n for n in hits if n not in found), None)
        found += [hit] if hit else []
    return (found or known)[:most]
