"""What the ways of an upload share: the job, and a talk in which both sides speak at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any

from towline.errors import ChecksumMismatch, ConnectionLost
from towline.line import Line
from towline.onboard import wire
from towline.talk import Talk
from towline.transfer.compression import Compression
from towline.transfer.hashing import Hashing
from towline.transfer.meter import Meter
from towline.transfer.scan import Scan

_LINES_BYTES = 512 * 1024  # of a manifest in one block
_LAST_WORDS_S = 5.0  # how long a reason is waited for when the other side has hung up

Remark = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One upload: what goes, under which name, and how far its hashes are."""

    line: Line
    found: Scan
    name: str
    hashing: Hashing
    compression: Compression
    meter: Meter

    def request(self, **more: Any) -> dict[str, Any]:
        """Arguments of every verb that takes an upload."""
        manifest = self.found.manifest
        return {
            "name": self.name,
            "entries": len(manifest),
            "total_bytes": manifest.size_bytes,
            **more,
        }

    async def send_lines(self, talk: Talk, kind: bytes, first: int, end: int) -> None:
        """Send the manifest's lines of some entries."""
        batches = _batches(self.found.manifest.lines(first, end))
        while (raw := await asyncio.to_thread(next, batches, b"")) != b"":
            block = await asyncio.to_thread(self.compression.pack, raw)
            self.meter.sent(len(block))
            await talk.send(kind, block)

    def require_proof(self, result: dict[str, Any]) -> None:
        """Compare the instance's own count and digest with ours.

        Raises:
            ChecksumMismatch: It speaks of something else.
        """
        manifest = self.found.manifest
        proof = (result["manifest_sha256"], result["files"], result["bytes"])
        if proof != (manifest.digest(), manifest.file_count, manifest.size_bytes):
            message = f"the instance reports another {self.name} than the one that was sent"
            raise ChecksumMismatch(message, hint="`towline resume` sends it again")

    async def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        """Ask a verb that takes the whole manifest and answers once; may be asked twice."""
        digest = await asyncio.to_thread(self.found.manifest.digest)

        async def write(talk: Talk) -> None:
            await self.send_lines(talk, wire.DATA, 0, len(self.found.manifest))
            await talk.send(wire.END)

        async def once() -> dict[str, Any]:
            request = self.request(manifest_sha256=digest, **more)
            async with self.line.talk(verb, request) as talk:
                return await converse(talk, write(talk), lambda _remark: None)

        return await self.line.persist(once)


def _batches(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Join lines to pieces of a block's size."""
    some: list[bytes] = []
    size = 0
    for line in lines:
        some.append(line)
        size += len(line)
        if size >= _LINES_BYTES:
            yield b"".join(some)
            some, size = [], 0
    if some:
        yield b"".join(some)


async def converse(
    talk: Talk, write: Coroutine[Any, Any, None], heard: Callable[[Remark], None]
) -> dict[str, Any]:
    """Write and read at once; return the verb's result.

    Whoever writes much must read meanwhile: else a refusal that comes early is never seen, and
    both sides wait for each other. When the line breaks while writing, the other side's last
    words are preferred as the reason.

    Args:
        talk: A verb under way.
        write: What is to be written.
        heard: Told every remark as it comes.

    Raises:
        TowlineError: The verb's refusal, or ConnectionLost; or what ``write`` raised.
    """
    reading = asyncio.create_task(_read(talk, heard))
    writing = asyncio.create_task(write)
    try:
        await asyncio.wait({reading, writing}, return_when=asyncio.FIRST_EXCEPTION)
        if not reading.done() and isinstance(writing.exception(), ConnectionLost):
            await asyncio.wait({reading}, timeout=_LAST_WORDS_S)
        failures = [task.exception() for task in (reading, writing) if task.done()]
        failed = [failure for failure in failures if failure is not None]
        if failed:
            failed.sort(key=lambda failure: isinstance(failure, ConnectionLost))
            raise failed[0]
        return reading.result()
    finally:
        reading.cancel()
        writing.cancel()
        await asyncio.gather(reading, writing, return_exceptions=True)


async def _read(talk: Talk, heard: Callable[[Remark], None]) -> dict[str, Any]:
    while True:
        kind, payload = await talk.frame()
        value: dict[str, Any] = json.loads(payload)
        if kind == wire.RESULT:
            return value
        heard(value)
