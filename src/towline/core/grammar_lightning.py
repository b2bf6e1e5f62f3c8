"""Lightning's rich bar, `Epoch e/(E-1) ━━ n/N elapsed • left rate name: value`, and its last word."""

from __future__ import annotations

import re

from towline.core.reading import Memory, Progress, Rule, Seen, pairs, part, share

_RICH = re.compile(
    r"Epoch (\d{1,9})/(-?\d{1,9})\s+[━╸╺\s]*(\d{1,9})/(\d{1,9})\s+[\d:]+ • [-\d:]+\s*\S*(.*)$",
    re.ASCII,
)
_STOPPED = re.compile(r"`Trainer\.fit` stopped: `max_epochs=(\d{1,9})` reached", re.ASCII)


def _stopped(line: str, memory: Memory) -> list[Seen] | None:
    end = _STOPPED.search(line)
    if end is None:
        return None
    total = int(end[1])
    memory["total"] = total
    done = Progress(epoch=total, total_epochs=total, fraction=1.0, source="lightning")
    return [Seen(done, frame=True)]


def _rich(line: str, _memory: Memory) -> list[Seen] | None:
    bar = _RICH.search(line) if "•" in line else None
    if bar is None:
        return None
    epoch, done, whole = int(bar[1]) + 1, int(bar[3]), int(bar[4])
    last = int(bar[2])
    total = last + 1 if last >= 0 else None  # max_epochs=-1: as long as it may
    progress = Progress(
        epoch=epoch,
        total_epochs=total,
        step=done,
        total_steps=whole,
        fraction=share(epoch, total, part(done, whole)),
        metrics=pairs(bar[5]),
        source="lightning",
    )
    return [Seen(progress, frame=True)]


RULES: tuple[Rule, ...] = (("Epoch ", _rich), ("`Trainer.fit`", _stopped))
