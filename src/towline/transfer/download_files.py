"""Files on their way home: beginnings kept, contents proven, then renamed into place.

Owns everything that touches this machine's disk in a download. Sync: its caller runs it in a
thread. The paths come from the instance and are taken as hostile; uses nothing that Windows lacks.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from towline.core.manifest import path_bytes, shown
from towline.disk import writing
from towline.errors import CommandFailed, LocalWriteError
from towline.transfer.growing import Growing

_WINDOWS = os.name == "nt"
_WINDOWS_REFUSES = re.compile(
    r'[<>:"|?*\\\x00-\x1f]|[ .]$|^(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|$)', re.IGNORECASE
)
_NAME_HINT = "rename the file in the training's script"
_FLUSH_BYTES = 1024 * 1024  # larger files are brought to the disk one by one
_OWNER = 0o600  # what the user needs to handle a result


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteFile:
    """A file on the instance; ``path`` is relative to the base it was found under."""

    path: str
    size_bytes: int
    mode: int
    mtime_ns: int
    sha256: str


class Landing:
    """Where files land. A file is known by its position in ``items``. Not to be used by two threads
    at once.

    Raises:
        LocalWriteError: A path leads out of the folder, or this system can't hold such a name.
    """

    def __init__(self, into: Path, items: Sequence[RemoteFile]) -> None:
        self.items = list(items)
        self._missing: set[int] = set()
        self.home_bytes = 0
        self._into = into
        self._targets = [into.joinpath(*_checked(item.path)) for item in items]
        self._twins = _twins(items)
        self._growing: dict[int, Growing] = {}

    @property
    def missing(self) -> list[int]:
        """Files that are not home yet, in order."""
        return sorted(self._missing)

    @property
    def home_files(self) -> int:
        """How many are home."""
        return len(self.items) - len(self._missing)

    def look(self) -> None:
        """Find what is home already; make the folders for the rest.

        Raises:
            LocalWriteError: This machine can't take it.
        """
        seen: set[str] = set()
        for number, item in enumerate(self.items):
            target = self._targets[number]
            if item.path in seen or self._is_home(number):
                self.home_bytes += item.size_bytes
                continue
            seen.add(item.path)
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
            self._missing.add(number)

    def begin(self) -> list[tuple[int, int, int]]:
        """What to ask for, in order: (number, start, end); what needs nothing is finished.

        Raises:
            LocalWriteError: This machine can't take it.
        """
        gaps = []
        for number in list(self.missing):
            with writing(self._targets[number]):
                found = Growing.gaps(self._part(number), self.items[number].size_bytes)
            if not found:
                self._finish(number, None)
            gaps += [(number, start, end) for start, end in found]
        open_bytes = sum(end - start for _number, start, end in gaps)
        self.home_bytes = sum(item.size_bytes for item in self.items) - open_bytes
        return gaps

    def write(self, number: int, offset: int, data: memoryview) -> None:
        """Take bytes of a file; the last ones put it in place if its hash is right.

        Raises:
            LocalWriteError: This machine can't take it.
            CommandFailed: The instance sent what was not asked for.
        """
        size = self.items[number].size_bytes
        if number not in self._missing or offset + len(data) > size:
            raise CommandFailed("the instance sent what was not asked for")
        self.home_bytes += len(data)
        with writing(self._targets[number]):
            if len(data) == size and number not in self._growing:
                self._part(number).write_bytes(data)
                self._finish(number, hashlib.sha256(data).hexdigest())
                return
            if number not in self._growing:
                self._growing[number] = Growing(self._part(number), size)
            one = self._growing[number]
            one.write(offset, data)
            if one.is_whole:
                del self._growing[number]
                self._finish(number, one.close())

    def rest(self) -> None:
        """Close the files that are open; their bytes stay for the next attempt."""
        while self._growing:
            self._growing.popitem()[1].close()

    def expect(self, number: int, item: RemoteFile) -> None:
        """Take a changed file's new figures; what was there of the old one is dropped."""
        part = self._part(number)
        with writing(part):
            Growing.drop(part)
        self.items[number] = item

    def leave(self, number: int) -> None:
        """Do without a file; what there is of it goes."""
        part = self._part(number)
        with writing(part):
            Growing.drop(part)
        self._missing.discard(number)

    def arriving(self) -> Arriving:
        """Begin to write the one file that is expected, from its beginning to an end not known yet.

        Raises:
            LocalWriteError: This machine can't take it.
        """
        return Arriving(self._targets[0], self._part(0))

    def settle(self) -> None:
        """Bring the folders' entries to the disk, so that no power cut takes a file away again."""
        if _WINDOWS:
            return  # folders can't be opened there
        os.sync()  # one for all small files: one each would take minutes where there are many
        for folder in {target.parent for target in self._targets}:
            with writing(folder):
                fd = os.open(folder, os.O_RDONLY)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)

    def _is_home(self, number: int) -> bool:
        item, target = self.items[number], self._targets[number]
        try:
            if target.is_symlink() or target.stat().st_size != item.size_bytes:
                return False
            return target.is_file() and _hash(target) == item.sha256
        except OSError:
            return False  # not there, or not readable: it is fetched

    def _part(self, number: int) -> Path:
        """The file's beginning, beside its final place so that the rename stays on one disk."""
        item = self.items[number]
        name = hashlib.sha256(path_bytes(item.path) + item.sha256.encode()).hexdigest()[:32]
        return self._targets[number].with_name(f".towline-{name}.part")

    def _finish(self, number: int, sha256: str | None) -> None:
        """Prove a file and put it in place; one that is wrong is dropped and stays missing.

        ``sha256`` is what was hashed of it as it came, None if nothing was.
        """
        item, target, part = self.items[number], self._targets[number], self._part(number)
        with writing(target):
            if not item.size_bytes:
                part.touch()
            if part.stat().st_size != item.size_bytes or (sha256 or _hash(part)) != item.sha256:
                Growing.drop(part)
                return
            self._require_own_place(number)
            if item.size_bytes > _FLUSH_BYTES or not hasattr(os, "sync"):
                with part.open("rb+", buffering=0) as file:
                    os.fsync(file.fileno())
            _place(part, target, item)
            Growing.drop(part)
        self._missing.discard(number)

    def _require_own_place(self, number: int) -> None:
        """Refuse to write over a file of this very download whose name only looks different."""
        target = self._targets[number]
        for twin in self._twins.get(number, ()):
            other = self._targets[twin]
            if target.exists() and other.exists() and target.samefile(other):
                names = f"{shown(self.items[twin].path)} and {shown(self.items[number].path)}"
                message = f"this disk can't hold both {names}"
                raise LocalWriteError(message, hint="choose a folder on another disk")


class Arriving:
    """A file whose bytes come in order; `close` drops what was not put in place."""

    def __init__(self, target: Path, part: Path) -> None:
        self._target, self._part = target, part
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            self._file = part.open("wb", buffering=0)

    def write(self, data: memoryview) -> None:
        """Write the next bytes.

        Raises:
            LocalWriteError: This machine can't take it.
        """
        with writing(self._target):
            while data:
                data = data[self._file.write(data) :]

    def put_in_place(self, item: RemoteFile) -> None:
        """Take it as whole.

        Raises:
            LocalWriteError: This machine can't take it.
        """
        with writing(self._target):
            os.fsync(self._file.fileno())
            self._file.close()
            _place(self._part, self._target, item)

    def close(self) -> None:
        """Drop what is not in place."""
        self._file.close()
        self._part.unlink(missing_ok=True)


def _place(part: Path, target: Path, item: RemoteFile) -> None:
    part.chmod(item.mode & 0o777 | _OWNER)
    _set_time(part, item.mtime_ns)
    part.replace(target)


def _checked(path: str) -> list[str]:
    """Split a path into components that stay below a folder and that this system can hold."""
    parts = path.split("/")
    if any(part in {"", ".", ".."} or "\0" in part for part in parts):
        message = f"the instance names a file {shown(path)!r}, which leads out of its folder"
        raise LocalWriteError(message, hint="nothing was written")
    if _WINDOWS and any(_WINDOWS_REFUSES.search(part) for part in parts):
        message = f"Windows can't hold a file named {shown(path)}"
        raise LocalWriteError(message, hint=_NAME_HINT)
    try:
        os.fsencode(path)
    except UnicodeEncodeError as error:
        message = f"this system can't hold a file named {shown(path)}"
        raise LocalWriteError(message, hint=_NAME_HINT) from error
    return parts


def _twins(items: Sequence[RemoteFile]) -> dict[int, list[int]]:
    """Earlier files whose paths differ only by case or by how accents are written."""
    groups: dict[str, list[int]] = {}
    twins = {}
    for number, item in enumerate(items):
        group = groups.setdefault(unicodedata.normalize("NFC", item.path).casefold(), [])
        if group:
            twins[number] = list(group)
        group.append(number)
    return twins


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _set_time(path: Path, mtime_ns: int) -> None:
    """Set a file's time where the system can keep it: 1970 to 2038 everywhere."""
    kept = min(max(mtime_ns, 0), (2**31 - 1) * 10**9)
    os.utime(path, ns=(kept, kept))
