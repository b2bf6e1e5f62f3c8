"""The stream: manifest and blocks to the instance, over as many connections as help.

One talk, over the line's own connection, sends the manifest as it is hashed and hears what of it is
missing; shares of that go over this and other connections. When the line breaks, a new talk asks
what has arrived.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator

from towline.core.units import size_text
from towline.errors import ChecksumMismatch, CommandFailed, ConnectionLost, RemoteDiskFilled
from towline.onboard import wire
from towline.ports import Remote
from towline.talk import Talk
from towline.transfer.connections import Connections, race, together
from towline.transfer.meter import Gauge
from towline.transfer.shares import WHOLE_BYTES, Part, Prefix, Share, Shares
from towline.transfer.upload_frames import require_untouched
from towline.transfer.upload_job import Job, Remark, converse
from towline.transfer.upload_sender import Sender

ROUNDS = 3  # what arrives damaged is sent again so often
_AHEAD_BYTES = 32 * 1024 * 1024  # hashed and not yet sent: more than is under way on any link
_ALIVE_S = 10.0
_FOLLOW_BYTES = 8 * 1024 * 1024  # the instance is told of a large file's growth in such steps


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
            await _persist(job)
        except ChecksumMismatch as damaged:
            await asyncio.to_thread(require_untouched, job.found)
            if last:
                raise
            job.meter.note(f"{damaged.message}; sending that again")
        else:
            return


async def _persist(job: Job) -> None:
    """Attempt it until the line does not break; the time to reconnect starts anew with each byte
    that gets through."""
    gauge = Gauge()

    async def attempt() -> bool:
        before = gauge.total
        try:
            await _Attempt(job, gauge).run()
        except ConnectionLost:
            if gauge.total > before:
                return False
            raise
        return True

    while not await job.line.persist(attempt):
        pass


class _Attempt:
    """One talk with the receiver, and the connections that help it."""

    def __init__(self, job: Job, gauge: Gauge) -> None:
        loop = asyncio.get_running_loop()
        self._job = job
        self._gauge = gauge
        self._manifest = job.found.manifest
        self._shares = Shares(self._manifest.size)
        self._hello: asyncio.Future[Remark] = loop.create_future()
        self._complete: asyncio.Future[bool] = loop.create_future()
        self._answered = 0  # entries of which the instance has said what is missing
        self._bytes = self._files = 0  # on the other side
        self._large: dict[int, tuple[Prefix, int]] = {}  # and how much of it was told
        self._growth: dict[int, int] = {}  # to be told
        self._news = asyncio.Event()

    async def run(self) -> None:
        """Talk to the end.

        Raises:
            RemoteDiskFilled: No room there; the message says how much had yet to come.
        """
        self._job.hashing.start()
        try:
            await race(self._helped(), self._talk())
        except RemoteDiskFilled as full:
            left = self._manifest.size_bytes - self._bytes
            message = f"{full.message}; {size_text(left)} had yet to come"
            raise RemoteDiskFilled(message) from full

    async def _helped(self) -> None:
        """Open more connections; the logins are begun before it is known what there is to do.

        But not before the instance has answered: on a small machine they would delay that.
        """
        await asyncio.shield(self._hello)
        job = self._job
        await Connections(job.line, self._help, self._left, self._gauge, job.meter).run()

    async def _talk(self) -> None:
        job = self._job
        async with job.line.talk("receive", job.request()) as talk:
            self._main = self._sender(talk)
            result = await converse(talk, self._write(talk), self._heard)
        job.require_proof(result)

    def _sender(self, talk: Talk) -> Sender:
        return Sender(talk, self._job, self._shares, self._arrived)

    # -- writing ----------------------------------------------------------------------------------

    async def _write(self, talk: Talk) -> None:
        hello = await asyncio.shield(self._hello)  # others wait for it too
        greeting = asyncio.create_task(self._greeting(hello))
        try:
            while not (await asyncio.wait({greeting}, timeout=_ALIVE_S))[0]:
                await talk.send_json(wire.JSON, {})  # large files take long to hash
        finally:
            greeting.cancel()
        keep, same = greeting.result()
        await talk.send_json(wire.JSON, {"same": same, "keep": keep})
        if same and await self._complete:
            return
        await together(self._main.run(), self._describe(talk, keep), self._tell(talk))
        end = {"rows": len(self._manifest), "manifest_sha256": self._manifest.digest()}
        await talk.send_json(wire.END, end)

    async def _greeting(self, hello: Remark) -> tuple[int, bool]:
        """How many lines the instance has right, and whether it has the whole upload already."""
        manifest, delivered = self._manifest, hello["delivered"]
        count = hello["rows"] if hello["rows"] <= len(manifest) else 0
        await self._job.hashing.beyond(len(manifest) - 1 if delivered else count - 1)
        same = bool(delivered) and delivered == await asyncio.to_thread(manifest.digest)
        begun = count and await asyncio.to_thread(_digest, manifest.lines(0, count))
        return (count if begun == hello["rows_sha256"] else 0), same

    async def _describe(self, talk: Talk, first: int) -> None:
        """Send the manifest's lines as the hashes come; the last answer ends the shares."""
        while first < len(self._manifest):
            end = await self._job.hashing.beyond(first)
            await self._job.send_lines(talk, wire.ROWS, first, end)
            first = end
            await self._shares.room(_AHEAD_BYTES)

    async def _tell(self, talk: Talk) -> None:
        """Tell the receiver how large files grow, until all is there."""
        while self._growth or not self._shares.finished:
            if not self._growth:
                self._news.clear()
                await self._news.wait()
            growth, self._growth = self._growth, {}
            if growth:
                await talk.send_json(wire.JSON, {"follow": list(growth.items())})

    async def _help(self, remote: Remote) -> None:
        """Send shares over one more connection."""
        token = (await asyncio.shield(self._hello))["token"]
        request = {"name": self._job.name, "token": token}
        async with self._job.line.talk("take", request, remote) as talk:
            sender = self._sender(talk)

            async def write() -> None:
                await sender.run()
                await talk.send_json(wire.END, {"blocks": sender.blocks})

            await converse(talk, write(), sender.heard)

    def _left(self) -> float:
        """Bytes on the line that could go now; until the instance has answered, all of them.

        While few wait, this machine or the instance is the slow one, and not the line.
        """
        waiting = self._shares.waiting_bytes if self._answered else self._manifest.size_bytes
        return waiting * self._job.compression.ratio

    # -- hearing ----------------------------------------------------------------------------------

    def _heard(self, remark: Remark) -> None:
        if "token" in remark:
            self._hello.set_result(remark)
        elif "written" in remark:
            self._main.heard(remark)
        elif "complete" in remark or "want" in remark:
            if not self._complete.done():
                self._complete.set_result("complete" in remark)
            if "want" in remark:
                try:
                    self._wanted(remark)
                except (KeyError, TypeError, ValueError, IndexError) as error:
                    message = f"what the instance says is missing makes no sense: {error!r}"
                    raise CommandFailed(message) from error

    def _wanted(self, answer: Remark) -> None:
        """Take what is missing of the next entries; the rest of them is there."""
        entries = range(self._answered, answer["rows"])
        size = sum(map(self._manifest.size, entries))
        files = sum(map(self._manifest.is_file, entries))
        self._answered = answer["rows"]
        for first, count in [*answer["want"], *((number, 1) for number, _ in answer["partial"])]:
            if not entries.start <= first <= first + count <= entries.stop:
                raise ValueError((first, count))
        parts = []
        for number, gaps in answer["partial"]:
            self._large[number] = Prefix(self._manifest.size(number), gaps), 0
            parts += [Part(number, start, end) for start, end in gaps]
        missing = self._shares.add(answer["want"], parts)
        self._bytes += size - missing
        self._files += files - len(answer["partial"]) - sum(n for _first, n in answer["want"])
        if self._answered == len(self._manifest):
            self._shares.close()
        self._news.set()
        self._show()

    def _arrived(self, share: Share, wire_bytes: int) -> None:
        self._gauge.add(wire_bytes)
        self._bytes += share.bytes
        for part in share.parts:
            if part.number in self._large or self._manifest.size(part.number) > WHOLE_BYTES:
                self._grown(part)
            else:
                self._files += 1
        self._news.set()
        self._show()

    def _grown(self, part: Part) -> None:
        size = self._manifest.size(part.number)
        prefix, told = self._large.get(part.number) or (Prefix(size, [(0, size)]), 0)
        prefix.add(part.start, part.end)
        upto = prefix.upto
        if upto == size or upto - told >= _FOLLOW_BYTES:
            self._growth[part.number] = told = upto
        self._large[part.number] = prefix, told
        if upto == size:
            self._files += 1
            del self._large[part.number]

    def _show(self) -> None:
        self._job.meter.arrived(self._bytes, self._files)


def _digest(lines: Iterator[bytes]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line)
    return digest.hexdigest()
