"""The classic ways to deliver a tree, for instances that can't take the stream.

One ZIP over SFTP; where it can't be made, file by file. Files travel under their entry numbers, so
that no name has to survive an archive; the manifest gives them their places, and the same proof
holds as for the stream. Temporary files at both ends are removed, also after a failure.
"""

from __future__ import annotations

import asyncio
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from towline.core.manifest import EntryKind

if TYPE_CHECKING:
    from towline.transfer.upload import Sender

_LEVEL = 6


async def send_zip(sender: Sender) -> None:
    """Send the tree as one ZIP; a single file goes as it is."""
    if sender.scan.source.is_file():
        await send_files(sender)
        return
    with _temporary(".zip") as archive:
        try:
            await asyncio.to_thread(_compress, sender, archive)
        except OSError as error:
            sender.note(f"the ZIP can't be made ({error.strerror}); sending file by file")
            await send_files(sender)
            return
        flat = await _clean_folder(sender)
        remote = f"{flat}.zip"
        size = archive.stat().st_size
        total = sender.scan.manifest.size_bytes
        base = sender.sent_bytes

        def told(sent: int) -> None:
            sender.sent_bytes = base + sent
            sender.moved(min(total - 1, total * sent // size))

        await (await sender.line.dial_once()).put_file(str(archive), remote, told)
        await _finish(sender, "unpack", flat, zip=remote)


async def send_files(sender: Sender) -> None:
    """Send the tree file by file."""
    flat = await _clean_folder(sender)
    remote = await sender.line.dial_once()
    done = 0
    for number, entry in enumerate(sender.scan.manifest.entries):
        if entry.kind is not EntryKind.FILE:
            continue
        base = sender.sent_bytes

        def told(sent: int, base: int = base, done: int = done) -> None:
            sender.sent_bytes = base + sent
            sender.moved(done + sent)

        await remote.put_file(str(sender.scan.path(entry)), f"{flat}/{number}", told)
        done += entry.size_bytes
    await _finish(sender, "adopt", flat)


async def _clean_folder(sender: Sender) -> str:
    """Make an empty folder for the numbered files, after what an earlier try left."""
    flat = f"{sender.line.layout.control}/flat-{sender.name}"
    await (await sender.line.dial_once()).run([
        "sh",
        "-c",
        'rm -rf "$1" "$1.zip" && mkdir -p "$1"',
        "sh",
        flat,
    ])
    return flat


async def _finish(sender: Sender, verb: str, flat: str, **more: str) -> None:
    async with sender.line.talk(verb, sender.request() | {"flat": flat} | more) as talk:
        await sender.send_manifest(talk)
        await talk.result()
    sender.moved(sender.scan.manifest.size_bytes)


def _compress(sender: Sender, archive: Path) -> None:
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as out:
        for number, entry in enumerate(sender.scan.manifest.entries):
            if entry.kind is EntryKind.FILE:
                out.write(sender.scan.path(entry), str(number))


@contextmanager
def _temporary(suffix: str) -> Iterator[Path]:
    """A name for a temporary file, removed in any case."""
    with tempfile.TemporaryDirectory(prefix="towline-") as folder:
        yield Path(folder) / f"upload{suffix}"
