"""The journal's file: private, durable, opened by many at once, never half written."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from towline import errors
from towline.errors import SchemaTooNew, StoreError
from towline.store import database
from towline.store.database import Database

TABLES = {"runs", "attempts", "instances", "events", "facts"}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "towline.db"


def child(code, *args):
    """A process of its own that runs this code."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def tables(path):
    db = sqlite3.connect(path)
    try:
        names = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type='table'")}
    finally:
        db.close()
    return {name for name in names if not name.startswith("sqlite")}


def test_the_file_is_the_users_alone_whatever_the_umask(path):
    before = os.umask(0)
    try:
        db = Database(path)
        with db.transaction():
            db.write("CREATE TABLE extra (a)")
        found = {p.name: stat.S_IMODE(p.stat().st_mode) for p in path.parent.iterdir()}
        db.close()
    finally:
        os.umask(before)
    assert {"towline.db", "towline.db-wal"} <= set(found)
    assert set(found.values()) == {0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_committed_row_survives_power_loss_by_the_files_settings(path):
    db = Database(path)
    assert db.row("PRAGMA journal_mode")[0] == "wal"
    assert db.row("PRAGMA synchronous")[0] == 2  # FULL
    assert db.row("PRAGMA foreign_keys")[0] == 1
    db.close()


def test_a_new_file_has_the_whole_schema_and_opening_again_changes_nothing(path):
    Database(path).close()
    first = tables(path)
    Database(path).close()
    assert tables(path) == first == TABLES


def test_a_newer_towlines_file_is_left_alone(path):
    Database(path).close()
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA user_version = 99")
    raw.close()
    with pytest.raises(SchemaTooNew) as caught:
        Database(path)
    assert caught.value.exit_code == 2
    assert "pip install -U towline" in caught.value.hint
    assert "has schema 99" in caught.value.message


@pytest.mark.parametrize(
    "content", [b"this is no database, " * 100, b"SQLite format 3\0" + b"x" * 90]
)
def test_a_file_that_is_no_journal_is_refused_with_a_hint(path, content):
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(StoreError) as caught:
        Database(path)
    assert caught.value.hint
    assert path.read_bytes() == content


def test_a_folder_that_cannot_be_made_is_refused_with_a_hint(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError) as caught:
        Database(tmp_path / "file" / "towline.db")
    assert "TOWLINE_HOME" in caught.value.hint


OPENER = """
    import sys
    from pathlib import Path
    from towline.store.database import Database
    sys.stdout.write("ready\\n"); sys.stdout.flush()
    sys.stdin.readline()
    db = Database(Path(sys.argv[1]))
    with db.transaction():
        db.write("INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
                 " VALUES (?, ?, '{}', 'p', '/r', 'n', 0)", sys.argv[2], sys.argv[2])
    db.close()
"""


def test_many_processes_may_open_a_new_file_at_once(path):
    for round_number in range(3):
        target = path.with_name(f"{round_number}.db")
        children = [child(OPENER, target, f"run{n}") for n in range(6)]
        for one in children:
            assert one.stdout.readline() == "ready\n"
        for one in children:
            one.stdin.write("\n")
            one.stdin.flush()
        codes = [one.wait(30) for one in children]
        for one in children:
            one.stdin.close()
            one.stdout.close()
        assert codes == [0] * 6
        db = Database(target)
        assert db.row("SELECT count(*) AS n FROM runs")["n"] == 6
        db.close()
        assert tables(target) == TABLES


def test_a_new_file_that_another_process_is_writing_is_waited_for(path):
    path.parent.mkdir()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    other.execute("CREATE TABLE other (a)")
    timer = threading.Timer(0.3, other.execute, ["COMMIT"])
    timer.start()
    Database(path).close()
    timer.join()
    other.close()
    assert tables(path) == TABLES | {"other"}


# -- trouble beside us ----------------------------------------------------------------------------

SHOWER = """
    import sys
    from pathlib import Path
    from towline.store.database import Database
    db = Database(Path(sys.argv[1]))
    db.rows("SELECT * FROM runs")
    db.close()
"""
INSERT = (
    "INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
    " VALUES (?1, ?1, '{}', 'p', '/r', 'n', 0)"
)


def stored(path):
    """Names of the runs that a connection of its own finds."""
    raw = sqlite3.connect(path)
    try:
        return [row[0] for row in raw.execute("SELECT name FROM runs ORDER BY name")]
    finally:
        raw.close()


def test_two_connections_of_one_process_keep_their_log_when_another_process_closes_its_own(path):
    first = Database(path)
    second = Database(path)
    with first.transaction():
        first.write(INSERT, "before")
    one = child(SHOWER, path)
    assert one.wait(30) == 0
    one.stdin.close()
    one.stdout.close()
    with first.transaction():
        first.write(INSERT, "later")
    assert stored(path) == ["before", "later"]
    second.close()
    first.close()


@pytest.fixture
def browser(path):
    """Another program that holds the file, until the test rolls back."""
    Database(path).close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    yield other
    other.close()


@pytest.mark.parametrize("hold", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"])
def test_a_journal_that_another_program_holds_is_waited_for(path, browser, monkeypatch, hold):
    monkeypatch.setattr(database, "_TRY_S", 0.05)
    db = Database(path)
    browser.execute(hold)
    timer = threading.Timer(0.4, browser.execute, ["ROLLBACK"])  # several tries long
    timer.start()
    with db.transaction():
        db.write(INSERT, "waited")
    timer.join()
    assert stored(path) == ["waited"]
    db.close()


def test_whoever_waits_is_told_for_what(path, browser, monkeypatch, caplog):
    monkeypatch.setattr(database, "_TRY_S", 0.02)
    monkeypatch.setattr(database, "_SAID_AFTER", 3)
    db = Database(path)
    browser.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.4, browser.execute, ["ROLLBACK"])
    timer.start()
    with db.transaction():
        pass
    timer.join()
    assert [record.message for record in caplog.records] == [
        f"another program holds the journal {path}; waiting for it"
    ]
    db.close()


def test_a_journal_that_is_held_for_too_long_can_be_taken_up_later(path, browser, monkeypatch):
    monkeypatch.setattr(database, "_TRY_S", 0.01)
    monkeypatch.setattr(database, "_TRIES", 3)
    db = Database(path)
    browser.execute("BEGIN IMMEDIATE")
    with pytest.raises(errors.JournalBusy, match="program holds it") as caught, db.transaction():
        db.write(INSERT, "never")
    assert (caught.value.exit_code, caught.value.resumable) == (5, True)
    assert str(path) in caught.value.message
    assert "resume" in caught.value.hint
    browser.execute("ROLLBACK")
    with db.transaction():
        db.write(INSERT, "later")
    assert stored(path) == ["later"]
    db.close()


def test_a_reader_waits_too(path, monkeypatch):
    monkeypatch.setattr(database, "_TRY_S", 0.01)
    monkeypatch.setattr(database, "_TRIES", 3)
    Database(path).close()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode = EXCLUSIVE")
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(errors.JournalBusy):
        Database(path)
    other.close()
    Database(path).close()


def test_a_journal_that_cannot_be_written_now_can_be_taken_up_later(path):
    db = Database(path)
    db.row("PRAGMA query_only = ON")
    with pytest.raises(errors.JournalUnusable, match="readonly") as caught, db.transaction():
        db.write(INSERT, "never")
    assert (caught.value.exit_code, caught.value.resumable) == (5, True)
    assert "resume" in caught.value.hint
    db.close()


def test_a_damaged_journal_is_said_to_be_one_when_it_is_read(path):
    db = Database(path)
    with db.transaction():
        for number in range(200):
            db.write(INSERT, f"run{number}" + "x" * 400)
    db.close()
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (size - 4096))
    with pytest.raises(errors.JournalDamaged) as caught:
        Database(path).rows("SELECT * FROM runs ORDER BY name")
    assert not caught.value.resumable
    assert "backup" in caught.value.hint


HALF = """
    import os, signal, sys
    from pathlib import Path
    from towline.store.database import Database
    db = Database(Path(sys.argv[1]))
    insert = ("INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
              " VALUES (?, ?, '{}', 'p', '/r', 'n', 0)")
    with db.transaction():
        db.write(insert, "whole", "whole")
    with db.transaction():
        for n in range(2000):
            db.write(insert, f"half{n}", f"half{n}" + "x" * 2000)
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_kill_9_inside_a_transaction_leaves_the_journal_whole(path):
    one = child(HALF, path)
    assert one.wait(30) == -signal.SIGKILL
    one.stdin.close()
    one.stdout.close()
    db = Database(path)
    assert [row["id"] for row in db.rows("SELECT id FROM runs")] == ["whole"]
    assert db.row("PRAGMA integrity_check")[0] == "ok"
    db.close()


BUSY = """
    import sys
    from pathlib import Path
    from towline.store.database import Database
    db = Database(Path(sys.argv[1]))
    for n in range(int(sys.argv[2])):
        with db.transaction():
            count = db.row("SELECT count(*) AS n FROM facts")["n"]
            db.write("INSERT INTO facts VALUES ('r', ?, ?)", f"{sys.argv[3]}-{n}", str(count))
    db.close()
"""


def test_writers_of_several_processes_wait_for_each_other(path):
    db = Database(path)
    with db.transaction():
        db.write(
            "INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
            " VALUES ('r', 'r', '{}', 'p', '/r', 'n', 0)"
        )
    children = [child(BUSY, path, 40, n) for n in range(3)]
    assert [one.wait(30) for one in children] == [0] * 3
    for one in children:
        one.stdin.close()
        one.stdout.close()
    seen = sorted(int(row["value_json"]) for row in db.rows("SELECT value_json FROM facts"))
    assert seen == list(range(120))  # each saw all that were committed before it
    db.close()


def test_an_error_inside_a_transaction_writes_nothing(path):
    db = Database(path)

    class Ours(Exception):
        pass

    with pytest.raises(Ours), db.transaction():
        db.write("CREATE TABLE extra (a)")
        raise Ours
    with pytest.raises(StoreError, match="could not be written"), db.transaction():
        db.write("CREATE TABLE extra (a)")
        db.write("INSERT INTO facts VALUES ('no such run', 'k', 'v')")
    with db.transaction():
        db.write("CREATE TABLE extra (a)")
    db.close()


def test_a_full_disk_is_named_with_its_cure(path):
    db = Database(path)
    pages = db.row("PRAGMA page_count")[0]
    db.row(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreError, match="full") as caught, db.transaction():
        db.write("CREATE TABLE extra (a)")
        for _ in range(200):
            db.write("INSERT INTO extra VALUES (?)", "x" * 4000)
    assert caught.value.resumable
    assert "resume" in caught.value.hint
    assert db.rows("SELECT name FROM sqlite_master WHERE name = 'extra'") == []
    db.close()


def test_the_schema_is_packaged_beside_the_code():
    import towline.store

    folder = Path(towline.store.__file__).parent / "schema"
    names = sorted(file.name for file in folder.glob("*.sql"))
    assert names
    assert [name.split("_")[0].split(".")[0].isdigit() for name in names] == [True] * len(names)
