"""What scikit-learn's models print with `verbose`: networks, boosting, forests, SGD, k-means."""

from __future__ import annotations

import re

from towline.core.grammar_boosting import seconds
from towline.core.reading import NUMBER, Memory, Progress, Rule, Seen, number, share

_ITERATION = re.compile(rf"^Iteration (\d{{1,9}}), (loss|inertia)\s*=?\s*({NUMBER})\.?$", re.ASCII)
_SCORE = re.compile(rf"^Validation score: ({NUMBER})$", re.ASCII)
_TREE = re.compile(r"^building tree (\d{1,9}) of (\d{1,9})$", re.ASCII)
_ROUND = re.compile(r"^\[(\d{1,9})/(\d{1,9})\] \d+ trees?, .*?in [\d.]+s$", re.ASCII)
_ROUND_FIGURE = re.compile(rf"(train|val) (loss|score): ({NUMBER})", re.ASCII)
_SGD = re.compile(r"^-- Epoch (\d{1,9})$", re.ASCII)
_SGD_LOSS = re.compile(rf"\bAvg\. loss: ({NUMBER})$", re.ASCII)
_TABLE = re.compile(r"^\s+Iter\s+Train Loss\s+(?:OOB Improve\s+)?Remaining Time\s*$")
_TABLE_ROW = re.compile(
    rf"^\s+(\d{{1,9}})\s+({NUMBER})(?:\s+({NUMBER}))?\s+([\d.]+[sm])\s*$", re.ASCII
)


def _seen(epoch: int | None, metrics: dict[str, float | None]) -> list[Seen]:
    return [Seen(Progress(epoch=epoch, metrics=metrics, source="sklearn"))]


def _iteration(line: str, memory: Memory) -> list[Seen] | None:
    """A network's epoch, from 1, or a round of k-means, from 0."""
    row = _ITERATION.match(line)
    if row is None:
        return None
    epoch = memory["sklearn"] = int(row[1]) + (row[2] == "inertia")
    return _seen(epoch, {row[2]: number(row[3])})


def _score(line: str, memory: Memory) -> list[Seen] | None:
    row = _SCORE.match(line)
    return _seen(memory.get("sklearn"), {"val_score": number(row[1])}) if row else None


def _tree(line: str, _memory: Memory) -> list[Seen] | None:
    row = _TREE.match(line)
    if row is None:
        return None
    done, total = int(row[1]), int(row[2])
    fraction = share(done, total, 0.0)
    at = Progress(epoch=done, total_epochs=total, fraction=fraction, source="sklearn")
    return [Seen(at, frame=True)]


def _round(line: str, _memory: Memory) -> list[Seen] | None:
    """A round of the histogram boosters."""
    row = _ROUND.match(line)
    if row is None:
        return None
    done, total = int(row[1]), int(row[2])
    at = Progress(
        epoch=done,
        total_epochs=total,
        fraction=share(done, total),
        metrics={f"{a}_{b}": number(value) for a, b, value in _ROUND_FIGURE.findall(line)},
        source="sklearn",
    )
    return [Seen(at)]


def _table(line: str, memory: Memory) -> list[Seen] | None:
    if not _TABLE.match(line):
        return None
    memory["sklearn_table"] = True
    return []


def _table_row(line: str, memory: Memory) -> list[Seen] | None:
    """A row of gradient boosting: round, loss, perhaps what a sample out of bag won, time left."""
    row = _TABLE_ROW.match(line) if memory.get("sklearn_table") else None
    if row is None:
        return None
    metrics = {"train_loss": number(row[2])}
    if row[3]:
        metrics["oob_improve"] = number(row[3])
    eta = seconds(row[4])
    return [Seen(Progress(epoch=int(row[1]), eta_s=eta, metrics=metrics, source="sklearn"))]


def _sgd(line: str, memory: Memory) -> list[Seen] | None:
    title = _SGD.match(line)
    if title is None:
        return None
    memory["sklearn_sgd"] = int(title[1])
    return []


def _sgd_loss(line: str, memory: Memory) -> list[Seen] | None:
    row = _SGD_LOSS.search(line)
    epoch = memory.get("sklearn_sgd")
    return _seen(epoch, {"loss": number(row[1])}) if row and epoch else None


RULES: tuple[Rule, ...] = (
    ("Iteration ", _iteration),
    ("Validation score", _score),
    ("building tree ", _tree),
    (" tree", _round),
    ("Train Loss", _table),
    ("-- Epoch ", _sgd),
    ("Avg. loss", _sgd_loss),
    ("  ", _table_row),
)
