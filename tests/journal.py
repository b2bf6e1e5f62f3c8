"""What the journal holds, read without a command: one would take 0.3 s to tell."""

import contextlib
import sqlite3


def rows(home, query):
    """Rows of the journal of a TOWLINE_HOME; [] before it has its schema."""
    path = home / "towline.db"
    if not path.exists():
        return []
    with contextlib.closing(sqlite3.connect(path)) as db:
        try:
            return db.execute(query).fetchall()
        except sqlite3.OperationalError:
            return []
