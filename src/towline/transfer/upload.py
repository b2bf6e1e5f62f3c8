"""Send a tree: ask what is there, send the rest, have the whole proven."""

from __future__ import annotations

import asyncio
import json
import time
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from towline import errors
from towline.core.manifest import shown
from towline.line import Line, Talk
from towline.onboard import wire
from towline.transfer import classic
from towline.transfer.frames import Changed, frames
from towline.transfer.progress import Report, TransferProgress, TransferResult
from towline.transfer.scan import Scan

_ROUNDS = 3  # damaged files, or changing ones, are tried so often
_MANIFEST_FRAME = 1 << 20
_LAST_WORDS_S = 3.0


async def upload(
    line: Line, scan: Scan, name: str, *, mode: str, codecs: Sequence[str], report: Report
) -> TransferResult:
    """Deliver a tree under the run's folder as ``name``; whole, or not at all.

    Args:
        line: To the instance.
        scan: The tree, hashed.
        name: `dataset` or `code`.
        mode: `stream`, `zip`, `files`, or `auto`: the first of these that works.
        codecs: What the far side can unpack; without any, `auto` takes `zip`.
        report: Told how far it is.

    Raises:
        SourceChanged: A local file keeps changing.
        RemoteDiskFull: No room; says how much is missing.
        ChecksumMismatch: It kept arriving damaged.
        CommandFailed: The instance can't take it this way, and no other was allowed.
        ConnectionLost: The line could not be taken up again; what arrived is kept for the next try.
    """
    began = time.monotonic()
    sender = Sender(line, scan, name, codecs, report)
    used = mode
    if mode == "auto":
        used = "stream" if "zlib" in codecs else "zip"
    try:
        await sender.deliver(used)
    except errors.CommandFailed as refused:
        if mode != "auto" or used != "stream":
            raise
        sender.note(f"the instance can't take a stream ({refused.message}); sending one ZIP")
        used = "zip"
        await sender.deliver(used)
    manifest = sender.scan.manifest
    return TransferResult(
        direction="upload",
        files=manifest.file_count,
        bytes=manifest.size_bytes,
        sent_bytes=sender.sent_bytes,
        seconds=round(time.monotonic() - began, 3),
        connections=1,
        manifest_sha256=manifest.digest(),
        mode=used,
    )


class Sender:
    """One delivery under way; survives broken lines and changed files."""

    def __init__(
        self, line: Line, scan: Scan, name: str, codecs: Sequence[str], report: Report
    ) -> None:
        self.line = line
        self.scan = scan
        self.name = name
        self.codecs = codecs
        self.sent_bytes = 0
        self._report = report

    async def deliver(self, mode: str) -> None:
        """Send by one of the three ways, again where something came in between."""
        once = {"stream": self._stream, "zip": self._zip, "files": self._files}[mode]
        for last in (False,) * (_ROUNDS - 1) + (True,):
            try:
                await self._persist(once)
            except Changed as changed:
                if last:
                    message = f"{shown(changed.entry.path)} keeps changing while it is sent"
                    hint = "stop what writes it, or leave it out by .towlineignore"
                    raise errors.SourceChanged(message, hint=hint) from changed
                self.scan = await asyncio.to_thread(self.scan.again)
            except errors.ChecksumMismatch:
                if last:
                    raise
            else:
                return

    async def _persist(self, once: Any) -> None:
        """Take the line up again for as long as something gets through."""

        async def attempt() -> bool:
            before = self.sent_bytes
            try:
                await once()
            except errors.ConnectionLost:
                if self.sent_bytes > before:
                    return False
                raise
            return True

        while not await self.line.persist(attempt):
            pass

    def note(self, text: str) -> None:
        """Tell the user something."""
        self._report(replace(self._progress(0), note=text))

    def moved(self, done_bytes: int) -> None:
        """Tell how far it is."""
        self._report(self._progress(done_bytes))

    def _progress(self, done_bytes: int) -> TransferProgress:
        manifest = self.scan.manifest
        total = manifest.size_bytes
        files = manifest.file_count
        return TransferProgress(
            direction="upload",
            bytes=done_bytes,
            total_bytes=total,
            files=files * done_bytes // total if total else files,
            total_files=files,
            sent_bytes=self.sent_bytes,
        )

    def request(self) -> dict[str, Any]:
        """What every way of delivery announces."""
        return {"name": self.name, "manifest_sha256": self.scan.manifest.digest()}

    async def send_manifest(self, talk: Talk) -> None:
        """Send the manifest's frames."""
        packed = await asyncio.to_thread(lambda: zlib.compress(self.scan.manifest.lines(), 6))
        for at in range(0, len(packed), _MANIFEST_FRAME):
            await talk.send(wire.DATA, packed[at : at + _MANIFEST_FRAME])
        await talk.send(wire.END)

    async def _stream(self) -> None:
        async with self.line.talk("receive", self.request()) as talk:
            try:
                await self.send_manifest(talk)
                _kind, payload = await talk.frame()
                there = json.loads(payload)
                if not there["complete"]:
                    await self._send_missing(
                        talk, [(number, size) for number, size in there["have"]]
                    )
            except errors.ConnectionLost:
                await _last_words(talk)
                raise
            await talk.result()
        self.moved(self.scan.manifest.size_bytes)

    async def _send_missing(self, talk: Talk, have: list[tuple[int, int]]) -> None:
        """Send frames; the next one is read and compressed while one is on its way."""
        done = sum(size for _number, size in have)
        taken = 0
        source = frames(self.scan, have, self.codecs)
        coming = asyncio.create_task(asyncio.to_thread(next, source, None))
        try:
            while (frame := await coming) is not None:
                coming = asyncio.create_task(asyncio.to_thread(next, source, None))
                await talk.send(wire.DATA, frame[0])
                self.sent_bytes += len(frame[0])
                taken += frame[1]
                self.moved(done + taken)
        finally:
            await asyncio.gather(coming, return_exceptions=True)  # the thread still reads a file
            source.close()
        end = {"bytes": taken, "entries": len(self.scan.manifest.entries)}
        await talk.send_json(wire.END, end | {"manifest_sha256": self.scan.manifest.digest()})

    async def _zip(self) -> None:
        await classic.send_zip(self)

    async def _files(self) -> None:
        await classic.send_files(self)


async def _last_words(talk: Talk) -> None:
    """A verb that refuses ends at once, and so breaks our writing: its reason may have come.

    Raises:
        TowlineError: That reason.
    """
    try:
        async with asyncio.timeout(_LAST_WORDS_S):
            await talk.result()
    except (TimeoutError, errors.ConnectionLost):
        return
