"""What the ways of an upload share: the job, and a talk in which both sides speak at once."""

from __future__ import annotations

import asyncio
import hashlib
import json
import zlib
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from towline.errors import ChecksumMismatch, ConnectionLost
from towline.line import Line, Talk
from towline.onboard import wire
from towline.transfer.meter import Meter
from towline.transfer.scan import Scan
from towline.transfer.upload_plan import Plan

_MANIFEST_PART = 256 * 1024
_LAST_WORDS_S = 5.0  # how long a reason is waited for when the other side has hung up

Remark = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One upload: what goes, under which name, and what both sides can do.

    ``lines`` and ``digest`` are the manifest's, made once.
    """

    line: Line
    found: Scan
    name: str
    codecs: tuple[str, ...]
    meter: Meter
    lines: bytes
    digest: str

    @classmethod
    async def of(
        cls, line: Line, found: Scan, name: str, codecs: Sequence[str], meter: Meter
    ) -> Job:
        """Make a job; a large manifest takes a moment, in a thread."""
        lines = await asyncio.to_thread(found.manifest.lines)
        digest = hashlib.sha256(lines).hexdigest()
        return cls(
            line=line,
            found=found,
            name=name,
            codecs=tuple(codecs),
            meter=meter,
            lines=lines,
            digest=digest,
        )

    @property
    def codec(self) -> str:
        """The best codec that both sides have."""
        both = [c for c in ("zstd", "zlib") if c in self.codecs and wire.codec_module(c)]
        return both[0] if both else "stored"

    def request(self, **more: Any) -> dict[str, Any]:
        """Arguments of every verb that takes a manifest."""
        return {
            "name": self.name,
            "manifest_sha256": self.digest,
            "manifest_codec": "zlib" if "zlib" in self.codecs else "stored",
            "total_bytes": self.found.manifest.size_bytes,
            "codec": self.codec,
            **more,
        }

    async def send_manifest(self, talk: Talk) -> None:
        """Send the manifest's frames and END."""
        lines = self.lines
        if "zlib" in self.codecs:
            lines = await asyncio.to_thread(zlib.compress, lines, 6)
        for part in _parts(lines):
            await talk.send(wire.DATA, part)
        await talk.send(wire.END)
        self.meter.sent(len(lines))

    def show(self, plan: Plan, arrived: int = 0, files: int = 0) -> None:
        """Report what was there when the plan was made, and what has arrived since."""
        manifest = self.found.manifest
        self.meter.arrived(
            manifest.size_bytes - plan.left_bytes + arrived,
            manifest.file_count - len(plan.pieces) + files,
        )

    def require_proof(self, result: dict[str, Any]) -> None:
        """Compare the instance's own count and digest with ours.

        Raises:
            ChecksumMismatch: It speaks of something else.
        """
        manifest = self.found.manifest
        proof = (result["manifest_sha256"], result["files"], result["bytes"])
        if proof != (self.digest, manifest.file_count, manifest.size_bytes):
            message = f"the instance reports another {self.name} than the one that was sent"
            raise ChecksumMismatch(message, hint="`towline resume` sends it again")

    async def ask(self, verb: str, **more: Any) -> dict[str, Any]:
        """Ask a verb that takes the manifest and answers once; may be asked twice."""

        async def once() -> dict[str, Any]:
            async with self.line.talk(verb, self.request(**more)) as talk:
                return await converse(talk, self.send_manifest(talk), lambda _remark: None)

        return await self.line.persist(once)


def _parts(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), _MANIFEST_PART):
        yield data[at : at + _MANIFEST_PART]


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
