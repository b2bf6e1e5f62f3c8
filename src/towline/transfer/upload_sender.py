"""One connection's work in an upload: take a share, make a block of it, send it, hear of it.

The next block is made while one is sent. What was not heard of goes back when the connection ends.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from towline.onboard import wire
from towline.talk import Talk
from towline.transfer.connections import share_bytes, together
from towline.transfer.meter import Gauge
from towline.transfer.shares import Share, Shares
from towline.transfer.upload_frames import block_of
from towline.transfer.upload_job import Job, Remark

_LEAST_RATIO = 0.05
_ALIVE_S = 10.0  # whoever says nothing for long is taken for dead


class Sender:
    """Sends shares over one connection until there are none.

    Args:
        talk: Of a verb that takes blocks.
        job: Whose files are sent.
        shares: Where the work comes from.
        arrived: Told each share that has arrived, and its bytes on the line.
    """

    def __init__(
        self,
        talk: Talk,
        job: Job,
        shares: Shares,
        arrived: Callable[[Share, int], None],
    ) -> None:
        self.blocks = 0
        self._talk = talk
        self._job = job
        self._shares = shares
        self._arrived = arrived
        self._held: deque[tuple[Share, int]] = deque()  # sent and not heard of
        self._free = asyncio.Event()
        self._gauge = Gauge()
        self._written = 0

    async def run(self) -> None:
        """Send until all shares have arrived, over whatever connection.

        Raises:
            FileChanged: A local file is no longer what was hashed.
            ConnectionLost: The connection broke.
        """
        ready: asyncio.Queue[tuple[Share, bytes, float] | None] = asyncio.Queue()
        taken: deque[Share] = deque()  # and not sent
        try:
            await together(self._make(ready, taken), self._send(ready, taken))
        finally:
            self._shares.give_back([*(share for share, _size in self._held), *taken])
            self._held.clear()

    def heard(self, remark: Remark) -> None:
        """Take the instance's word for how many blocks are written."""
        for _ in range(remark["written"] - self._written):
            if not self._held:
                break  # we have failed, and gave them back
            share, size = self._held.popleft()
            self._gauge.add(size)
            self._shares.arrived()
            self._arrived(share, size)
        self._written = remark["written"]

    async def _make(
        self, ready: asyncio.Queue[tuple[Share, bytes, float] | None], taken: deque[Share]
    ) -> None:
        while (share := await self._next()) is not None:
            taken.append(share)
            self._free.clear()
            began = time.monotonic()
            block = await asyncio.to_thread(
                block_of, self._job.found, share, self._job.hashing.kept, self._job.compression
            )
            ready.put_nowait((share, block, time.monotonic() - began))
            await self._free.wait()
        ready.put_nowait(None)

    async def _send(
        self, ready: asyncio.Queue[tuple[Share, bytes, float] | None], taken: deque[Share]
    ) -> None:
        while (one := await ready.get()) is not None:
            share, block, made_s = one
            self._free.set()  # the next one may be taken and made
            began = time.monotonic()
            taken.popleft()
            self._held.append((share, len(block)))
            self.blocks += 1
            await self._talk.send(wire.DATA, block)
            self._job.meter.sent(len(block))
            self._job.compression.tune(made_s, time.monotonic() - began)

    async def _next(self) -> Share | None:
        """The next share; signs of life while there is none."""
        while True:
            try:
                async with asyncio.timeout(_ALIVE_S):
                    ratio = max(self._job.compression.ratio, _LEAST_RATIO)
                    return await self._shares.take(share_bytes(self._gauge.rate() / ratio))
            except TimeoutError:
                await self._talk.send_json(wire.JSON, {})
