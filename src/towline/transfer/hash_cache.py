"""Hashes of files as they were last read, so that unchanged files need not be read again.

A file counts as unchanged when its size, its time of change of content and of figures, and its
inode are the same. SQLite, in TOWLINE_HOME; it is a cache: what is wrong with it is never an error,
and it may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from towline.core.manifest import Entry, path_bytes

_SCHEMA = """
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = NORMAL;
    CREATE TABLE IF NOT EXISTS root (
        id INTEGER PRIMARY KEY, path BLOB NOT NULL UNIQUE, used_at INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS file (
        root INTEGER NOT NULL, path BLOB NOT NULL, state TEXT NOT NULL, sha256 BLOB NOT NULL,
        PRIMARY KEY (root, path)) WITHOUT ROWID;
"""
_USED = """
    INSERT INTO root (path, used_at) VALUES (?, ?)
    ON CONFLICT (path) DO UPDATE SET used_at = excluded.used_at RETURNING id"""
_FORGET_FILES = "DELETE FROM file WHERE root IN (SELECT id FROM root WHERE used_at < ?)"
_BUSY_S = 0.5  # another towline may be writing: then there is no cache this time
_KEPT_S = 90 * 86400
#: a change so soon after the one before may leave the same times behind
_GRAIN_NS = 2 * 10**9

_Row = tuple[bytes, str, bytes]  # path, state, hash


class HashCache:
    """The cache file; made when missing, made anew when it is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def open(self) -> sqlite3.Connection | None:
        """Connect; None when there is no cache this time."""
        for _ in range(2):
            try:
                return self._opened()
            except sqlite3.OperationalError:
                return None  # busy, or no right to write
            except sqlite3.DatabaseError:
                self._path.unlink(missing_ok=True)
            except OSError:
                return None
        return None

    def _opened(self) -> sqlite3.Connection:
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        made = sqlite3.connect(self._path, timeout=_BUSY_S, check_same_thread=False)
        try:
            made.executescript(_SCHEMA)
        except sqlite3.Error:
            made.close()
            raise
        return made


class CachedRoot:
    """What is known of one folder, read side by side with a walk in the same order.

    Without a cache, or when it fails, nothing is known and nothing is kept.
    """

    def __init__(self, cache: HashCache | None, root: Path) -> None:
        self._rows: Iterator[_Row] = iter(())
        self._row: _Row | None = None
        self._fresh: list[tuple[int, bytes, str, bytes]] = []
        self._stale: list[tuple[int, bytes]] = []
        self._root = 0
        # two: what is read must not change by what is written
        self._reader = cache.open() if cache is not None else None
        self._writer = cache.open() if cache is not None and self._reader is not None else None
        if self._reader is not None and self._writer is not None:
            with self._failing_quietly():
                self._begin(self._reader, self._writer, os.fsencode(root))

    def _begin(self, reader: sqlite3.Connection, writer: sqlite3.Connection, root: bytes) -> None:
        now = int(time.time())
        with writer:
            writer.execute(_FORGET_FILES, (now - _KEPT_S,))
            writer.execute("DELETE FROM root WHERE used_at < ?", (now - _KEPT_S,))
            self._root = writer.execute(_USED, (root, now)).fetchone()[0]
        what = "SELECT path, state, sha256 FROM file WHERE root = ? ORDER BY path"
        self._rows = iter(reader.execute(what, (self._root,)))
        self._row = next(self._rows, None)

    def find(self, entry: Entry, local: str) -> str | None:
        """The hash of a file if it is unchanged; to be asked in the order of paths."""
        if self._row is None:
            return None
        raw = path_bytes(entry.path)
        with self._failing_quietly():
            while self._row is not None and self._row[0] < raw:
                self._stale.append((self._root, self._row[0]))
                self._row = next(self._rows, None)
        found = self._row
        if found is None or found[0] != raw:
            return None
        with self._failing_quietly():
            self._row = next(self._rows, None)
        try:
            status = os.stat(local)  # noqa: PTH116 - a Path would cost more than the question
        except OSError:
            return None  # whoever reads it will say why
        same = (status.st_size, status.st_mtime_ns) == (entry.size_bytes, entry.mtime_ns)
        return found[2].hex() if same and _state(status) == found[1] else None

    def add(self, entry: Entry, status: os.stat_result, read_at_ns: int) -> None:
        """Keep a hash, unless the file changed just before it was read."""
        if read_at_ns - max(status.st_mtime_ns, status.st_ctime_ns) > _GRAIN_NS:
            row = (self._root, path_bytes(entry.path), _state(status), bytes.fromhex(entry.sha256))
            self._fresh.append(row)

    def save(self) -> None:
        """Write what was added, and drop what the walk has passed and not found."""
        if self._writer is not None:
            with self._failing_quietly(), self._writer as writer:
                writer.executemany("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", self._fresh)
                writer.executemany("DELETE FROM file WHERE root = ? AND path = ?", self._stale)
        self._fresh.clear()
        self._stale.clear()

    def drop_rest(self) -> None:
        """Drop what lies behind the walk's end."""
        with self._failing_quietly():
            rest = [self._row, *self._rows] if self._row is not None else []
            self._stale += [(self._root, row[0]) for row in rest]

    def close(self) -> None:
        """Save and close."""
        self.save()
        for database in (self._reader, self._writer):
            if database is not None:
                database.close()
        self._reader = self._writer = None

    @contextlib.contextmanager
    def _failing_quietly(self) -> Iterator[None]:
        """Go on without the cache when it fails."""
        try:
            yield
        except sqlite3.Error:
            self._rows, self._row, self._writer = iter(()), None, None


def _state(status: os.stat_result) -> str:
    """What changes whenever a file's content does."""
    figures = (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)
    return " ".join(map(str, figures))
