"""The staging area: killed at any point it leaves the old state or the new one, and loses nothing."""

import contextlib
import hashlib
import json
import os
import random
import shutil
import struct
from pathlib import Path

import pytest

from towline.onboard import (
    blocks,
    daemon,
    receive_build,
    receive_lock,
    receive_staging,
    receive_write,
    wire,
)
from towline.onboard.receive_staging import Staging
from towline.onboard.receive_verify import Verifier
from towline.onboard.receive_write import Writer
from towline.onboard.rows import Seen

CONTENTS = [random.Random(n).randbytes(2000 + n) for n in range(3)]


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


class Box:
    """A run's folder, and one upload to it after the other."""

    def __init__(self, root):
        self.root = root
        self.final = root / "dataset"
        self._open = []

    def staging(self):
        self.close()
        request = {"root": str(self.root), "name": "dataset"}
        staging = Staging(request, lambda **_figures: None)
        self._open.append(staging._lock)
        return staging

    def close(self):
        while self._open:
            os.close(self._open.pop())

    def missing(self, rows, *, whole=False):
        """A staging area with these rows: (it, the gaps by number, what is to be hashed)."""
        staging = self.staging()
        staging.open(sum(row[2] for row in rows), len(rows))
        staging.rows.keep(0)
        doubted = []
        gaps = {}
        for number, row in staging.rows.add(lines(rows)):
            found = staging.missing(
                number, row, lambda path, r: doubted.append(r.sha256), whole=whole
            )
            if found:
                gaps[number] = found
        return staging, gaps, doubted

    def deliver(self, rows):
        """Deliver as `receive` does; returns how many contents had to be sent."""
        staging = self.staging()
        digest = hashlib.sha256(lines(rows)).hexdigest()
        if staging.delivered() == digest and staging.stands(digest):
            staging.clear()
            return 0
        staging, gaps, doubted = self.missing(rows)
        verifier = Verifier()
        for number, row in enumerate(staging.rows):
            if row.sha256 in doubted:
                verifier.whole(staging.object(row.sha256), row)
            if number in gaps:
                content = next(c for c in CONTENTS if sha(c) == row.sha256)
                assert gaps[number] == [[0, len(content)]]
                writer = Writer(staging.rows, staging.folder)
                writer.take(block((number, 0, content)))
                writer.close()
        receive_build.drop_bad(staging, verifier.finish(staging.pulse))
        receive_build.build(staging, digest)
        return len(gaps)

    def holds(self, rows):
        """Say whether the final folder is exactly this tree."""
        files = {row[0]: row[5] for row in rows if row[1] == "f"}
        found = {
            path.relative_to(self.final).as_posix(): sha(path.read_bytes())
            for path in self.final.rglob("*")
            if path.is_file() and not path.is_symlink()
        }
        return found == files


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode("ascii")


def block(*records):
    raw = b"".join(blocks.record(n, offset, len(data)) + data for n, offset, data in records)
    return blocks.wrap(raw, "stored")


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

    NAMES = (
        "rename",
        "utime",
        "symlink",
        "fsync",
        "unlink",
        "rmdir",
        "mkdir",
        "open",
        "link",
        "ftruncate",
        "pwrite",
    )

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
        left = set(os.listdir(box.root / ".towline" / "incoming"))
        assert left == {"dataset.lock", "dataset.token", "dataset.takers"}
        control = sorted(os.listdir(box.root / ".towline"))
        assert len(control) == 4  # the folder above, the record, the lines and their index
        box.close()
    assert at > 40


def test_a_build_that_was_cut_short_needs_nothing_again(box, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(receive_build.os, "symlink", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            box.deliver(NEW)
    assert not box.final.exists()
    assert box.deliver(NEW) == 0
    assert box.holds(NEW)


def test_an_inode_number_that_is_used_again_proves_nothing(box, monkeypatch):
    box.deliver(NEW)
    shutil.rmtree(box.final)
    monkeypatch.setattr(receive_staging, "inode", lambda path: 7 if os.path.lexists(path) else None)
    record = box.root / ".towline" / "delivered-dataset.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"inode": 7}))
    with monkeypatch.context() as patch:
        patch.setattr(receive_build.os, "symlink", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            box.deliver(NEW)
    assert box.deliver(NEW) == 0  # not taken for delivered, and nothing is sent again
    assert box.holds(NEW)


def put(staging, content, ranges=()):
    Path(os.fsdecode(staging.object(sha(content)))).write_bytes(content)
    if ranges:
        journal = staging.folder + b"/ranges/" + sha(content).encode()
        Path(os.fsdecode(journal)).write_bytes(b"".join(struct.pack(">QQ", *r) for r in ranges))


def test_contents_of_an_earlier_manifest_are_used_and_hashed_again(box):
    staging, gaps, _doubted = box.missing(OLD)
    assert gaps == {0: [[0, 2000]], 1: [[0, 2001]]}
    put(staging, CONTENTS[0])
    put(staging, CONTENTS[1])
    _staging, gaps, doubted = box.missing(NEW)
    assert gaps == {0: [[0, 2002]]}
    assert doubted == [sha(CONTENTS[1])]


def test_files_that_did_not_change_since_the_last_delivery_are_not_sent(box):
    box.deliver(OLD)
    moved = [file("a", 0), file("b", 1), file("old", 2)]
    staging, gaps, doubted = box.missing(moved)
    assert gaps == {1: [[0, 2001]], 2: [[0, 2002]]}  # what has another name is sent
    assert not doubted
    put(staging, CONTENTS[1])
    put(staging, CONTENTS[2])
    receive_build.build(staging, staging.rows.digest())
    assert box.holds(moved)


def test_a_delivered_file_that_was_touched_since_is_sent_again(box):
    box.deliver(OLD)
    (box.final / "a").write_bytes(b"other")
    _staging, gaps, _doubted = box.missing([file("a", 0), file("b", 0), file("old", 1)])
    assert gaps == {0: [[0, 2000]]}


def test_a_new_mode_does_not_reach_the_old_tree(box):
    box.deliver(OLD)
    changed = [[*OLD[0][:3], 0o600, *OLD[0][4:]], OLD[1]]
    staging, gaps, _doubted = box.missing(changed)
    assert not gaps
    receive_build.build(staging, staging.rows.digest())
    assert (box.final / "a").stat().st_mode & 0o777 == 0o600


def test_what_came_in_ranges_is_known_by_its_journal(box):
    staging, _gaps, _doubted = box.missing(OLD)
    for ranges, gaps in [
        ([(0, 100)], [[100, 2000]]),
        ([(500, 700), (0, 100)], [[100, 500], [700, 2000]]),
        ([(1000, 2000), (0, 600), (500, 1000)], []),
        ([(0, 2000)], []),
    ]:
        put(staging, CONTENTS[0], ranges)
        staging, found, doubted = box.missing(OLD)
        assert found.get(0, []) == gaps
        assert doubted == ([] if gaps else [sha(CONTENTS[0])])
    put(staging, CONTENTS[0], [(0, 100)])
    _staging, found, _doubted = box.missing(OLD, whole=True)
    assert found[0] == [[0, 2000]]


def test_a_content_of_another_size_without_a_journal_is_dropped(box):
    staging, _gaps, _doubted = box.missing(OLD)
    for size in (100, 5000):
        path = Path(os.fsdecode(staging.object(sha(CONTENTS[0]))))
        path.write_bytes(bytes(size))
        staging, gaps, _doubted = box.missing(OLD)
        assert gaps[0] == [[0, 2000]]
        assert not path.exists()


def test_records_that_do_not_fit_are_refused(box):
    staging, _gaps, _doubted = box.missing([file("a", 0), file("b", 1)])
    data = CONTENTS[0]
    for kind, records in [
        ("garbled", [(9, 0, data)]),
        ("garbled", [(0, 100, data)]),
        ("garbled", [(0, 0, data + b"more")]),
        ("garbled", [(0, 0, data[:10]), (0, 5, data)]),
        ("checksum", [(1, 0, data + b"x")]),
        ("checksum", [(0, 0, data[::-1])]),
    ]:
        writer = Writer(staging.rows, staging.folder)
        with pytest.raises(wire.Refusal) as caught:
            writer.take(block(*records))
        assert caught.value.body["kind"] == kind
        writer.close()


def test_a_block_that_comes_twice_is_written_once(box):
    staging, _gaps, _doubted = box.missing(OLD)
    writer = Writer(staging.rows, staging.folder)
    for _ in range(2):
        writer.take(block((0, 0, CONTENTS[0]), (1, 0, CONTENTS[1][:900])))
    writer.take(block((1, 900, CONTENTS[1][900:])))
    writer.close()
    receive_build.build(staging, staging.rows.digest())
    assert box.holds(OLD)


def test_a_file_cut_short_by_a_kill_is_written_anew(box):
    staging, _gaps, _doubted = box.missing(OLD)
    Path(os.fsdecode(staging.object(sha(CONTENTS[0])))).write_bytes(CONTENTS[0][:7])
    writer = Writer(staging.rows, staging.folder)
    writer.take(block((0, 0, CONTENTS[0])))
    assert Path(os.fsdecode(staging.object(sha(CONTENTS[0])))).read_bytes() == CONTENTS[0]


def test_a_disk_that_had_room_and_fills_up_is_said_to_have(box, monkeypatch):
    staging, _gaps, _doubted = box.missing(OLD)

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(receive_write.os, "pwrite", full)
    with pytest.raises(wire.Refusal) as caught:
        Writer(staging.rows, staging.folder).take(block((0, 0, CONTENTS[0])))
    assert caught.value.body["kind"] == "disk_filled"


def test_contents_that_are_not_what_they_should_be_are_found(box):
    staging, _gaps, _doubted = box.missing(OLD)
    put(staging, CONTENTS[0])
    path = Path(os.fsdecode(staging.object(sha(CONTENTS[1]))))
    path.write_bytes(CONTENTS[1][:-1] + b"!")
    verifier = Verifier()
    rows = list(staging.rows)
    verifier.follow(staging.object(rows[1].sha256), rows[1], 1000)
    verifier.whole(staging.object(rows[0].sha256), rows[0])
    verifier.whole(staging.object(rows[1].sha256), rows[1])
    bad = verifier.finish(staging.pulse)
    assert bad == [rows[1].sha256]
    with pytest.raises(wire.Refusal, match="1 file did not arrive whole"):
        receive_build.drop_bad(staging, bad)
    assert not os.path.lexists(staging.object(rows[1].sha256))


def test_a_content_that_is_never_complete_is_not_taken_for_whole(box):
    staging, _gaps, _doubted = box.missing(OLD)
    put(staging, CONTENTS[0])
    verifier = Verifier()
    row = staging.rows[0]
    verifier.follow(staging.object(row.sha256), row, 1999)
    assert verifier.finish(staging.pulse) == [row.sha256]


def test_who_comes_late_may_not_take_part(box):
    base = str(box.root / ".towline" / "incoming" / "dataset")
    old = box.staging().token
    os.close(receive_lock.join(base, old))
    new = box.staging().token
    with pytest.raises(wire.Refusal) as caught:
        receive_lock.join(base, old)
    assert caught.value.body["kind"] == "busy"
    os.close(receive_lock.join(base, new))


def test_a_million_contents_are_told_apart_in_little_memory():
    seen = Seen()
    hashes = [sha(b"%d" % n) for n in range(20_000)]
    assert all(seen.add(one) for one in hashes)
    assert not any(seen.add(one) for one in hashes)
    assert len(seen._slots) * 8 < 40 * len(hashes)


def test_a_stranger_with_the_same_pid_is_not_ended(tmp_path):
    named = [[1, -5], [os.getpid(), daemon.born(os.getpid())]]
    receive_lock._end(b"".join(json.dumps(one).encode() + b"\n" for one in named))
    receive_lock._end(b"")
    receive_lock._end(b"half a na")
