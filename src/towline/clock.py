"""The real clock: the one place that may sleep."""

from __future__ import annotations

import asyncio
import time


class RealClock:
    """Wall and monotonic time of this machine."""

    def now(self) -> float:
        """UTC seconds since the epoch."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never jump back."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait without blocking."""
        await asyncio.sleep(seconds)
