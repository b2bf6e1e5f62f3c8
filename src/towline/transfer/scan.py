"""What there is to send: a folder or file on this machine, read into a manifest.

Owns the walk, the hashes and the list of what stays at home. Knows nothing of lines. Sync: callers
run it in a thread. Uses nothing that Windows lacks.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from towline.core.manifest import Entry, EntryKind, Manifest, shown
from towline.errors import SourceChanged, SpecError
from towline.transfer import scan_links
from towline.transfer.scan_rules import SkipRules

_BLOCK = 1024 * 1024
_TRIES = 3  # a file that changes while it is hashed is hashed again
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


def scan(source: Path, *, exclude: Sequence[Path] = (), hash_files: bool = True) -> Scan:
    """Read a folder or a file.

    Folders' times are left out, so that they don't make two equal trees differ. Modes keep the
    owner's right to read, and folders the owner's to write.

    Args:
        source: Folder or file.
        exclude: Paths that are no part of it; they are not listed as skipped.
        hash_files: False: leave ``sha256`` empty; names and rights are checked all the same.

    Raises:
        SpecError: Missing, empty, unreadable, or of a kind that can't be sent.
        SourceChanged: A file changes all the time.
    """
    try:
        status = source.stat()
    except OSError as error:
        message = f"{shown(str(source))} can't be read: {error.strerror}"
        raise SpecError(message, hint="check the path") from error
    if stat.S_ISDIR(status.st_mode):
        return _scan_folder(source, {Path(os.path.realpath(path)) for path in exclude}, hash_files)
    if not stat.S_ISREG(status.st_mode):
        raise SpecError(f"{shown(str(source))} is neither a folder nor a file")
    root = source.absolute().parent
    entry = _file_entry(root, source.name, hash_files)
    return Scan(source, root, Manifest((entry,)), ())


def rescan(found: Scan, path: str) -> Scan:
    """Read one file of a scan anew.

    Raises:
        SpecError: It can't be read any more.
        SourceChanged: It changes all the time.
    """
    fresh = _file_entry(found.root, path, hash_files=True)
    entries = (fresh if entry.path == path else entry for entry in found.manifest.entries)
    return replace(found, manifest=Manifest.of(entries))


@dataclass(slots=True)
class _Walk:
    """A walk under way."""

    root: Path
    exclude: set[Path]
    entries: list[Entry] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    def run(self) -> None:
        """Read the root and every folder below it."""
        todo = [("", SkipRules.defaults())]
        while todo:
            path, rules = todo.pop()
            local = self.root / path
            rules = rules.entering(path, local)
            for name in _names(local):
                inner = f"{path}/{name}" if path else name
                if self.root / inner not in self.exclude and self._take(inner, rules):
                    todo.append((inner, rules))

    def _take(self, path: str, rules: SkipRules) -> bool:
        """Note one path; True for a folder that is to be entered."""
        local = self.root / path
        _require_text(path, local)
        mode = _lstat(local).st_mode
        is_folder = stat.S_ISDIR(mode)
        why = rules.why_skipped(path, local, is_folder=is_folder) or _why_unfit(mode)
        if why is not None:
            self.skipped.append(Skipped(path, why))
        elif is_folder:
            kept = stat.S_IMODE(mode) & 0o777 | _OWNER_FOLDER if _POSIX else 0o755
            self.entries.append(Entry(path=path, kind=EntryKind.DIR, mode=kept))
        elif stat.S_ISLNK(mode):
            self.links[path] = str(local.readlink()).replace(os.sep, "/")
        else:
            self.files.append(path)
        return is_folder and why is None

    def sent_links(self) -> Iterator[Entry]:
        """Entries of the links that lead to something that is sent; the others are skipped."""
        others = {entry.path for entry in self.entries} | set(self.files)
        for path, target in self.links.items():
            why = scan_links.why_not_sent(path, self.links, others)
            if why is not None:
                self.skipped.append(Skipped(path, why))
            else:
                yield Entry(path=path, kind=EntryKind.LINK, mode=0o777, target=target)


def _scan_folder(source: Path, exclude: set[Path], hash_files: bool) -> Scan:  # noqa: FBT001
    root = Path(os.path.realpath(source))
    walk = _Walk(root, exclude)
    walk.run()
    links = list(walk.sent_links())
    skipped = tuple(sorted(walk.skipped, key=lambda one: one.path))
    if not walk.files:
        left_out = ", ".join(f"{shown(one.path)} ({one.why})" for one in skipped[:4])
        message = f"{shown(str(source))} holds no files to send"
        hint = f"left out: {left_out}" if left_out else "put files there, or name another folder"
        raise SpecError(message, hint=hint)
    files = [_file_entry(root, path, hash_files) for path in walk.files]
    return Scan(source, root, Manifest.of([*walk.entries, *files, *links]), skipped)


def _names(local: Path) -> list[str]:
    """Names in a folder."""
    try:
        return [path.name for path in local.iterdir()]
    except OSError as error:
        raise _unreadable(local, error) from error


def _lstat(local: Path) -> os.stat_result:
    """Figures of a path, its links not followed."""
    try:
        return local.lstat()
    except OSError as error:
        raise _unreadable(local, error) from error


def _require_text(path: str, local: Path) -> None:
    try:
        path.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        message = f"the name of {shown(str(local))} is not valid Unicode"
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


def _file_entry(root: Path, path: str, hash_files: bool) -> Entry:  # noqa: FBT001
    """Read one file, again while it changes, three times at most."""
    local = root / path
    for _ in range(_TRIES):
        try:
            entry, settled = _read_entry(local, path, hash_files)
        except OSError as error:
            raise _unreadable(local, error) from error
        if settled:
            return entry
    message = f"{shown(str(local))} keeps changing while it is read"
    raise SourceChanged(message, hint="wait until what writes it has ended, then start again")


def _read_entry(local: Path, path: str, hash_files: bool) -> tuple[Entry, bool]:  # noqa: FBT001
    """One reading of a file, and whether it stood still meanwhile."""
    digest = hashlib.sha256()
    size = 0
    with local.open("rb", buffering=0) as file:
        before = os.fstat(file.fileno())
        while hash_files and (block := file.read(_BLOCK)):
            digest.update(block)
            size += len(block)
        after = os.fstat(file.fileno())
    entry = Entry(
        path=path,
        kind=EntryKind.FILE,
        size_bytes=after.st_size,
        mode=stat.S_IMODE(after.st_mode) & 0o777 | _OWNER_FILE if _POSIX else 0o644,
        mtime_ns=after.st_mtime_ns,
        sha256=digest.hexdigest() if hash_files else "",
    )
    same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
    return entry, same and (not hash_files or size == after.st_size)


def _unreadable(local: Path, error: OSError) -> SpecError:
    """Say what can't be read and how to help it."""
    message = f"{shown(str(local))} can't be read: {error.strerror}"
    hint = "make it readable (`chmod u+rX` on it), or leave it out by a line in .towlineignore"
    return SpecError(message, hint=hint)
