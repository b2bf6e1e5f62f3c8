"""Bring files home that a training wrote: hashed there, fetched, proven; what never stands still, as
it is read."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from towline.core.artifact import FoundFile
from towline.core.manifest import shown
from towline.core.units import count_text
from towline.line import Line
from towline.transfer.as_read import take_as_read
from towline.transfer.download import RemoteFile, download
from towline.transfer.meter import Report, TransferProgress, TransferResult

#: files that are hashed and fetched at a time: what is known of more waits in the packed list
_BATCH = 10_000
_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Fetched:
    """What came home, and how.

    ``sha256`` is that of each file by its path. ``as_read``: those that never stopped changing and
    came as they were read, once. ``gone`` went away meanwhile. ``unread`` can't be read there.
    """

    done: TransferResult
    sha256: dict[str, str] = field(default_factory=dict)
    as_read: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """Its line in the journal and the receipt."""
        figures = asdict(self.done)
        kept = ("direction", "files", "bytes", "sent_bytes", "seconds", "connections", "mode")
        return {key: figures[key] for key in kept} | {"as_read": self.as_read}

    def notes(self) -> list[str]:
        """What the user is to know of files that did not simply come."""
        said = []
        if self.as_read:
            said.append(
                f"{_named(self.as_read)} never stopped changing, and came home as it was read, once:"
                " of what only grows the beginning; what is written over may be of two moments"
            )
        if self.unread:
            said.append(
                f"WARNING: {_named(self.unread)} can't be read on the instance, and stays there"
            )
        return said


async def fetch(
    line: Line,
    files: Sequence[FoundFile],
    into: Path,
    report: Report,
    *,
    as_read: bool = True,
    copy: bool = False,
) -> Fetched:
    """Download files to the same relative paths below ``into``.

    Args:
        line: To the instance.
        files: Not too many: all that is known of them is held at once.
        into: Folder on this machine; made when missing.
        report: Told how far it is.
        as_read: Take what never stops changing as it is read; else it is in `done.restless` only.
        copy: Have that copied at once on the instance, and read from there.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it.
    """
    root = line.layout.root
    paths = [f"{root}/{file.path}" for file in files]
    said = await line.call("digest", {"paths": paths})
    items = [
        RemoteFile(
            path=file.path,
            size_bytes=said["size"][path],
            mode=file.mode,
            mtime_ns=file.mtime_ns,
            sha256=said["sha256"][path],
        )
        for file, path in zip(files, paths, strict=True)
        if said["sha256"][path] is not None
    ]
    unread = [path.removeprefix(f"{root}/") for path in said["unread"]]
    done = await download(line, root, items, into, report)
    gone = {
        *done.gone,
        *(path.removeprefix(f"{root}/") for path in paths if said["sha256"][path] is None),
    }
    sha256 = {item.path: item.sha256 for item in items} | done.changed
    taken = []
    for item in items:
        if as_read and item.path in done.restless:
            found = await take_as_read(line, root, item, into, copy=copy)
            if found is None:
                gone.add(item.path)
            else:
                taken.append(found)
    left = {*done.gone, *done.restless}
    sha256 = {path: one for path, one in sha256.items() if path not in left}
    return Fetched(
        done=replace(
            done,
            files=done.files + len(taken),
            bytes=done.bytes + sum(one.size_bytes for one in taken),
        ),
        sha256=sha256 | {one.path: one.sha256 for one in taken},
        as_read=[one.path for one in taken],
        gone=sorted(gone - set(unread)),
        unread=unread,
    )


async def fetch_many(line: Line, files: Iterable[FoundFile], into: Path, report: Report) -> Fetched:
    """`fetch`, for any number of files: in batches, and without their hashes.

    Args:
        line: To the instance.
        files: Gone through twice, in a thread.
        into: Folder on this machine; made when missing.
        report: Told how far all of it is.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it.
    """
    count, size = await asyncio.to_thread(_sum, files)
    waiting = iter(files)
    whole: Fetched | None = None
    while batch := await asyncio.to_thread(_next, waiting):
        before = whole.done if whole else None

        def told(progress: TransferProgress, before: TransferResult | None = before) -> None:
            report(_of_all(progress, before, count, size))

        one = await fetch(line, batch, into, told)
        whole = one if whole is None else _together(whole, one)
        whole.sha256.clear()
    if whole is None:
        whole = await fetch(line, [], into, report)
    return whole


def _sum(files: Iterable[FoundFile]) -> tuple[int, int]:
    count = size = 0
    for file in files:
        count, size = count + 1, size + file.size_bytes
    return count, size


def _next(files: Iterator[FoundFile]) -> list[FoundFile]:
    return list(itertools.islice(files, _BATCH))


def _of_all(
    progress: TransferProgress, before: TransferResult | None, count: int, size: int
) -> TransferProgress:
    """A batch's progress as that of the whole."""
    had_bytes, had_files = (before.bytes, before.files) if before else (0, 0)
    return replace(
        progress,
        bytes=had_bytes + progress.bytes,
        total_bytes=max(size, had_bytes + progress.total_bytes),
        files=had_files + progress.files,
        total_files=max(count, had_files + progress.total_files),
    )


def _together(one: Fetched, other: Fetched) -> Fetched:
    done, more = one.done, other.done
    return Fetched(
        done=replace(
            done,
            files=done.files + more.files,
            bytes=done.bytes + more.bytes,
            sent_bytes=done.sent_bytes + more.sent_bytes,
            seconds=done.seconds + more.seconds,
            connections=max(done.connections, more.connections),
            changed={},
        ),
        as_read=one.as_read + other.as_read,
        gone=one.gone + other.gone,
        unread=one.unread + other.unread,
    )


def _named(paths: Sequence[str]) -> str:
    """Some of the paths by name, and how many more there are."""
    said = ", ".join(shown(path) for path in paths[:_SHOWN])
    more = len(paths) - _SHOWN
    return f"{said} and {count_text(more, 'more file')}" if more > 0 else said
