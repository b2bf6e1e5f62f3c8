"""Bring files home from the instance: one stream for all, resumed when cut, each file proven.

Owns the talk and what is asked again. How the bytes are kept and put in place is `download_files`'
business. Everything the instance says is taken as hostile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from towline.core.manifest import shown
from towline.errors import ChecksumMismatch, CommandFailed, ConnectionLost
from towline.line import Line
from towline.onboard import wire
from towline.transfer.download_files import Landing, RemoteFile
from towline.transfer.meter import Meter, Report, TransferResult

__all__ = ["RemoteFile", "download"]

_TRIES = 3
_ASK_FILES = 20_000  # in one talk: the request is one frame


async def download(
    line: Line, base: str, items: Sequence[RemoteFile], into: Path, report: Report
) -> TransferResult:
    """Fetch files to the same relative paths below a folder; each appears whole or not at all.

    A file that is home already, by size and hash, is not fetched. A beginning that an earlier
    attempt left (`.towline-*.part`) is taken up. A file that changes on the instance is hashed
    there again and fetched again, at most three times; TransferResult.changed then says its
    true hash.

    Args:
        line: To the instance.
        base: Absolute path on the instance, in the run's folder.
        items: Paths relative to ``base``, with size and hash as the instance told them.
        into: Folder on this machine; made when missing.
        report: Told how far it is.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance says of it.
        LocalWriteError: This machine can't take it; what arrived is kept.
        ConnectionLost: The line could not be taken up again.
    """
    meter = Meter("download", report)
    landing = Landing(into, items)
    meter.expect(sum(item.size_bytes for item in items), len(items))
    await _Download(line, base, landing, meter).run()
    changed = {
        old.path: new.sha256
        for old, new in zip(items, landing.items, strict=True)
        if old.sha256 != new.sha256
    }
    return replace(meter.result("stream"), changed=changed)


class _Download:
    """A download under way."""

    def __init__(self, line: Line, base: str, landing: Landing, meter: Meter) -> None:
        self._line = line
        self._base = base
        self._landing = landing
        self._meter = meter
        self._tries: dict[int, int] = {}
        self._asked: list[int] = []

    async def run(self) -> None:
        """Fetch until every file is home."""
        landing = self._landing
        await asyncio.to_thread(landing.look)
        while landing.missing:
            while not await self._line.persist(self._attempt):
                pass  # bytes got through before it broke: the time to reconnect starts anew
            missing = set(landing.missing)
            await self._ask_again([number for number in self._asked if number in missing])
        await asyncio.to_thread(landing.settle)

    async def _attempt(self) -> bool:
        """Talk once; False when the line broke after bytes had got through."""
        landing = self._landing
        rest = (await asyncio.to_thread(landing.begin))[:_ASK_FILES]
        self._asked = [number for number, _have in rest]
        self._show()
        if not rest:
            return True
        moved = False
        files = [
            [landing.items[number].path, have, landing.items[number].size_bytes]
            for number, have in rest
        ]
        try:
            request = {"base": self._base, "files": files, "codec": "zlib"}
            async with self._line.talk("send", request) as talk:
                async for kind, payload in talk.frames():
                    if kind == wire.DATA:
                        self._meter.sent(len(payload))
                        await asyncio.to_thread(self._take, payload, rest)
                        self._show()
                        moved = True
        except ConnectionLost:
            if moved:
                return False
            raise
        finally:
            await asyncio.to_thread(landing.rest)
        return True

    def _take(self, payload: bytes, rest: list[tuple[int, int]]) -> None:
        """Write one block's records; the instance numbers files as they were asked for."""
        try:
            for index, offset, data in wire.unpack_block(payload):
                self._landing.write(rest[index][0], offset, data)
        except (ValueError, IndexError) as error:
            raise CommandFailed(f"what the instance sends makes no sense: {error}") from error

    async def _ask_again(self, numbers: list[int]) -> None:
        """Have what did not arrive right hashed anew on the instance.

        Raises:
            ChecksumMismatch: It was tried often enough, or it is gone.
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
            if sha256 is None:
                message = f"{shown(item.path)} went away on the instance while it was fetched"
                raise ChecksumMismatch(message, hint="run the same command again")
            if self._tries[number] >= _TRIES:
                message = f"{shown(item.path)} did not arrive as it is on the instance"
                raise ChecksumMismatch(message, hint=f"tried {_TRIES} times; `towline resume`")
            fresh = replace(item, sha256=sha256, size_bytes=answer["size"][path])
            await asyncio.to_thread(landing.expect, number, fresh)
        self._meter.note(f"{len(paths)} of the files did not arrive whole; fetching them again")

    def _show(self) -> None:
        landing = self._landing
        self._meter.expect(sum(item.size_bytes for item in landing.items), len(landing.items))
        self._meter.arrived(landing.home_bytes, len(landing.items) - len(landing.missing))
