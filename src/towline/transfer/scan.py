"""What there is to send: a folder or file on this machine, listed in a manifest.

Owns the walk and the list of what stays at home. Contents are not read here: see `hashing`. Knows
nothing of lines. Sync: callers run it in a thread. Uses nothing that Windows lacks.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from towline.core.manifest import Entry, EntryKind, Manifest, path_bytes, shown
from towline.errors import SpecError
from towline.transfer import scan_links
from towline.transfer.scan_rules import SkipRules

_POSIX = os.name == "posix"
_OWNER_FOLDER, _OWNER_FILE = 0o700, 0o400  # what towline itself needs to handle them there


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that stays at home, relative to the root; a folder stands for all that is in it."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """What was found. ``root / entry.path`` is where an entry lies on this machine.

    ``source`` is the path that was asked for; ``root`` is that folder, or the folder of that file.
    """

    source: Path
    root: Path
    manifest: Manifest
    skipped: tuple[Skipped, ...]


def scan(source: Path, *, exclude: Sequence[Path] = ()) -> Scan:
    """Look through a folder or at a file; contents are not read, so files have no hash yet.

    Folders' times are left out, so that they don't make two equal trees differ. Modes keep the
    owner's right to read, and folders the owner's to write.

    Args:
        source: Folder or file.
        exclude: Paths that are no part of it; they are not listed as skipped.

    Raises:
        SpecError: Missing, empty, unreadable, or of a kind that can't be sent.
    """
    try:
        status = source.stat()
    except OSError as error:
        message = f"{shown(str(source))} can't be read: {error.strerror}"
        raise SpecError(message, hint="check the path") from error
    if stat.S_ISDIR(status.st_mode):
        return _scan_folder(source, {os.path.realpath(path) for path in exclude})
    if not stat.S_ISREG(status.st_mode):
        raise SpecError(f"{shown(str(source))} is neither a folder nor a file")
    require_readable(str(source))
    manifest = Manifest.of([file_entry(source.name, status)])
    return Scan(source, source.absolute().parent, manifest, ())


def _scan_folder(source: Path, exclude: set[str]) -> Scan:
    root = os.path.realpath(source)
    walk = _Walk(root, exclude)
    walk.run()
    manifest = walk.without_lost_links()
    skipped = tuple(sorted(walk.skipped, key=lambda one: one.path))
    if not manifest.file_count:
        left_out = ", ".join(f"{shown(one.path)} ({one.why})" for one in skipped[:4])
        message = f"{shown(str(source))} holds no files to send"
        hint = f"left out: {left_out}" if left_out else "put files there, or name another folder"
        raise SpecError(message, hint=hint)
    return Scan(source, Path(root), manifest, skipped)


class _Walk:
    """A walk under way, in the manifest's own order, so that nothing has to be sorted after it."""

    def __init__(self, root: str, exclude: set[str]) -> None:
        self.skipped: list[Skipped] = []
        self._manifest = Manifest()
        self._links: dict[str, str] = {}
        self._closed: set[str] = set()  # folders that are not entered
        self._root = root
        self._exclude = exclude

    def run(self) -> None:
        """Read the root and every folder below it."""
        opened = [("", SkipRules.defaults().entering("", Path(self._root)), self._names(""))]
        while opened:
            folder, rules, names = opened[-1]
            name = next(names, None)
            if name is None:
                opened.pop()
                continue
            path = f"{folder}/{name}" if folder else name
            if not path.endswith("/"):
                self._take(path, rules)
            elif (inner := path[:-1]) not in self._closed:
                below = rules.entering(inner, Path(self._root, inner))
                opened.append((inner, below, self._names(inner)))

    def _names(self, folder: str) -> Iterator[str]:
        """Names in a folder, in the order of whole paths' bytes.

        What is in a folder `a` stands at `a/`, after `a.txt`.

        Raises:
            SpecError: It can't be read, or a name in it is no text.
        """  # noqa: DOC501 - a helper makes the exception
        local = f"{self._root}/{folder}" if folder else self._root
        keys = []
        try:
            with os.scandir(local) as found:
                for one in found:
                    keys.append(_key(one.name, local))
                    if one.is_dir(follow_symlinks=False):
                        keys.append(keys[-1] + b"/")
        except OSError as error:
            raise unreadable(local, error) from error
        keys.sort()
        return (key.decode("utf-8", "surrogateescape") for key in keys)

    def _take(self, path: str, rules: SkipRules) -> None:
        """Note one path."""
        local = f"{self._root}/{path}"
        try:
            status = os.lstat(local)
        except OSError as error:
            raise unreadable(local, error) from error
        mode = status.st_mode
        is_folder = stat.S_ISDIR(mode)
        if local in self._exclude:
            self._closed.add(path)
        elif why := rules.why_skipped(path, local, is_folder=is_folder) or _why_unfit(mode):
            self._closed.add(path)
            self.skipped.append(Skipped(path, why))
        elif is_folder:
            kept = stat.S_IMODE(mode) & 0o777 | _OWNER_FOLDER if _POSIX else 0o755
            self._manifest.append(Entry(path=path, kind=EntryKind.DIR, mode=kept))
        elif stat.S_ISLNK(mode):
            self._links[path] = target = str(Path(local).readlink()).replace(os.sep, "/")
            link = Entry(path=path, kind=EntryKind.LINK, mode=0o777, target=target)
            self._manifest.append(link)
        else:
            require_readable(local)
            self._manifest.append(file_entry(path, status))

    def without_lost_links(self) -> Manifest:
        """The manifest, without links that lead to nothing that is sent: these are skipped."""
        lost = set()
        for path in self._links:
            why = scan_links.why_not_sent(path, self._links, self._is_sent)
            if why is not None:
                lost.add(path)
                self.skipped.append(Skipped(path, why))
        if not lost:
            return self._manifest
        kept = Manifest()
        for entry in self._manifest:
            if entry.path not in lost:
                kept.append(entry)
        return kept

    def _is_sent(self, path: str) -> bool:
        """Whether a path is a file or folder that is sent."""
        return path not in self._links and self._manifest.find(path) is not None


def _key(name: str, folder: str) -> bytes:
    try:
        return path_bytes(name)
    except UnicodeEncodeError as error:
        message = f"the name of {shown(f'{folder}/{name}')} is not valid Unicode"
        raise SpecError(message, hint="rename it, or leave it out by .towlineignore") from error


def _why_unfit(mode: int) -> str | None:
    """Why something of this kind can't be sent."""
    kinds = {
        stat.S_IFIFO: "named pipe",
        stat.S_IFSOCK: "socket",
        stat.S_IFCHR: "device",
        stat.S_IFBLK: "device",
    }
    kind = stat.S_IFMT(mode)
    fit = {stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR}
    return None if kind in fit else kinds.get(kind, "neither file nor link")


def file_entry(path: str, status: os.stat_result, sha256: str = "") -> Entry:
    """The entry of a file from its figures."""
    return Entry(
        path=path,
        kind=EntryKind.FILE,
        size_bytes=status.st_size,
        mode=stat.S_IMODE(status.st_mode) & 0o777 | _OWNER_FILE if _POSIX else 0o644,
        mtime_ns=status.st_mtime_ns,
        sha256=sha256,
    )


def require_readable(local: str) -> None:
    """Find early what can't be read, without opening it.

    Raises:
        SpecError: It can't.
    """  # noqa: DOC501 - a helper makes the exception
    if not os.access(local, os.R_OK):
        raise unreadable(local, PermissionError(errno.EACCES, os.strerror(errno.EACCES)))


def unreadable(local: str, error: OSError) -> SpecError:
    """Say what can't be read and how to help it."""
    message = f"{shown(local)} can't be read: {error.strerror}"
    hint = "make it readable (`chmod u+rX` on it), or leave it out by a line in .towlineignore"
    return SpecError(message, hint=hint)
