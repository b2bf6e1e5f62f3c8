"""Clocks that no test waits for: time passes when somebody sleeps, or when the test says so."""

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

    def jump(self, seconds):
        """The wall clock is set, as by a time server."""
        self._now += seconds

    def advance(self, seconds):
        self._now += seconds
        self._monotonic += seconds


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose time jumps to the next timer as soon as nothing else is to do."""

    def __init__(self):
        super().__init__()
        self._moment = 1000.0
        really_select = self._selector.select

        def select(timeout=None):
            ready = really_select(None if timeout is None else 0)
            if not ready and timeout:
                self._moment += timeout
            return ready

        self._selector.select = select

    def time(self):
        return self._moment

    monotonic = time  # it stands for the module `time` where code reads that


def run_jumping(work, *modules, monkeypatch):
    """Run a coroutine function to its end on a jumping loop; the modules read their time there."""
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        for module in modules:
            monkeypatch.setattr(module, "time", runner.get_loop())
        return runner.run(work())
