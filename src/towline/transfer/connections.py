"""How many connections: as many as bring more, opened one after the other.

A link that loses packets, or is long, carries more over several connections than over one; a clean
short one does not, and each costs memory on both sides. So the number grows while that helps.
sshd drops connections that come in a burst before they have logged in (MaxStartups), and some
servers allow one only: what they refuse is not asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
import statistics
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any

from towline.errors import CommandFailed, ConnectionLost, RemoteAuthError
from towline.line import Line
from towline.onboard.blocks import BLOCK_BYTES
from towline.ports import Remote
from towline.transfer.meter import Gauge, Meter

_FIRST = 4  # connections that any upload of some size begins with
_MOST = 16
_AT_ONCE = 3  # logins under way; sshd's own limit is 10, careful people set 3
_SETTLE_S = 0.5  # after new connections have come, before their effect is measured
_MEASURE_S = 0.7
_GAIN = 1.15  # a step that brings less was the last one
_SHARE_S = 0.1
_LEAST_BYTES = 64 * 1024
_FULL = 1.4  # round trips so much longer than the shortest: a queue stands, the link is full
_ALONE_S = 0.25  # the line's own connection shows first what it can do
_LOOK_S = 0.1  # how often a connection that waits for room on the link looks
_LOOKS = 3  # in a row, in which the link has to be free
_AGAIN_S = 8.0  # links change: after so long one more step is tried
_WORTH_S = 1.5  # what is sent sooner than this needs no more connections
_WORTH_BYTES = 4 * 1024 * 1024  # nor does what is less than this


class Connections:
    """Opens connections beside the line's own one, and has each of them serve.

    Args:
        line: To the instance.
        serve: Works over one connection until there is no more to do.
        left: Bytes on the line that could go now, about.
        gauge: What arrives over all connections.
        meter: Told how many there are.
    """

    def __init__(
        self,
        line: Line,
        serve: Callable[[Remote], Awaitable[None]],
        left: Callable[[], float],
        gauge: Gauge,
        meter: Meter,
    ) -> None:
        self._line = line
        self._serve = serve
        self._left = left
        self._gauge = gauge
        self._meter = meter
        self._tasks: set[asyncio.Task[None]] = set()
        self._serving: set[Remote] = set()
        self._logins = asyncio.Semaphore(_AT_ONCE)
        self._refused = False
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def run(self) -> None:
        """Grow while it helps, until cancelled.

        Raises:
            TowlineError: What a connection failed with, unless it was just lost or refused.
        """
        self._serving.add(await self._line.dial_once())
        growing = asyncio.create_task(self._grow())
        try:
            await asyncio.wait({growing, self._failed}, return_when=asyncio.FIRST_COMPLETED)
            if self._failed.done():
                self._failed.result()
            growing.result()
        finally:
            tasks = {growing, *self._tasks}
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._failed.done():
                self._failed.exception()  # seen, whatever else failed

    async def _grow(self) -> None:
        before = 0.0
        target = _FIRST
        while not self._refused:
            if self._pays():
                await self._open(target)
            rate = await self._measured()
            count = len(self._serving)
            if target > count or not self._pays() or count >= _MOST or self._is_full():
                continue
            if rate < before * _GAIN:
                await _pause(_AGAIN_S)
                rate = await self._measured()
            before = rate
            target = min(_MOST, 2 * count)
        await asyncio.Event().wait()  # those that there are go on

    async def _link_is_free(self) -> None:
        """Wait until there is work and the link has not been full for a while.

        For a while: a loss empties any queue for a moment.
        """
        free = 0
        while free < _LOOKS:
            await _pause(_LOOK_S)
            idle = self._gauge.age() >= _ALONE_S and not self._is_full() and self._pays()
            free = free + 1 if idle else 0

    def _is_full(self) -> bool:
        """Whether bytes queue up on the way: then more connections only make the queue longer."""
        delays = [delay for remote in self._serving if (delay := remote.delay()) is not None]
        return bool(delays) and statistics.median(delays) > _FULL

    def _pays(self) -> bool:
        return self._left() > max(_WORTH_S * self._gauge.rate(), _WORTH_BYTES)

    async def _measured(self) -> float:
        await _pause(_SETTLE_S)
        count, began = self._gauge.total, time.monotonic()
        await _pause(_MEASURE_S)
        return (self._gauge.total - count) / (time.monotonic() - began)

    async def _open(self, target: int) -> None:
        """Log in until there are so many connections; fewer if the server refuses."""
        ready = [self._start() for _ in range(target - 1 - len(self._tasks))]
        if ready:
            await asyncio.wait(ready)

    def _start(self) -> asyncio.Future[None]:
        """Begin one connection; the future is done when it is up or has failed."""
        up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(self._one(up))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return up

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) and not self._failed.done():
            self._failed.set_exception(error)

    async def _one(self, up: asyncio.Future[None]) -> None:
        remote = None
        try:
            async with self._logins:
                remote = await self._line.extra()
            up.set_result(None)
            await self._link_is_free()
            self._serving.add(remote)
            self._meter.connections = len(self._serving)
            await self._serve(remote)
        except (ConnectionLost, RemoteAuthError, CommandFailed):
            self._refused = True  # or lost: what was on its way goes over the others
        finally:
            if not up.done():
                up.set_result(None)
            if remote is not None:
                self._serving.discard(remote)
                self._meter.connections = len(self._serving)
                await remote.close()


async def _pause(seconds: float) -> None:
    """Let the connections work for a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


async def together(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things at once; the first failure ends the others and is raised."""
    await _until(asyncio.FIRST_EXCEPTION, works)


async def race(*works: Coroutine[Any, Any, None]) -> None:
    """Do several things at once until one of them is done; the others are ended."""
    await _until(asyncio.FIRST_COMPLETED, works)


async def _until(when: str, works: Sequence[Coroutine[Any, Any, None]]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        done, _rest = await asyncio.wait(tasks, return_when=when)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def share_bytes(bytes_per_s: float) -> int:
    """How many bytes one share should be on a connection that is so fast.

    What the connection carries in a moment, so that little is lost when it breaks, and none is
    waited for when all the others are done.
    """
    return int(min(max(bytes_per_s * _SHARE_S, _LEAST_BYTES), BLOCK_BYTES))
