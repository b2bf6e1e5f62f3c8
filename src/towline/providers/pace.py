"""The least time between two calls of one kind, where a provider's API wants one."""

from __future__ import annotations

from collections.abc import Mapping

from towline.ports import Clock


class Pace:
    """Who comes sooner than allowed waits for its turn; within this process only."""

    def __init__(self, clock: Clock, intervals_s: Mapping[str, float]) -> None:
        """Every kind is free.

        Args:
            clock: To wait by.
            intervals_s: By kind of call, the least time between two of them.
        """
        self._clock = clock
        self._intervals_s = intervals_s
        self._free_at: dict[str, float] = {}

    async def turn(self, kind: str) -> None:
        """Wait until a call of that kind may be made."""
        now = self._clock.monotonic()
        at = max(now, self._free_at.get(kind, now))
        self._free_at[kind] = at + self._intervals_s[kind]  # taken before the wait
        if at > now:
            await self._clock.sleep(at - now)
