"""Bring files home: one stream, taken up again where it broke, each file proven by its hash."""

from __future__ import annotations

import asyncio
import hashlib
import os
import struct
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from towline import errors
from towline.core.manifest import shown
from towline.line import Line
from towline.onboard import wire
from towline.transfer.frames import records
from towline.transfer.progress import Report, TransferProgress, TransferResult

_ROUNDS = 3
_PARTIAL = ".partial"  # folder inside the results for what is on its way
_WINDOWS_FORBIDDEN = set('<>:"|?*\\')


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the instance; ``path`` is relative to the download's base."""

    path: str
    size_bytes: int
    mode: int
    mtime_ns: int
    sha256: str


async def download(
    line: Line, base: str, items: Sequence[RemoteFile], into: Path, report: Report
) -> TransferResult:
    """Bring files to the same relative paths under ``into``.

    A file stands under its final name only after its bytes were hashed and are on disk. What is
    there already with the right hash is not fetched again.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it; everything still is on the instance.
        ConnectionLost: The line could not be taken up again.
    """
    began = time.monotonic()
    fetch = _Fetch(line, base, items, into, report)
    for last in (False,) * (_ROUNDS - 1) + (True,):
        await fetch.all_missing()
        damaged = await asyncio.to_thread(fetch.place_whole)
        if not damaged:
            break
        if last:
            message = f"{shown(damaged[0].path)} arrived damaged {_ROUNDS} times"
            hint = "it may still be written to on the instance; `towline resume` tries again"
            raise errors.ChecksumMismatch(message, hint=hint)
    return TransferResult(
        direction="download",
        files=len(items),
        bytes=sum(item.size_bytes for item in items),
        sent_bytes=fetch.sent_bytes,
        seconds=round(time.monotonic() - began, 3),
        connections=1,
        manifest_sha256="",
        mode="stream",
    )


class _Fetch:
    """One download under way."""

    def __init__(
        self, line: Line, base: str, items: Sequence[RemoteFile], into: Path, report: Report
    ) -> None:
        self._line = line
        self._base = base
        self._into = into
        self._report = report
        self._targets = {item: safe_target(into, item.path) for item in items}
        self.sent_bytes = 0
        self._done_bytes = 0

    async def all_missing(self) -> None:
        """Fetch until every byte is here, over as many connections as it takes."""

        async def attempt() -> bool:
            before = self.sent_bytes
            try:
                await self._once()
            except errors.ConnectionLost:
                if self.sent_bytes > before:
                    return False
                raise
            return True

        while not await self._line.persist(attempt):
            pass

    async def _once(self) -> None:
        missing = await asyncio.to_thread(self._missing)
        self._tell()
        if not missing:
            return
        request = {"base": self._base, "files": [[item.path, there] for item, there in missing]}
        async with self._line.talk("send", request) as talk:
            async for kind, payload in talk.frames():
                if kind == wire.DATA:
                    self.sent_bytes += len(payload)
                    self._done_bytes += await asyncio.to_thread(self._write, missing, payload)
                    self._tell()

    def _missing(self) -> list[tuple[RemoteFile, int]]:
        """Files not at home yet, with the bytes that are here of each."""
        with _writing(self._into):
            (self._into / _PARTIAL).mkdir(parents=True, exist_ok=True)
            found, self._done_bytes = [], 0
            for item, target in self._targets.items():
                if _is_home(target, item):
                    self._done_bytes += item.size_bytes
                    continue
                part = self._part(item)
                there = part.stat().st_size if part.exists() else 0
                if there > item.size_bytes:
                    part.unlink()
                    there = 0
                self._done_bytes += there
                found.append((item, there))
            return [(item, there) for item, there in found if there < item.size_bytes or not there]

    def _write(self, missing: list[tuple[RemoteFile, int]], payload: bytes) -> int:
        written = 0
        with _writing(self._into):
            for number, offset, block in _checked(payload, len(missing)):
                with self._part(missing[number][0]).open("ab") as file:
                    if file.tell() != offset:
                        raise errors.ConnectionLost("the instance sent a file out of order")
                    file.write(block)
                written += len(block)
        return written

    def place_whole(self) -> list[RemoteFile]:
        """Rename what is whole; remove and return what arrived damaged."""
        damaged = []
        with _writing(self._into):
            for item, target in self._targets.items():
                part = self._part(item)
                if _is_home(target, item):
                    continue
                part.touch()
                if not _is_home(part, item):
                    part.unlink()
                    damaged.append(item)
                    continue
                _settle(part, item)
                target.parent.mkdir(parents=True, exist_ok=True)
                part.replace(target)
            if not damaged:
                (self._into / _PARTIAL).rmdir()
        return damaged

    def _part(self, item: RemoteFile) -> Path:
        name = hashlib.sha256(f"{item.sha256} {item.path!r}".encode()).hexdigest()[:32]
        return self._into / _PARTIAL / name

    def _tell(self) -> None:
        total = sum(item.size_bytes for item in self._targets)
        count = len(self._targets)
        self._report(
            TransferProgress(
                direction="download",
                bytes=self._done_bytes,
                total_bytes=total,
                files=count * self._done_bytes // total if total else count,
                total_files=count,
                sent_bytes=self.sent_bytes,
            )
        )


def safe_target(into: Path, path: str) -> Path:
    """The local place of a path that the instance named: never outside ``into``.

    Raises:
        LocalWriteError: It leads out, or this system can't hold such a name.
    """
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or "\0" in part for part in parts)
    if os.name == "nt":
        bad = bad or any(set(part) & _WINDOWS_FORBIDDEN or part[-1] in " ." for part in parts)
    if bad or parts[0] == _PARTIAL:
        message = f"the instance has a file named {shown(path)!r}, which can't be kept here"
        raise errors.LocalWriteError(message, hint="rename it there (`towline ssh`), then resume")
    return into.joinpath(*(os.fsdecode(part.encode("utf-8", "surrogateescape")) for part in parts))


def _checked(payload: bytes, count: int) -> Iterator[tuple[int, int, bytes]]:
    """Records of a frame; a malformed one is a broken line, not a local failure."""
    try:
        found = list(records(payload))
    except (ValueError, KeyError, struct.error, zlib.error) as error:
        raise errors.ConnectionLost(f"the instance sent a broken frame: {error}") from error
    if any(number >= count for number, _offset, _block in found):
        raise errors.ConnectionLost("the instance sent a file nobody asked for")
    return iter(found)


def _is_home(path: Path, item: RemoteFile) -> bool:
    if not path.is_file() or path.stat().st_size != item.size_bytes:
        return False
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() == item.sha256


def _settle(part: Path, item: RemoteFile) -> None:
    """On disk, with its mode and time."""
    with part.open("rb+") as file:
        os.fsync(file.fileno())
    part.chmod(item.mode & 0o777 | 0o600)
    os.utime(part, ns=(item.mtime_ns, item.mtime_ns))


@contextmanager
def _writing(into: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        message = f"{into} can't take the download: {error.strerror}"
        hint = "make room there or make it writable, then `towline resume`; all is safe on the instance"
        raise errors.LocalWriteError(message, hint=hint) from error
