"""Open the journal's file: permissions, pragmas, schema version, transactions.

Another program may hold the file: a backup, a database browser. It is waited for, and meanwhile
the driver stands still with all else. That loses nothing. The training needs no driver, and nobody
can take the run over, since a lease is taken by a write, for which the others wait in the same
queue. Should the lease have expired meanwhile, the first write after the wait decides: either it
renews the lease, or another driver was faster and it changes nothing (`LeaseLost`).
"""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from towline.errors import (
    JournalBusy,
    JournalDamaged,
    JournalUnusable,
    SchemaTooNew,
    StoreError,
)

_WAL_TRIES = 50
#: SQLite waits so long in one go; in between a signal is heard
_TRY_S = 0.25
_TRIES = 720  # three minutes
_SAID_AFTER = 20  # tries, before it is said that somebody else holds the file

_T = TypeVar("_T")
_CAUSES: dict[int, type[StoreError]] = {
    sqlite3.SQLITE_BUSY: JournalBusy,
    sqlite3.SQLITE_LOCKED: JournalBusy,
    sqlite3.SQLITE_FULL: JournalUnusable,
    sqlite3.SQLITE_IOERR: JournalUnusable,
    sqlite3.SQLITE_READONLY: JournalUnusable,
    sqlite3.SQLITE_CANTOPEN: JournalUnusable,
    sqlite3.SQLITE_PERM: JournalUnusable,
    sqlite3.SQLITE_AUTH: JournalUnusable,
    sqlite3.SQLITE_NOMEM: JournalUnusable,
    sqlite3.SQLITE_CORRUPT: JournalDamaged,
    sqlite3.SQLITE_NOTADB: JournalDamaged,
}


class Database:
    """One connection. Used from the thread that opened it; several processes may have one each.

    Every method raises, besides what it lists:
        JournalBusy: Another program has held the file for minutes.
        JournalUnusable: The disk is full or fails, or the file can't be written now.
        JournalDamaged: The file is no whole journal.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file and bring its schema up to date.

        Raises:
            SchemaTooNew: A newer towline wrote it.
        """
        self._path = path
        _make(path)
        with self._mapped("can't be opened"):
            self._db = sqlite3.connect(path, isolation_level=None, timeout=_TRY_S)
            self._db.row_factory = sqlite3.Row
            self._use_wal()
            # FULL: a committed intent survives power loss
            self._run("PRAGMA synchronous = FULL")
            self._run("PRAGMA foreign_keys = ON")
            self._migrate()

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def rows(self, sql: str, *args: object) -> list[sqlite3.Row]:
        """Read rows."""
        with self._mapped("can't be read"):
            return self._waited(lambda: self._db.execute(sql, args).fetchall())

    def row(self, sql: str, *args: object) -> sqlite3.Row | None:
        """Read one row, None when there is none."""
        found = self.rows(sql, *args)
        return found[0] if found else None

    def write(self, sql: str, *args: object) -> int:
        """Write inside a transaction; returns the number of rows changed."""
        with self._mapped("could not be written"):
            return self._run(sql, *args).rowcount

    @contextmanager
    def transaction(self, *, patient: bool = True) -> Iterator[None]:
        """All or nothing. Rule 3: no await inside.

        Args:
            patient: Wait for minutes when another program holds the file, not for a moment.
        """
        with self._mapped("could not be written"):
            self._run("BEGIN IMMEDIATE", patient=patient)
            try:
                yield
                self.commit()
            except BaseException:
                if self._db.in_transaction:
                    self._run("ROLLBACK")
                raise

    def commit(self) -> None:
        """Make the transaction durable: the points between which a crash may fall."""
        self._run("COMMIT")

    # -- other programs, and what SQLite says ---------------------------------------------------

    def _run(self, sql: str, *args: object, patient: bool = True) -> sqlite3.Cursor:
        return self._waited(lambda: self._db.execute(sql, args), patient=patient)

    def _waited(self, work: Callable[[], _T], *, patient: bool = True) -> _T:
        """Do what changes nothing while another program holds the file, until it lets go."""
        for number in range(1, _TRIES if patient else 1):
            try:
                return work()
            except sqlite3.OperationalError as error:
                if _cause(error) is not JournalBusy:
                    raise
            if number == _SAID_AFTER:
                logging.getLogger(__name__).warning(
                    "another program holds the journal %s; waiting for it", self._path
                )
        return work()

    @contextmanager
    def _mapped(self, what: str) -> Iterator[None]:
        """Say in our words what SQLite says."""
        try:
            yield
        except sqlite3.Error as error:
            cause = _cause(error)
            why = "another program holds it" if cause is JournalBusy else str(error)
            raise cause(f"the journal {self._path} {what}: {why}") from error

    # -- opening --------------------------------------------------------------------------------

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
                self._run("BEGIN IMMEDIATE")  # this one is queued
                self._run("COMMIT")

    def _migrate(self) -> None:
        scripts = sorted(
            (file.name, file)
            for file in (resources.files("towline.store") / "schema").iterdir()
            if file.name.endswith(".sql")
        )
        version = self._version()
        if version > len(scripts):
            raise SchemaTooNew(
                f"a newer towline wrote the journal {self._path}: it has schema {version},"
                f" and this towline knows {len(scripts)}",
                hint="update towline (`pip install -U towline`), then give the same command again;"
                " nothing was changed, and what is rented stays so until then",
            )
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
                self._run(statement)
            self._run(f"PRAGMA user_version = {number}")

    def _version(self) -> int:
        version: int = self._waited(self._read_version)
        return version

    def _read_version(self) -> Any:
        return self._db.execute("PRAGMA user_version").fetchone()[0]


def _make(path: Path) -> None:
    """Make the file, closed to others, if there is none.

    One that is there is never opened here: closing it again would drop this process's locks on
    it, also those of another connection, whose log the next process would then delete.

    Raises:
        JournalUnusable: It can't be made.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return  # another process was faster
    except OSError as error:
        message = f"the journal {path} can't be made: {error.strerror}"
        raise JournalUnusable(message) from error


def _cause(error: sqlite3.Error) -> type[StoreError]:
    """The class that an error of SQLite's belongs to."""
    code = getattr(error, "sqlite_errorcode", None)  # none on errors of Python's own module
    return StoreError if code is None else _CAUSES.get(code & 0xFF, StoreError)


def _statements(script: str) -> Iterator[str]:
    """Split a schema script into statements."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
