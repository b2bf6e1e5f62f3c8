"""The staging area: killed at any point it leaves the old state or the new one, and loses nothing."""

import contextlib
import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest

from towline.onboard import daemon, receive, receive_lock, receive_staging, safe_files, wire
from towline.onboard.receive_staging import Staging

CONTENTS = [random.Random(n).randbytes(2000 + n) for n in range(3)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Box:
    """A run's folder, and one upload to it after the other."""

    def __init__(self, root):
        self.root = root
        self.final = root / "dataset"
        self._open = []

    def staging(self, rows):
        lines = "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")
        digest = hashlib.sha256(lines).hexdigest()
        request = {"root": str(self.root), "name": "dataset", "manifest_sha256": digest}
        self.close()
        staging = Staging(request, lambda **_figures: None)
        self._open.append(staging._lock)
        return staging, [safe_files.Row(row) for row in rows]

    def close(self):
        while self._open:
            os.close(self._open.pop())

    def deliver(self, rows):
        """Deliver as `receive` does; returns how many contents had to be sent."""
        staging, checked = self.staging(rows)
        if staging.is_delivered(checked):
            return 0
        wanted = staging.missing(checked)
        for number in wanted:
            content = next(c for c in CONTENTS if sha(c) == checked[number].sha256)
            Path(os.fsdecode(staging.object(sha(content)))).write_bytes(content)
        staging.finish(checked)
        return len(wanted)

    def holds(self, rows):
        """Say whether the final folder is exactly this tree."""
        files = {row[0]: row[5] for row in rows if row[1] == "f"}
        found = {
            path.relative_to(self.final).as_posix(): sha(path.read_bytes())
            for path in self.final.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        return found == files


def sha(content):
    return hashlib.sha256(content).hexdigest()


def file(path, number):
    return [path, "f", len(CONTENTS[number]), 0o644, 10**18, sha(CONTENTS[number]), ""]


OLD = [file("a", 0), file("old", 1)]
NEW = [
    file("a", 2), ["d", "d", 0, 0o755, 0, "", ""], file("d/b", 1), file("d/c", 1),
    ["empty", "f", 0, 0o600, 0, sha(b""), ""], ["l", "l", 0, 0o777, 0, "", "d/b"],
]  # fmt: skip


@pytest.fixture
def box(tmp_path):
    made = Box(tmp_path)
    yield made
    made.close()


class Killer:
    """Kills at the n-th call of any of some functions of `os`."""

    NAMES = ("rename", "utime", "symlink", "fsync", "unlink", "rmdir", "mkdir", "open", "truncate")

    def __init__(self, patch, at):
        self.left = at
        for name in self.NAMES:
            patch.setattr(os, name, self._wrapped(getattr(os, name)))

    def _wrapped(self, whole):
        def call(*args, **kwargs):
            self.left -= 1
            if self.left == 0:
                raise Killed
            return whole(*args, **kwargs)

        return call


def test_killed_at_any_point_it_leaves_the_old_tree_or_the_new_one(tmp_path, monkeypatch):
    at = 0
    killed = True
    while killed:
        at += 1
        box = Box(tmp_path / str(at))
        box.root.mkdir()
        box.deliver(OLD)
        with monkeypatch.context() as patch:
            killer = Killer(patch, at)
            with contextlib.suppress(Killed):
                box.deliver(NEW)
            killed = killer.left <= 0
        assert not box.final.exists() or box.holds(OLD) or box.holds(NEW)
        assert box.deliver(NEW) <= 2
        assert box.holds(NEW)
        assert os.readlink(box.final / "l") == "d/b"
        assert os.listdir(box.root / ".towline" / "incoming") == ["dataset.lock"]
        box.close()
    assert at > 40


def test_a_build_that_was_cut_short_needs_nothing_again(box, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(receive_staging.os, "symlink", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            box.deliver(NEW)
    assert not box.final.exists()
    assert box.deliver(NEW) == 0
    assert box.holds(NEW)


def test_an_inode_number_that_is_used_again_proves_nothing(box, monkeypatch):
    box.deliver(NEW)
    shutil.rmtree(box.final)
    monkeypatch.setattr(
        receive_staging, "_inode", lambda path: 7 if os.path.lexists(path) else None
    )
    record = box.root / ".towline" / "delivered-dataset.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"inode": 7}))
    with monkeypatch.context() as patch:
        patch.setattr(receive_staging.os, "symlink", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            box.deliver(NEW)
    assert box.deliver(NEW) == 0  # not taken for delivered, and nothing is sent again
    assert box.holds(NEW)


def test_contents_of_an_earlier_manifest_are_used_or_removed(box):
    staging, rows = box.staging(OLD)
    staging.missing(rows)
    for content in CONTENTS[:2]:
        Path(os.fsdecode(staging.object(sha(content)))).write_bytes(content)
    staging, rows = box.staging(NEW)
    assert staging.missing(rows) == {0: 0}
    assert set(os.listdir(staging.objects)) == {sha(CONTENTS[1]).encode()}


def test_a_beginning_is_cut_to_a_round_size(box, monkeypatch):
    monkeypatch.setattr(receive_staging, "_ROUND_BYTES", 512)
    staging, rows = box.staging([file("a", 0)])
    staging.missing(rows)
    path = Path(os.fsdecode(staging.object(sha(CONTENTS[0]))))
    for there, kept in [(100, 0), (512, 512), (1999, 1536), (5000, 0)]:
        path.write_bytes(bytes(there))
        assert staging.missing(rows) == {0: kept}
        assert (path.stat().st_size if path.exists() else 0) == kept
    path.write_bytes(bytes(1999))
    assert staging.missing(rows, whole=True) == {0: 0}


def test_runs_of_wanted_files_are_said_shortly():
    wanted = dict.fromkeys([0, 1, 2, 5, 7, 8], 0) | {3: 65536}
    assert receive.answer(complete=False, wanted=wanted) == {
        "complete": False, "want": [[0, 3], [5, 1], [7, 2]], "partial": [[3, 65536]]
    }  # fmt: skip


def test_records_that_were_not_asked_for_are_refused(box):
    staging, rows = box.staging([file("a", 0), file("b", 1)])
    staging.missing(rows)
    data = CONTENTS[0]
    for records in (
        [(9, 0, data)],
        [(0, 100, data)],
        [(0, 0, data + b"more")],
        [(0, 0, data[:10]), (0, 5, data[5:])],
        [(1, 0, data)],
        [(0, 0, data), (0, 0, data)],
    ):
        writer = receive._Writer(rows, staging, {0: 0})
        with pytest.raises(wire.Refusal) as caught:
            for number, offset, part in records:
                writer.write(number, offset, memoryview(part))
        assert caught.value.body["kind"] == "garbled"
        writer.close()
        staging.missing([])  # forget what was written


def test_a_stranger_with_the_same_pid_is_not_ended(tmp_path):
    receive_lock._end(json.dumps([[1, -5], [os.getpid(), daemon.born(os.getpid())]]).encode())
    receive_lock._end(b"")
    receive_lock._end(b"half a na")
