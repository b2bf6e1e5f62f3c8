"""An instance that is kept for the user after the training, and when that is over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


class _Clock(Protocol):
    def now(self) -> float: ...
    def monotonic(self) -> float: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """From when, by both of this machine's clocks, an instance is kept for how long.

    ``tick``: None where an older towline wrote no more than the end.
    """

    at: float
    tick: float | None
    keep_s: float

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> Kept | None:
        """What a run's facts say; None for one that is not kept."""
        until = facts.get("kept_until")
        if until is None:
            return None
        since = facts.get("kept_since")
        if since is None:
            return cls(at=0.0, tick=None, keep_s=until)
        return cls(**since)

    def facts(self) -> dict[str, Any]:
        """Its facts, as `of` reads them."""
        since = {"at": self.at, "tick": self.tick, "keep_s": self.keep_s}
        return {"kept_until": self.at + self.keep_s, "kept_since": since}

    def left_s(self, clock: _Clock) -> float:
        """Seconds until the time is over; 0 and less when it is.

        It is over as soon as either clock says so, also when the wall clock stands before the
        beginning: the other one stands still while this machine sleeps. So a clock that jumps can
        make it shorter, never longer.
        """
        by_wall = self.at + self.keep_s - clock.now() if clock.now() >= self.at else 0.0
        passed = None if self.tick is None else clock.monotonic() - self.tick
        if passed is None or passed < 0:  # after a boot it begins anew
            return by_wall
        return min(by_wall, self.keep_s - passed)
