"""Which of all that a log says is worth an event: a bar redrawn 10 times a second is not 10 of them.

A frame becomes an event when the epoch changes, or the whole percent of the training; where the
training's length is unknown, after five seconds of its bar's clock or a tenth of an epoch. The
last frame of an epoch is held, and told with all its figures when the epoch is over.
"""

from __future__ import annotations

from typing import Any

from towline.core.reading import Progress, Seen

_EVERY_ROW = 1000  # so many rows are all told; of more, one in n/500, and the last
_SECONDS = 5.0
_BEHIND = 5  # so many frames in a row of an earlier epoch mean that it began anew
_MOST_NAMES = 200
_UNTOLD = object()

#: what has to change for a frame to be news: of the whole training, or of a bar, in percent
_Key = tuple[str, int]


class Thinner:
    """Takes all that was read; gives back what is to be told."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        state = state or {}
        self._held = _progress(state.get("held"))  # the last frame: its figures are told at the end
        self._full = _progress(state.get("full"))  # the last frame that was told with all figures
        self._late = _progress(state.get("late"))  # the last row, where it was not told
        self._known: dict[str, float | None] = state.get("known") or {}  # told, by metric
        self._epoch: int | None = state.get("epoch")
        self._key: _Key | None = tuple(state["key"]) if state.get("key") else None
        self._clock: float | None = state.get("clock")
        self._behind: int = state.get("behind", 0)
        self._rows: int = state.get("rows", 0)

    def state(self) -> dict[str, Any]:
        """All of it, as JSON."""
        return {
            "held": self._held and self._held.data(),
            "full": self._full and self._full.data(),
            "late": self._late and self._late.data(),
            "known": dict(self._known),
            "epoch": self._epoch,
            "key": self._key and list(self._key),
            "clock": self._clock,
            "behind": self._behind,
            "rows": self._rows,
        }

    def offer(self, seen: Seen) -> list[Progress]:
        """Take what was read; give back what is to be told now."""
        return (
            self._frame(seen.progress, seen.elapsed_s) if seen.frame else self._row(seen.progress)
        )

    def rest(self) -> list[Progress]:
        """What is held, at the end of the log."""
        late, self._late = self._late, None
        return self._release() + ([late] if late else [])

    # -- frames -----------------------------------------------------------------------------------

    def _frame(self, now: Progress, elapsed_s: float | None) -> list[Progress]:
        key = _key(now)
        if self._is_stray(now, key):
            return []
        held = self._held
        if now.step == 0 and held is not None and now.source in {"lightning", "tqdm"}:
            now = self._settled(now, held)
        told: list[Progress] = []
        if held is not None and (held.epoch != now.epoch or held.source != now.source):
            told = self._release()
        self._held = now
        epoch = self._epoch if now.epoch is None else now.epoch
        if not self._is_news(now, key, epoch, elapsed_s):
            return told
        known = self._known
        fresh = {n: v for n, v in now.metrics.items() if known.get(n, _UNTOLD) != v}
        is_full = len(fresh) == len(now.metrics)
        self._key, self._clock, self._epoch = key, elapsed_s, epoch
        self._full = now if is_full else None
        self._remember(fresh)
        told.append(now if is_full else now.with_metrics(fresh))
        return told

    def _is_news(
        self, now: Progress, key: _Key, epoch: int | None, elapsed_s: float | None
    ) -> bool:
        before = self._key
        if before is None or epoch != self._epoch:
            return True
        if key == before or not key[0]:
            return False
        if before[0] != key[0]:
            return True
        if key[0] == "%":
            return key[1] > before[1] or before[1] >= 100 or now.epoch is not None  # noqa: PLR2004
        if elapsed_s is not None and self._clock is not None and elapsed_s >= self._clock:
            return elapsed_s - self._clock >= _SECONDS
        return key[1] // 10 != before[1] // 10

    def _is_stray(self, now: Progress, key: _Key) -> bool:
        """Whether a frame tells of an earlier moment: another process's, or a validation's."""
        if now.epoch is None or self._epoch is None or now.epoch >= self._epoch:
            self._behind = 0
            if now.epoch not in {None, self._epoch} or self._key is None:
                return False
            return key[0] == self._key[0] == "%" and key[1] < self._key[1] < 100  # noqa: PLR2004
        self._behind += 1
        return self._behind < _BEHIND

    def _settled(self, now: Progress, held: Progress) -> Progress:
        """A frame of a bar that has just been set back: its figures are the last epoch's still."""
        if held.epoch is not None and now.epoch in {held.epoch, held.epoch + 1} and now.metrics:
            self._held = held.with_metrics(held.metrics | now.metrics)
        return self._held if self._held and now.epoch == held.epoch else now.with_metrics({})

    def _release(self) -> list[Progress]:
        """The held frame with all its figures, unless they have been told."""
        held, self._held = self._held, None
        if held is None or not held.metrics or held == self._full:
            return []
        self._full = held
        self._remember(held.metrics)
        return [held]

    def _remember(self, metrics: dict[str, float | None]) -> None:
        known = self._known
        known.update(metrics)
        while len(known) > _MOST_NAMES:  # what is forgotten is told again with the next frame
            del known[next(iter(known))]

    # -- rows -------------------------------------------------------------------------------------

    def _row(self, now: Progress) -> list[Progress]:
        """Figures that stand; the frame held of the same epoch is one with them."""
        told: list[Progress] = []
        held = self._held
        if held is not None and held.epoch is not None:
            if held.epoch == now.epoch and held.source == now.source:
                self._full, self._held = held, None
                now = _joined(held, now)
            else:
                told = self._release()
        if now.epoch is not None:
            self._epoch = now.epoch
        if now.fraction is not None:
            self._key = _key(now)
        self._behind = 0
        self._remember(now.metrics)
        self._rows = rows = self._rows + 1
        if rows <= _EVERY_ROW or rows % (rows // (_EVERY_ROW // 2)) == 0:
            self._late = None
            told.append(now)
        else:
            self._late = now
        return told


def _key(now: Progress) -> _Key:
    if now.fraction is not None:
        return "%", int(now.fraction * 100 + 1e-9)
    if now.step is not None and now.total_steps:
        return "step", now.step * 100 // now.total_steps
    return "", 0


def _joined(held: Progress, row: Progress) -> Progress:
    """A row with what only the frame before it says."""
    said = {name: value for name, value in row.data().items() if value is not None}
    return Progress(**(held.data() | said | {"metrics": held.metrics | row.metrics}))


def _progress(data: dict[str, Any] | None) -> Progress | None:
    return Progress(**data) if data else None
