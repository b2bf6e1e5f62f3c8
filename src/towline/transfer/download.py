"""Bring files home from the instance: by parts over several connections, each file proven.

Small files share a block, large ones come in many. Owns the talks and what is asked again. How the bytes are kept and put in place is `download_files`'
business. Everything the instance says is taken as hostile.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from towline.core.manifest import shown
from towline.errors import ChecksumMismatch, CommandFailed, ConnectionLost
from towline.line import Line
from towline.onboard import blocks, codecs, wire
from towline.ports import Remote
from towline.talk import Talk
from towline.transfer.connections import Connections, race, share_bytes, together
from towline.transfer.download_files import Landing, RemoteFile
from towline.transfer.meter import Gauge, Meter, Report, TransferResult
from towline.transfer.shares import Part, Share, Shares

__all__ = ["RemoteFile", "download"]

_TRIES = 3
_ASKED = 8  # shares that one connection has been asked for and has not delivered


async def download(
    line: Line, base: str, items: Sequence[RemoteFile], into: Path, report: Report
) -> TransferResult:
    """Fetch files to the same relative paths below a folder; each appears whole or not at all.

    A file that is home already, by size and hash, is not fetched. A beginning that an earlier
    attempt left (`.towline-*.part`) is taken up. A file that changes on the instance is hashed
    there again and fetched again, at most three times; TransferResult.changed then says its
    true hash, or TransferResult.restless that it never stopped, and is not home.

    Args:
        line: To the instance.
        base: Absolute path on the instance, in the run's folder.
        items: Paths relative to ``base``, with size and hash as the instance told them.
        into: Folder on this machine; made when missing.
        report: Told how far it is.

    Raises:
        ChecksumMismatch: A file that stands still kept arriving different from what it is there.
        LocalWriteError: This machine can't take it; what arrived is kept.
        ConnectionLost: The line could not be taken up again.
    """
    meter = Meter("download", report)
    landing = Landing(into, items)
    meter.expect(sum(item.size_bytes for item in items), len(items))
    one = _Download(line, base, landing, meter)
    await one.run()
    left = {*one.gone, *one.restless}
    came = [
        (old, new) for old, new in zip(items, landing.items, strict=True) if old.path not in left
    ]
    meter.expect(sum(new.size_bytes for _old, new in came), len(came))
    return replace(
        meter.result("stream"),
        changed={old.path: new.sha256 for old, new in came if old.sha256 != new.sha256},
        gone=tuple(one.gone),
        restless=tuple(one.restless),
    )


class _Download:
    """A download under way."""

    def __init__(self, line: Line, base: str, landing: Landing, meter: Meter) -> None:
        self._line = line
        self._base = base
        self._landing = landing
        self._meter = meter
        self._gauge = Gauge()
        self._writing = asyncio.Lock()
        self._tries: dict[int, int] = {}
        self.gone: list[str] = []
        self.restless: list[str] = []

    async def run(self) -> None:
        """Fetch until every file is home."""
        landing = self._landing
        await asyncio.to_thread(landing.look)
        while landing.missing:
            while not await self._line.persist(self._attempt):
                pass  # bytes got through before it broke: the time to reconnect starts anew
            await self._ask_again(list(landing.missing))
        await asyncio.to_thread(landing.settle)

    async def _attempt(self) -> bool:
        """Fetch what is missing; False when the line broke after bytes had got through."""
        before = self._gauge.total
        landing = self._landing
        shares = Shares(lambda number: landing.items[number].size_bytes)
        gaps = await asyncio.to_thread(landing.begin)
        shares.add([], [Part(number, start, end) for number, start, end in gaps])
        shares.close()
        self._show()
        helpers = Connections(
            self._line,
            lambda remote: self._fetch(shares, remote),
            lambda: self._meter.total_bytes - landing.home_bytes,
            self._gauge,
            self._meter,
        )
        try:
            if gaps:
                await race(helpers.run(), self._fetch(shares, None))
        except ConnectionLost:
            if self._gauge.total > before:
                return False
            raise
        finally:
            async with self._writing:
                await asyncio.to_thread(landing.rest)
        return True

    async def _fetch(self, shares: Shares, remote: Remote | None) -> None:
        """Fetch shares over one connection until all have arrived, over whatever connection."""
        request = {"base": self._base, "codecs": codecs.available()}
        async with self._line.talk("send", request, remote) as talk:
            fetcher = _Fetcher(talk, shares, self._landing.items, self._take)
            await fetcher.run()

    async def _take(self, share: Share, payload: bytes) -> None:
        """Write one block's records; the instance numbers parts as they were asked for."""
        self._meter.sent(len(payload))
        async with self._writing:
            await asyncio.to_thread(self._write, share, payload)
        self._gauge.add(len(payload))
        self._show()

    def _write(self, share: Share, payload: bytes) -> None:
        try:
            found = blocks.records(payload)
        except ValueError as error:
            raise CommandFailed(f"what the instance sends makes no sense: {error}") from error
        for index, offset, data in found:
            part = share.parts[index] if index < len(share.parts) else None
            if part is None or offset != part.start or offset + len(data) > part.end:
                raise CommandFailed("the instance sends what was not asked for")
            self._landing.write(part.number, offset, data)

    async def _ask_again(self, numbers: list[int]) -> None:
        """Have what did not arrive right hashed anew on the instance.

        Raises:
            ChecksumMismatch: It was tried often enough, and has not changed there.
        """
        if not numbers:
            return
        landing = self._landing
        paths = {number: f"{self._base}/{landing.items[number].path}" for number in numbers}
        answer = await self._line.call("digest", {"paths": list(paths.values())})
        for number, path in paths.items():
            item = landing.items[number]
            self._tries[number] = self._tries.get(number, 0) + 1
            sha256 = answer["sha256"][path]
            if sha256 is None or (self._tries[number] >= _TRIES and sha256 != item.sha256):
                (self.gone if sha256 is None else self.restless).append(item.path)
                await asyncio.to_thread(landing.leave, number)
                continue
            if self._tries[number] >= _TRIES:
                message = f"{shown(item.path)} did not arrive as it is on the instance"
                raise ChecksumMismatch(message, hint=f"tried {_TRIES} times; `towline resume`")
            fresh = replace(item, sha256=sha256, size_bytes=answer["size"][path])
            await asyncio.to_thread(landing.expect, number, fresh)
        if landing.missing:
            which = f"{len(landing.missing)} of the files"
            self._meter.note(f"{which} did not arrive whole; fetching them again")

    def _show(self) -> None:
        landing = self._landing
        self._meter.expect(sum(item.size_bytes for item in landing.items), len(landing.items))
        self._meter.arrived(landing.home_bytes, landing.home_files)


class _Fetcher:
    """One connection's work: several shares are asked for at a time, so that the line is full."""

    def __init__(
        self,
        talk: Talk,
        shares: Shares,
        items: Sequence[RemoteFile],
        take: Callable[[Share, bytes], Awaitable[None]],
    ) -> None:
        self._talk = talk
        self._shares = shares
        self._items = items
        self._take = take
        self._gauge = Gauge()
        self._held: deque[Share] = deque()  # asked for and not here
        self._asked: asyncio.Queue[Share | None] = asyncio.Queue(_ASKED)

    async def run(self) -> None:
        """Fetch until there is no more."""
        try:
            await together(self._ask(), self._receive())
        finally:
            self._shares.give_back(self._held)
            self._held.clear()
        await self._talk.send(wire.END)

    async def _ask(self) -> None:
        while (share := await self._shares.take(share_bytes(self._gauge.rate()))) is not None:
            self._held.append(share)
            ask = [[self._items[p.number].path, p.start, p.end] for p in share.parts]
            await self._asked.put(share)
            await self._talk.send_json(wire.JSON, {"ask": ask})
        await self._asked.put(None)

    async def _receive(self) -> None:
        while (share := await self._asked.get()) is not None:
            kind, payload = await self._talk.frame()
            if kind != wire.DATA:
                raise CommandFailed(f"the instance sends a frame of kind {kind!r}")
            await self._take(share, payload)
            self._gauge.add(len(payload))
            self._held.popleft()
            self._shares.arrived()
