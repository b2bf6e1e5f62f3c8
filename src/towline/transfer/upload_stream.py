"""The stream: what is missing goes in compressed blocks over one connection, resumed when cut.

`send_pieces` is one connection's sender; which pieces it gets is its caller's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from towline.errors import ChecksumMismatch, ConnectionLost
from towline.line import Talk
from towline.onboard import wire
from towline.transfer.scan import Scan
from towline.transfer.upload_frames import Frame, frames
from towline.transfer.upload_job import Job, Remark, converse
from towline.transfer.upload_plan import Piece, Plan

ROUNDS = 3  # what arrives damaged is sent again so often


async def stream(job: Job) -> None:
    """Send and have verified what is missing; the line is taken up again when it breaks.

    Raises:
        ChecksumMismatch: Something arrived damaged in each of three rounds.
        FileChanged: A local file is no longer what the manifest says.
        CommandFailed: The instance can't receive this way.
        RemoteDiskFull: No room there.
        ConnectionLost: The line stayed broken.
    """
    for last in (False,) * (ROUNDS - 1) + (True,):
        try:
            receiver = _Stream(job)
            while not await job.line.persist(receiver.attempt):
                pass  # bytes got through before it broke: the time to reconnect starts anew
        except ChecksumMismatch as damaged:
            if last:
                raise
            job.meter.note(f"{damaged.message}; sending that again")
        else:
            return


class _Stream:
    """The talks with the receiver, one after the other."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._plan: asyncio.Future[Plan] = asyncio.Future()
        self._left: int | None = None  # bytes that were missing when last asked
        self._got_through = False

    async def attempt(self) -> bool:
        """Talk once; False when the line broke after bytes had got through."""
        job = self._job
        self._plan = asyncio.Future()
        self._got_through = False
        try:
            async with job.line.talk("receive", job.request()) as talk:
                result = await converse(talk, self._write(talk), self._heard)
        except ConnectionLost:
            if self._got_through:
                return False
            raise
        job.require_proof(result)
        return True

    async def _write(self, talk: Talk) -> None:
        job = self._job
        await job.send_manifest(talk)
        plan = await self._plan
        if plan.complete:
            return
        sent = await send_pieces(talk, job.found, plan.pieces, job)
        end = {"files": sent.files, "bytes": sent.bytes}
        await talk.send_json(wire.END, end | {"manifest_sha256": job.digest})

    def _heard(self, remark: Remark) -> None:
        job = self._job
        if "want" in remark and not self._plan.done():
            plan = Plan.read(remark, job.found.manifest)
            self._plan.set_result(plan)
            # what the last talk sent shows only now if it broke soon
            self._got_through = self._left is not None and plan.left_bytes < self._left
            self._left = plan.left_bytes
            job.show(plan)
        elif "arrived" in remark and self._plan.done():
            self._got_through = True
            job.show(self._plan.result(), remark["arrived"], remark["files"])


@dataclass(slots=True)
class Sent:
    """What one connection has sent: files ended, and their bytes before compression."""

    files: int = 0
    bytes: int = 0


async def send_pieces(talk: Talk, found: Scan, pieces: tuple[Piece, ...], job: Job) -> Sent:
    """Send pieces over one connection; reading and compressing go on meanwhile in a thread.

    Raises:
        FileChanged: A local file is no longer what the manifest says.
        ConnectionLost: The line broke.
    """
    sent = Sent()
    async with aclosing(_ahead(frames(found, pieces, job.codec))) as ready:
        async for frame in ready:
            await talk.send(wire.DATA, frame.payload)
            job.meter.sent(len(frame.payload))
            sent.bytes += frame.bytes
            sent.files += frame.files
    return sent


async def _ahead(source: Iterator[Frame]) -> AsyncGenerator[Frame]:
    """Take from a blocking iterator in a thread, one item ahead of its consumer."""

    def take() -> asyncio.Task[Frame | None]:
        return asyncio.create_task(asyncio.to_thread(next, source, None))

    coming = take()
    try:
        while (frame := await coming) is not None:
            coming = take()
            yield frame
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
