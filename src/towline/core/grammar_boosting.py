"""XGBoost, LightGBM and CatBoost. A round counts as an epoch."""

from __future__ import annotations

import re

from towline.core.reading import NUMBER, Memory, Progress, Rule, Seen, number

_ROUND = re.compile(r"^\[(\d{1,9})\]\t(.+)$", re.ASCII)
_SCORE = re.compile(rf"^(\S.*?):( ?)({NUMBER})(?:\s*\+\s*[\d.e+-]+)?$", re.ASCII)
_CATBOOST = re.compile(r"^(\d{1,9}):\t(.*\t)?total: (\d[\w. ]*)\tremaining: (\d[\w. ]*)$", re.ASCII)
_FIELD = re.compile(rf"(learn|test\d*): ({NUMBER})(?=\t)", re.ASCII)
_DURATION = re.compile(r"([\d.]+)(us|ms|s|m|h|d)\b", re.ASCII)
_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_MOST_SCORES = 200
_LONGEST = 120


def _round(line: str, memory: Memory) -> list[Seen] | None:
    """A row of XGBoost (from 0, `name:v`) or LightGBM (from 1, `name: v`)."""
    row = _ROUND.match(line)
    if row is None:
        return None
    found = [_SCORE.match(field.strip()) for field in row[2].split("\t")[:_MOST_SCORES]]
    scores = [one for one in found if one]
    if not scores or len(scores) < len(found):
        return None
    if memory.pop("repeated", False):
        return []
    is_lightgbm = bool(scores[0][2])
    progress = Progress(
        epoch=int(row[1]) + (0 if is_lightgbm else 1),
        metrics={one[1].replace("'s ", " ")[:_LONGEST]: number(one[3]) for one in scores},
        source="lightgbm" if is_lightgbm else "xgboost",
    )
    return [Seen(progress)]


def _best(_line: str, memory: Memory) -> list[Seen]:
    """LightGBM's last words: the row behind them was told before."""
    memory["repeated"] = True
    return []


def _catboost(line: str, _memory: Memory) -> list[Seen] | None:
    row = _CATBOOST.match(line)
    if row is None:
        return None
    spent, left = seconds(row[3]), seconds(row[4])
    epoch = int(row[1]) + 1
    progress = Progress(
        epoch=epoch,
        total_epochs=epoch if left == 0 else None,
        fraction=round(spent / (spent + left), 4) if spent + left else None,
        eta_s=left,
        metrics={name: number(value) for name, value in _FIELD.findall(row[2] or "")},
        source="catboost",
    )
    return [Seen(progress)]


def seconds(text: str) -> float:
    """A duration as boosters print it: `48.5ms`, `1m 2s`, `2h 3m`."""
    parts = ((number(value) or 0.0) * _UNITS[unit] for value, unit in _DURATION.findall(text))
    return round(sum(parts), 6)


RULES: tuple[Rule, ...] = (
    ("]\t", _round),
    ("est iteration is:", _best),
    ("\tremaining: ", _catboost),
)
