"""XGBoost, LightGBM, CatBoost, and scikit-learn's verbose fits. A round counts as an epoch."""

from __future__ import annotations

import re

from towline.core.reading import NUMBER, Memory, Progress, Seen, number, share

_NUM = f"({NUMBER})"
_ROUND = re.compile(r"^\[(\d{1,9})\]\t(.+)$", re.ASCII)
_SCORE = re.compile(r"^(\S.*?):( ?)" + _NUM + r"(?:\s*\+\s*[\d.e+-]+)?$", re.ASCII)
_CATBOOST = re.compile(
    r"^(\d{1,9}):\t(.*\t)?total: ([\d.]+\s?\w+(?: \d+\w+)*)\tremaining: (\S.*)$", re.ASCII
)
_FIELD = re.compile(r"(learn|test\d*): " + _NUM + r"(?=\t)", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MLP = re.compile(r"^Iteration (\d{1,9}), (loss|inertia)\s*=?\s*" + _NUM + r"\.?$", re.ASCII)
_VALID = re.compile(r"^Validation score: " + _NUM + r"$", re.ASCII)
_TREES = re.compile(r"^building tree (\d{1,9}) of (\d{1,9})$", re.ASCII)
_HIST = re.compile(r"^\[(\d{1,9})/(\d{1,9})\] \d+ trees?, .*?in [\d.]+s$", re.ASCII)
_HIST_LOSS = re.compile(r"(train|val) (loss|score): " + _NUM, re.ASCII)
_SGD = re.compile(r"^-- Epoch (\d{1,9})$", re.ASCII)
_SGD_LOSS = re.compile(r"\bAvg\. loss: " + _NUM + r"$", re.ASCII)
_TABLE = re.compile(r"^\s+Iter\s+Train Loss\s+(OOB Improve\s+)?Remaining Time\s*$")
_TABLE_ROW = re.compile(
    r"^\s+(\d{1,9})\s+" + _NUM + r"(?:\s+" + _NUM + r")?\s+([\d.]+)([sm])\s*$", re.ASCII
)


def read(line: str, memory: Memory) -> list[Seen] | None:
    """Read a round of one of them."""
    if line.startswith("[") and "\t" in line and (row := _ROUND.match(line)):
        return _round(int(row[1]), row[2], memory)
    if "est iteration is:" in line or "best iteration is:" in line:
        memory["repeated"] = True  # LightGBM: the next row was told before
        return []
    if "remaining: " in line and (row := _CATBOOST.match(line)):
        return _catboost(row)
    return _sklearn(line, memory)


def _seen(
    epoch: int, source: str, metrics: dict[str, float | None], **more: float | None
) -> list[Seen]:
    return [Seen(Progress(epoch=epoch, source=source, metrics=metrics, **more))]  # type: ignore[arg-type]


def _round(number_said: int, text: str, memory: Memory) -> list[Seen] | None:
    """A row of XGBoost (from 0, `name:v`) or LightGBM (from 1, `name: v`)."""
    if memory.pop("repeated", False):
        return []
    found = [_SCORE.match(field.strip()) for field in text.split("\t")[:200]]
    scores = [one for one in found if one]
    if not scores or len(scores) < len(found):
        return None
    is_lightgbm = bool(scores[0][2])
    metrics = {one[1].replace("'s ", " ")[:120]: number(one[3]) for one in scores}
    epoch = number_said + (0 if is_lightgbm else 1)
    return _seen(epoch, "lightgbm" if is_lightgbm else "xgboost", metrics)


def _catboost(row: re.Match[str]) -> list[Seen]:
    metrics = {name: number(value) for name, value in _FIELD.findall(row[2] or "")}
    spent, left = _duration(row[3]), _duration(row[4])
    fraction = (
        spent / (spent + left) if spent is not None and left is not None and spent + left else None
    )
    epoch = int(row[1]) + 1
    total = epoch if left == 0 else None
    return _seen(epoch, "catboost", metrics, total_epochs=total, fraction=fraction, eta_s=left)


def _duration(text: str) -> float | None:
    """`48.5ms`, `1m 2s`, `2h 3m`."""
    parts = re.findall(r"([\d.]+)(us|ms|s|m|h|d)\b", text)
    values = [(number(value), _UNITS[unit]) for value, unit in parts]
    return round(sum((value or 0.0) * unit for value, unit in values), 6) if values else None


def _sklearn(line: str, memory: Memory) -> list[Seen] | None:
    if line.startswith("Iteration ") and (row := _MLP.match(line)):
        # KMeans counts from 0, networks from 1
        epoch = int(row[1]) + (row[2] == "inertia")
        memory["sklearn"] = {"epoch": epoch}
        return _seen(epoch, "sklearn", {row[2]: number(row[3])})
    if line.startswith("Validation score") and (row := _VALID.match(line)):
        epoch = (memory.get("sklearn") or {}).get("epoch")
        return [
            Seen(Progress(epoch=epoch, source="sklearn", metrics={"val_score": number(row[1])}))
        ]
    if line.startswith("building tree") and (row := _TREES.match(line)):
        done, total = int(row[1]), int(row[2])
        at = Progress(
            epoch=done, total_epochs=total, fraction=share(done, total, 0.0), source="sklearn"
        )
        return [Seen(at, frame=True)]
    if line.startswith("[") and (row := _HIST.match(line)):
        metrics = {f"{a}_{b}": number(value) for a, b, value in _HIST_LOSS.findall(line)}
        done, total = int(row[1]), int(row[2])
        return _seen(done, "sklearn", metrics, total_epochs=total, fraction=share(done, total))
    return _tables(line, memory)


def _tables(line: str, memory: Memory) -> list[Seen] | None:
    """scikit-learn's gradient boosting and its SGD."""
    if "Iter " in line and (title := _TABLE.match(line)):
        memory["gb"] = "oob" if title[1] else "plain"
        return []
    if memory.get("gb") and (row := _TABLE_ROW.match(line)):
        metrics = {"train_loss": number(row[2])}
        if row[3]:
            metrics["oob_improve"] = number(row[3])
        left = (number(row[4]) or 0.0) * _UNITS[row[5]]
        return _seen(int(row[1]), "sklearn", metrics, eta_s=left)
    if line.startswith("-- ") and (title := _SGD.match(line)):
        memory["sgd"] = int(title[1])
        return []
    if memory.get("sgd") and (row := _SGD_LOSS.search(line)):
        return _seen(memory["sgd"], "sklearn", {"loss": number(row[1])})
    return None
