"""Hugging Face's Trainer and TRL: a line that is a Python mapping of numbers, quoted or not."""

from __future__ import annotations

import math
import re

from towline.core.reading import NUMBER, Memory, Progress, Rule, Seen, number, share

_MAPPING = re.compile(r"\{'[^{}]{1,4000}\}")
_ITEM = re.compile(r"'([^'\s]{1,80})':\s*'?(" + NUMBER + r")'?(?=\s*[,}])", re.ASCII)
_TOTALS = re.compile(
    r"^\W*(?:\S+ )?\s*(Num Epochs|Total optimization steps)\s*=\s*([\d,]{1,12})", re.ASCII
)
_NOT_METRICS = re.compile(r"^epoch$|_runtime$|_per_second$|^total_flos$|^step$")
_MARKS = frozenset({"loss", "learning_rate", "grad_norm"})


def _total(line: str, memory: Memory) -> list[Seen] | None:
    """A total of the log's opening."""
    total = _TOTALS.match(line)
    if total is None:
        return None
    key = "epochs" if total[1] == "Num Epochs" else "total"
    memory.setdefault("hf", {})[key] = int(total[2].replace(",", "") or 0) or None
    return []


def _logged(line: str, memory: Memory) -> list[Seen] | None:
    """A mapping of figures."""
    found = _MAPPING.search(line)
    values: dict[str, str] = dict(_ITEM.findall(found[0])) if found else {}
    epoch = number(values.get("epoch", ""))
    if epoch is None or not 0 <= epoch < 10**9:
        return None
    state = memory.setdefault("hf", {})
    if "total" not in state and _MARKS & set(values):
        state["total"] = memory.get("last_bar")  # the bar that was drawn while it trained
    if "train_runtime" in values:
        state["over"] = True
    metrics = {name: number(text) for name, text in values.items() if not _NOT_METRICS.search(name)}
    total = state.get("epochs")
    at = max(1, math.ceil(epoch - 1e-6))
    fraction = share(at, total, epoch - (at - 1)) if total else None
    progress = Progress(
        epoch=at, total_epochs=total, fraction=fraction, metrics=metrics, source="huggingface"
    )
    return [Seen(progress)]


RULES: tuple[Rule, ...] = (
    ("'epoch'", _logged),
    ("Num Epochs", _total),
    ("Total optimization steps", _total),
)
