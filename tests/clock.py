"""A clock that no test waits for: time passes when somebody sleeps, or when the test says so."""

import asyncio


class FakeClock:
    """Satisfies `towline.ports.Clock`."""

    def __init__(self, now=1_700_000_000.0):
        self._now = now
        self._monotonic = 1000.0
        self.slept = []

    def now(self):
        return self._now

    def monotonic(self):
        return self._monotonic

    async def sleep(self, seconds):
        self.slept.append(seconds)
        self.advance(seconds)
        await asyncio.sleep(0)

    def advance(self, seconds):
        self._now += seconds
        self._monotonic += seconds
