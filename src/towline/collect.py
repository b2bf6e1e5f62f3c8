"""Find what a training wrote on its instance, and bring files of it home, each proven by its hash.

Shared by the step `gather` and by `towline fetch`, which looks at a live instance.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from towline.core.artifact import FoundFile
from towline.line import Line
from towline.transfer.download import RemoteFile, download
from towline.transfer.meter import TransferProgress, TransferResult


async def survey(line: Line, started_at: float) -> list[FoundFile]:
    """List the files written since the training started.

    What was uploaded is older, or lies in the dataset, which is not looked at.

    Args:
        line: To the instance.
        started_at: The instance's own time of the start, in UTC seconds.
    """
    layout = line.layout
    answer = await line.call("survey", {"roots": [layout.output, layout.code]})
    since_ns = int(started_at * 1e9)
    found = []
    for row in answer["files"]:
        path = f"{row['root']}/{row['path']}".removeprefix(layout.root + "/")
        if row["mtime_ns"] >= since_ns or path.startswith("output/"):
            found.append(
                FoundFile(
                    path=path, size_bytes=row["size"], mode=row["mode"], mtime_ns=row["mtime_ns"]
                )
            )
    return found


async def fetch(
    line: Line,
    files: Sequence[FoundFile],
    into: Path,
    report: Callable[[TransferProgress], None],
) -> tuple[TransferResult, dict[str, str]]:
    """Download files to the same relative paths below ``into``.

    Returns:
        What was moved, and the SHA-256 of each file by its path. A temporary file that went
        meanwhile is in neither.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it.
    """
    layout = line.layout
    paths = [f"{layout.root}/{file.path}" for file in files]
    hashes = (await line.call("digest", {"paths": paths}))["sha256"]
    items = [
        RemoteFile(
            path=file.path,
            size_bytes=file.size_bytes,
            mode=file.mode,
            mtime_ns=file.mtime_ns,
            sha256=hashes[path],
        )
        for file, path in zip(files, paths, strict=True)
        if hashes[path] is not None
    ]
    done = await download(line, layout.root, items, into, report)
    return done, {item.path: item.sha256 for item in items} | done.changed
