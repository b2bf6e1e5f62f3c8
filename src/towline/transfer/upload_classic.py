"""The classic ways of an upload: one ZIP, or file by file over SFTP.

For instances whose Python can't take the stream, and for those who ask for it. What arrives is
proven on the instance by the same manifest.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from towline.core.manifest import Entry, EntryKind
from towline.errors import ChecksumMismatch, ConnectionLost, TransferError
from towline.transfer.scan import Scan
from towline.transfer.upload_frames import FileChanged, copy_checked, require_same_hash
from towline.transfer.upload_job import Job
from towline.transfer.upload_stream import ROUNDS

_LEVEL = 6
_ZIP64_BYTES = 1 << 30  # deflate may make a file larger than it is; the format's limit is 4 GiB


class CannotPack(TransferError):
    """The archive can't be made on this machine."""


async def zipped(job: Job) -> None:
    """Send everything as one archive; both temporary files are gone afterwards, also on failure.

    Raises:
        CannotPack: No room for the archive here, or no right to make it.
        ChecksumMismatch: What came out of it was damaged, in each of three rounds.
        FileChanged: A local file is no longer what the manifest says.
        CommandFailed: The instance can't extract it.
        RemoteDiskFull: No room there.
    """
    await job.hashing.all()
    if (await job.ask("adopt", finish=False))["complete"]:
        return
    archive = _Archive()
    try:
        await asyncio.to_thread(archive.fill, job.found)
        await _send_archive(job, archive.path)
    finally:
        archive.remove()


async def _send_archive(job: Job, archive: Path) -> None:
    remote_path = f"{job.line.layout.control}/upload-{job.name}.zip"
    size = archive.stat().st_size
    manifest = job.found.manifest

    def show(sent: int) -> None:
        job.meter.arrived(manifest.size_bytes * sent // size, manifest.file_count * sent // size)

    try:
        for last in (False,) * (ROUNDS - 1) + (True,):
            try:
                await _put(job, archive, remote_path, show)
                job.require_proof(await job.ask("unpack"))
            except ChecksumMismatch as damaged:
                if last:
                    raise
                job.meter.note(f"{damaged.message}; sending it again")
            else:
                return
    finally:
        await _remove_remote(job, remote_path)


async def _remove_remote(job: Job, path: str) -> None:
    """Remove a file on the instance if the line stands; else it goes with the run's folder."""
    try:
        remote = await job.line.dial_once()
        await remote.run(["rm", "-f", "--", path])
    except ConnectionLost:
        await job.line.hang_up()


class _Archive:
    """A temporary ZIP of the files' contents.

    Links, folders, modes and times are the manifest's, and so are names that a ZIP can't hold.

    Raises:
        CannotPack: There is no temporary folder to make it in.
    """

    def __init__(self) -> None:
        self._unwanted = False
        with _packing():
            fd, name = tempfile.mkstemp(prefix="towline-", suffix=".zip")
            os.close(fd)
        self.path = Path(name)

    def fill(self, found: Scan) -> None:
        """Write it. Blocking: runs in a thread, which `remove` asks to end.

        Raises:
            CannotPack: No room for it.
            FileChanged: A local file is no longer what the manifest says.
        """
        try:
            with (
                _packing(),
                zipfile.ZipFile(
                    self.path, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL
                ) as archive,
            ):
                for number, entry in enumerate(found.manifest):
                    if entry.kind is EntryKind.FILE and entry.size_bytes:
                        self._add(archive, found, number, entry)
        finally:
            if self._unwanted:
                self.path.unlink(missing_ok=True)

    def _add(self, archive: zipfile.ZipFile, found: Scan, number: int, entry: Entry) -> None:
        plain = entry.path.isascii() and entry.path.isprintable() and "\\" not in entry.path
        info = zipfile.ZipInfo(entry.path if plain else f"towline-entry-{number}")
        info.compress_type = zipfile.ZIP_DEFLATED
        with archive.open(info, "w", force_zip64=entry.size_bytes > _ZIP64_BYTES) as to:

            def write(data: bytes) -> None:
                if self._unwanted:
                    raise OSError(errno.ECANCELED, "nobody waits for it any more")
                to.write(data)

            copy_checked(found, number, write)

    def remove(self) -> None:
        """Remove it, also while a thread that nobody waits for any more still writes."""
        self._unwanted = True
        with contextlib.suppress(PermissionError):  # Windows, while it is written: `fill` does it
            self.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _packing() -> Iterator[None]:
    """Say plainly that this machine can't make the archive."""
    try:
        yield
    except OSError as error:
        message = f"no archive can be made on this machine: {error.strerror or error}"
        raise CannotPack(message, hint="make room in the temporary folder") from error


async def file_by_file(job: Job) -> None:
    """Send each missing file on its own; a file that was cut short is sent from its beginning.

    Raises:
        ChecksumMismatch: Files arrived damaged in each of three rounds.
        FileChanged: A local file is no longer what the manifest says.
        RemoteDiskFull: No room there.
        TransferError: The instance offers no SFTP.
    """
    await job.hashing.all()
    for last in (False,) * (ROUNDS - 1) + (True,):
        answer = await job.ask("adopt", finish=False)
        if answer["complete"]:
            return
        await _put_files(job, answer["want"], answer["folder"])
        try:
            job.require_proof(await job.ask("adopt", finish=True))
        except ChecksumMismatch as damaged:
            for number in answer["want"]:
                await asyncio.to_thread(require_same_hash, job.found, number)
            if last:
                raise
            job.meter.note(f"{damaged.message}; sending that again")
        else:
            return


async def _put_files(job: Job, numbers: list[int], folder: str) -> None:
    manifest = job.found.manifest
    count = manifest.size_bytes - sum(map(manifest.size, numbers))
    files = manifest.file_count - len(numbers)
    for number in numbers:
        entry = manifest[number]

        def show(sent: int, count: int = count, files: int = files) -> None:
            job.meter.arrived(count + sent, files)

        local = job.found.root / entry.path
        if not local.exists():
            raise FileChanged(number)
        await _put(job, local, f"{folder}/{entry.sha256}", show)
        count += entry.size_bytes
        files += 1


async def _put(job: Job, local: Path, remote_path: str, show: Callable[[int], None]) -> None:
    """Copy one file; again from its beginning when the line breaks."""
    reached = [0, 0]  # bytes sent in this try, and in the best one so far

    def sent(count: int) -> None:
        reached[0] = count
        show(count)

    async def once() -> bool:
        reached[1] = max(reached)
        reached[0] = 0
        try:
            remote = await job.line.dial_once()
            await remote.put_file(str(local), remote_path, sent)
        except ConnectionLost:
            await job.line.hang_up()
            if reached[0] > reached[1]:
                return False
            raise
        return True

    while not await job.line.persist(once):
        pass  # it got further than before: the time to reconnect starts anew
    job.meter.sent(local.stat().st_size)
