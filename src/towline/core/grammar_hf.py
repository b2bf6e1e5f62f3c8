"""Hugging Face's Trainer and TRL: a line that is a Python mapping of numbers, quoted or not."""

from __future__ import annotations

import math
import re

from towline.core.reading import NUMBER, Memory, Progress, Seen, number, share

_MAPPING = re.compile(r"\{'[^{}]{1,4000}\}")
_ITEM = re.compile(r"'([^'\s]{1,80})':\s*'?(" + NUMBER + r")'?(?=\s*[,}])", re.ASCII)
_TOTALS = re.compile(
    r"^\W*(?:\S+ )?\s*(Num Epochs|Total optimization steps)\s*=\s*([\d,]{1,12})", re.ASCII
)
_NOT_METRICS = re.compile(r"^epoch$|_runtime$|_per_second$|^total_flos$|^step$")
_MARKS = frozenset({"loss", "learning_rate", "grad_norm"})


def read(line: str, memory: Memory) -> list[Seen] | None:
    """Read a mapping of metrics, or a total of the log's opening."""
    if "{'" in line and "'epoch'" in line and (found := _MAPPING.search(line)):
        return _logged(dict(_ITEM.findall(found[0])), memory)
    if "Num Epochs" in line or "Total optimization" in line:
        if total := _TOTALS.match(line):
            state = memory.setdefault("hf", {})
            key = "epochs" if total[1] == "Num Epochs" else "total"
            state[key] = int(total[2].replace(",", "") or 0) or None
            return []
    return None


def _logged(values: dict[str, str], memory: Memory) -> list[Seen] | None:
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
