"""deliver: dataset and code, whole or not at all."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Any

from towline import errors
from towline.context import Context
from towline.core.run import StepName
from towline.core.units import count_text, size_text
from towline.project import Project
from towline.transfer.hash_cache import HashCache
from towline.transfer.scan import Scan, scan
from towline.transfer.upload import upload

#: bytes of disk the training itself is left with, at the least
_SLACK_BYTES = 64 * 1024 * 1024
#: hashes of files as they were last read, in TOWLINE_HOME
HASHES_FILE = "hashes.db"


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: the receiver answers in its first reply what it already has."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Scan, upload and verify what the task names.

    Raises:
        RemoteDiskFull: It does not fit; nothing was sent.
        SourceChanged: A local file keeps changing.
        ConnectionLost: The line could not be taken up again; the rest can be sent later.
    """
    project = ctx.project()
    connected = ctx.result(StepName.CONNECT)
    ctx.status("reading local files")
    scans = await asyncio.to_thread(_scan_all, project)
    _require_room(scans, connected["disk_free_bytes"])
    result: dict[str, Any] = {"transfers": [], "skipped": []}
    line = await ctx.line()
    cache = HashCache(project.home / HASHES_FILE)
    for name, found in scans.items():
        result["skipped"] += [{"path": s.path, "why": s.why} for s in found.skipped]
        done = await upload(
            line,
            found,
            name,
            mode=ctx.task.upload,
            report=ctx.moved,
            cache=cache,
        )
        result["transfers"].append(asdict(done))
        result[f"{name}_sha256"] = done.manifest_sha256
    _say(ctx, result)
    return result


def _scan_all(project: Project) -> dict[str, Scan]:
    return {
        name: scan(source, exclude=project.excluded(name))
        for name, source in project.sources().items()
    }


def _require_room(scans: dict[str, Scan], free_bytes: int) -> None:
    needed = sum(found.manifest.size_bytes for found in scans.values())
    if needed + _SLACK_BYTES > free_bytes:
        message = (
            f"the upload needs {size_text(needed)}, and {size_text(_SLACK_BYTES)} are kept for the"
            f" training; the instance has {size_text(free_bytes)} free"
        )
        hint = "ask for a larger disk (`resources: {disk_gb: ...}`) or leave files out by .towlineignore"
        raise errors.RemoteDiskFull(message, hint=hint)


def _say(ctx: Context, result: dict[str, Any]) -> None:
    files = sum(one["files"] for one in result["transfers"])
    size = sum(one["bytes"] for one in result["transfers"])
    sent = sum(one["sent_bytes"] for one in result["transfers"])
    if files:
        ctx.note(
            f"{count_text(files, 'file')}, {size_text(size)} on the instance and verified"
            f" ({size_text(sent)} sent)"
        )
    if result["skipped"]:
        few = ", ".join(f"{one['path']} ({one['why']})" for one in result["skipped"][:4])
        more = len(result["skipped"]) - 4
        ctx.note(f"skipped: {few}" + (f" and {more} more" if more > 0 else ""))
