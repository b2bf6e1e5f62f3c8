"""A file that never stops changing comes home as it is read: once, hashed on both sides.

What only grows arrives as its beginning; what is written over and over, as it was on the way.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path

from towline.core.manifest import shown
from towline.errors import ChecksumMismatch, CommandFailed
from towline.line import Line
from towline.onboard import blocks, codecs, wire
from towline.transfer.download_files import Landing, RemoteFile


async def take_as_read(
    line: Line, base: str, item: RemoteFile, into: Path, *, copy: bool
) -> RemoteFile | None:
    """Bring one file home; returns it with its true size and hash, None when it is gone.

    Args:
        line: To the instance.
        base: Absolute path on the instance that the item's path is relative to.
        item: Its size and hash may be of another moment.
        into: Folder on this machine.
        copy: Have it copied there at once, where there is room, and read from the copy.

    Raises:
        ChecksumMismatch: What arrived is not what was read there.
        LocalWriteError: This machine can't take it.
        ConnectionLost: The line could not be taken up again.
    """
    request = {"path": f"{base}/{item.path}", "copy": copy, "codecs": codecs.available()}

    async def once() -> RemoteFile | None:
        landing = Landing(into, [item])
        arriving = await asyncio.to_thread(landing.arriving)
        with contextlib.closing(arriving):
            digest, size = hashlib.sha256(), 0
            async with line.talk("read", request) as talk:
                async for kind, payload in talk.frames():
                    if kind == wire.DATA:
                        data = _unwrapped(payload)
                        digest.update(data)
                        size += len(data)
                        await asyncio.to_thread(arriving.write, data)
            said = json.loads(payload)
            if said["sha256"] is None:
                return None
            if (said["sha256"], said["size"]) != (digest.hexdigest(), size):
                raise ChecksumMismatch(f"{shown(item.path)} did not arrive as it was read")
            found = replace(item, sha256=said["sha256"], size_bytes=size)
            await asyncio.to_thread(arriving.put_in_place, found)
            return found

    return await line.persist(once)


def _unwrapped(payload: bytes) -> memoryview:
    try:
        return memoryview(blocks.unwrap(payload))
    except ValueError as error:
        raise CommandFailed(f"what the instance sends makes no sense: {error}") from error
