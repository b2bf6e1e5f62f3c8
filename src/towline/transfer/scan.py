"""Read a local tree into a manifest: what is sent, what is skipped and why.

Data is never left out because of a `.gitignore`; only `.towlineignore` and the short list below
leave things out, and each is listed.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec

from towline.core.manifest import Entry, EntryKind, Manifest, shown
from towline.errors import SourceChanged, SpecError

IGNORE_FILE = ".towlineignore"
#: skipped unless `.towlineignore` brings them back with `!name`
DEFAULT_SKIPS = (
    ".git", ".hg", ".svn", "__pycache__", "*.pyc", ".venv", "venv", ".mypy_cache", ".pytest_cache",
    ".ruff_cache", ".ipynb_checkpoints", ".DS_Store", "Thumbs.db", ".env", ".env.*", "node_modules",
    ".tox", IGNORE_FILE,
)  # fmt: skip
_BLOCK = 1 << 20
_TRIES = 3


@dataclass(frozen=True, slots=True)
class Skipped:
    """A path that is not sent, and why; a folder stands for all in it."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Scan:
    """A local tree as it was read. ``root`` is the folder that the manifest's paths start from."""

    source: Path
    root: Path
    manifest: Manifest
    skipped: tuple[Skipped, ...]
    exclude: tuple[Path, ...] = ()

    def path(self, entry: Entry) -> Path:
        """Local path of an entry."""
        return self.root / os.fsdecode(entry.path.encode("utf-8", "surrogateescape"))

    def again(self) -> Scan:
        """Read the tree anew."""
        return scan(self.source, exclude=self.exclude)


def scan(source: Path, *, exclude: Sequence[Path] = (), hash_files: bool = True) -> Scan:
    """Read a folder, or a single file.

    Args:
        source: A local folder or file.
        exclude: Local paths that are no part of it; not listed as skipped.
        hash_files: Without it files are opened but not read, and entries have no SHA-256.

    Raises:
        SpecError: Missing, unreadable or without a single file.
        SourceChanged: A file kept changing while it was read.
    """
    walk = _Walk(source if source.is_dir() else source.parent, tuple(exclude), hash_files)
    if not source.exists():
        raise SpecError(f"{source} does not exist", hint="correct the path in the task")
    if source.is_dir():
        walk.folder(source, "", [])
    else:
        walk.file(source, source.name)
    if not any(entry.kind is EntryKind.FILE for entry in walk.entries):
        reason = f"; {len(walk.skipped)} paths in it are skipped" if walk.skipped else ""
        message = f"{source} holds no file to send{reason}"
        raise SpecError(message, hint="name the folder that holds the data, or see .towlineignore")
    manifest = Manifest.of(walk.entries)
    return Scan(source, walk.root, manifest, tuple(walk.skipped), tuple(exclude))


class _Walk:
    """One reading of a tree."""

    def __init__(self, root: Path, exclude: tuple[Path, ...], hash_files: bool) -> None:  # noqa: FBT001
        self.root = root
        self.entries: list[Entry] = []
        self.skipped: list[Skipped] = []
        self._real_root = root.resolve()
        self._exclude = exclude
        self._hash_files = hash_files

    def folder(self, folder: Path, inner: str, rules: list[tuple[str, GitIgnoreSpec]]) -> None:
        """Read a folder; ``inner`` is its manifest path, "" for the root."""
        rules = rules + _rules(folder, inner, is_root=not inner)
        try:
            children = sorted(os.scandir(folder), key=lambda child: os.fsencode(child.name))
        except OSError as error:
            raise _unreadable(folder, error) from error
        for child in children:
            path = Path(child.path)
            if path in self._exclude:
                continue
            name = f"{inner}/{_text(child.name)}" if inner else _text(child.name)
            is_folder = child.is_dir(follow_symlinks=False)
            why = _skip_reason(name, path, rules, is_folder=is_folder)
            if why is not None:
                self.skipped.append(Skipped(shown(name), why))
            else:
                self._child(child, path, name, rules)

    def _child(
        self, child: os.DirEntry[str], path: Path, name: str, rules: list[tuple[str, GitIgnoreSpec]]
    ) -> None:
        if child.is_symlink():
            self._link(path, name)
        elif child.is_dir(follow_symlinks=False):
            status = child.stat(follow_symlinks=False)
            self.entries.append(
                Entry(
                    path=name, kind=EntryKind.DIR, mode=_mode(status), mtime_ns=status.st_mtime_ns
                )
            )
            self.folder(path, name, rules)
        elif child.is_file(follow_symlinks=False):
            self.file(path, name)
        else:
            self.skipped.append(Skipped(shown(name), "neither file, folder nor link"))

    def file(self, path: Path, name: str) -> None:
        """Read one file."""
        try:
            with path.open("rb") as file:
                for _ in range(_TRIES):
                    before = os.fstat(file.fileno())
                    digest = _sha256(file) if self._hash_files else ""
                    after = os.fstat(file.fileno())
                    if _same(before, after):
                        self.entries.append(_file_entry(name, after, digest))
                        return
                    file.seek(0)
        except OSError as error:
            raise _unreadable(path, error) from error
        message = f"{shown(str(path))} keeps changing while it is read"
        raise SourceChanged(message, hint="stop what writes it, or leave it out by .towlineignore")

    def _link(self, path: Path, name: str) -> None:
        target = _text(str(path.readlink()))
        try:
            inside = path.resolve(strict=True).is_relative_to(self._real_root)
        except (OSError, RuntimeError):
            self.skipped.append(Skipped(shown(name), "a link that leads nowhere"))
            return
        if Path(target).is_absolute() or not inside or _climbs_out(name, target):
            self.skipped.append(Skipped(shown(name), "a link that leads out of the folder"))
        else:
            self.entries.append(Entry(path=name, kind=EntryKind.LINK, mode=0o777, target=target))


def _climbs_out(name: str, target: str) -> bool:
    depth = name.count("/")
    for part in target.split("/"):
        depth += -1 if part == ".." else int(part not in ("", "."))
        if depth < 0:
            return True
    return False


def _rules(folder: Path, inner: str, *, is_root: bool) -> list[tuple[str, GitIgnoreSpec]]:
    """The rules that begin to hold in this folder, with the folder they are relative to."""
    lines = list(DEFAULT_SKIPS) if is_root else []
    file = folder / IGNORE_FILE
    try:
        own = file.read_text("utf-8").splitlines() if file.is_file() else []
        return [(inner, GitIgnoreSpec.from_lines(lines + own))] if lines or own else []
    except (OSError, ValueError) as error:
        raise SpecError(f"{file} can't be used: {error}", hint="it has gitignore syntax") from error


def _skip_reason(
    name: str, path: Path, rules: list[tuple[str, GitIgnoreSpec]], *, is_folder: bool
) -> str | None:
    verdict: tuple[bool, str] | None = None
    for base, spec in rules:
        inner = name[len(base) + 1 :] if base else name
        checked = spec.check_file(inner + "/" if is_folder else inner)
        if checked.include is not None:
            by_default = not base and (checked.index or 0) < len(DEFAULT_SKIPS)
            verdict = (checked.include, "skipped by default" if by_default else IGNORE_FILE)
    if verdict is not None:
        return verdict[1] if verdict[0] else None
    return "a virtual environment" if is_folder and (path / "pyvenv.cfg").exists() else None


def _file_entry(name: str, status: os.stat_result, digest: str) -> Entry:
    return Entry(
        path=name,
        kind=EntryKind.FILE,
        size_bytes=status.st_size,
        mode=_mode(status),
        mtime_ns=status.st_mtime_ns,
        sha256=digest,
    )


def _sha256(file: object) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)


def _mode(status: os.stat_result) -> int:
    if os.name != "nt":
        return stat.S_IMODE(status.st_mode) & 0o777
    return 0o755 if stat.S_ISDIR(status.st_mode) else 0o644


def _text(name: str) -> str:
    """A local name as it stands in a manifest: UTF-8, with `/` between folders."""
    text = os.fsencode(name).decode("utf-8", "surrogateescape")
    return text.replace(os.sep, "/") if os.sep != "/" else text


def _unreadable(path: Path, error: OSError) -> SpecError:
    message = f"{shown(str(path))} can't be read: {error.strerror}"
    hint = f"make it readable (`chmod u+r`), or leave it out by a line in {IGNORE_FILE}"
    return SpecError(message, hint=hint)
