"""Open the journal's file: permissions, pragmas, schema version, transactions."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from towline.errors import SchemaTooNew, StoreError

_WAL_TRIES = 50


class Database:
    """One connection. Used from the thread that opened it; several processes may have one each."""

    def __init__(self, path: Path) -> None:
        """Open or make the file and bring its schema up to date.

        Raises:
            StoreError: The file can't be opened or is no journal.
            SchemaTooNew: A newer towline wrote it.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            self._db = sqlite3.connect(path, isolation_level=None, timeout=20)
            self._db.row_factory = sqlite3.Row
            self._use_wal()
            # FULL: a committed intent survives power loss
            self._db.execute("PRAGMA synchronous = FULL")
            self._db.execute("PRAGMA foreign_keys = ON")
            self._migrate()
        except (sqlite3.Error, OSError) as error:
            message = f"the journal {path} can't be opened: {error}"
            hint = "check the folder's permissions and free space, or set TOWLINE_HOME elsewhere"
            raise StoreError(message, hint=hint) from error

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self, sql: str, *args: object) -> list[sqlite3.Row]:
        """Read rows."""
        return self._db.execute(sql, args).fetchall()

    def row(self, sql: str, *args: object) -> sqlite3.Row | None:
        """Read one row, None when there is none."""
        found: sqlite3.Row | None = self._db.execute(sql, args).fetchone()
        return found

    def write(self, sql: str, *args: object) -> int:
        """Write inside a transaction; returns the number of rows changed."""
        return self._db.execute(sql, args).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Rule 3: no await inside.

        Raises:
            StoreError: The disk is full or fails; nothing was written.
        """
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self.commit()
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                message = f"the journal could not be written: {error}"
                hint = "free some disk space, then `towline resume`"
                raise StoreError(message, hint=hint) from error
            raise

    def commit(self) -> None:
        """Make the transaction durable: the points between which a crash may fall."""
        self._db.execute("COMMIT")

    def _use_wal(self) -> None:
        """Switch to WAL: readers never wait for the driver.

        SQLite does not queue this switch, so of several processes that open a new file at once
        some are refused: they wait for the others' turn and try again.

        Raises:
            sqlite3.OperationalError: It can't be done.
        """
        for tries_left in reversed(range(_WAL_TRIES)):
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError:
                if not tries_left:
                    raise
                self._db.execute("BEGIN IMMEDIATE")  # this one is queued
                self._db.execute("COMMIT")

    def _migrate(self) -> None:
        scripts = sorted(
            (file.name, file)
            for file in (resources.files("towline.store") / "schema").iterdir()
            if file.name.endswith(".sql")
        )
        version = self._version()
        if version > len(scripts):
            message = f"the journal has schema {version}, this towline knows {len(scripts)}"
            raise SchemaTooNew(message, hint="update towline: pip install -U towline")
        if version == len(scripts):
            return
        for number, (_name, file) in enumerate(scripts, 1):
            self._apply(number, file.read_text("utf-8"))

    def _apply(self, number: int, script: str) -> None:
        # executescript commits by itself, so the script carries its own transaction; the version
        # is read again inside it, because another process may have been faster
        with self.transaction():
            if self._version() >= number:
                return
            for statement in _statements(script):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version = {number}")

    def _version(self) -> int:
        version: int = self._db.execute("PRAGMA user_version").fetchone()[0]
        return version


def _statements(script: str) -> Iterator[str]:
    """Split a schema script into statements."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
