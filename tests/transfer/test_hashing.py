"""Hashes: never of other content, and nothing unchanged is read twice."""

import asyncio
import hashlib
import os
import sqlite3
import stat

import pytest
import trees
from hypothesis import given, settings

from towline.errors import SourceChanged
from towline.transfer import hash_cache, hashing
from towline.transfer.hash_cache import HashCache
from towline.transfer.hashing import Hashing, hashed, rehash
from towline.transfer.scan import scan


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(hash_cache, "_GRAIN_NS", 0)  # files made just now are kept too
    return HashCache(tmp_path / "hashes.db")


@pytest.fixture
def source(tmp_path):
    root = tmp_path / "source"
    (root / "d").mkdir(parents=True)
    for name in ("a", "b", "d/c", "d/e"):
        (root / name).write_text(name * 10)
    (root / "large").write_bytes(b"x" * 200_000)
    return root


def hashes(root, cache=None, keep=None):
    """Hash a tree: its hashes by path, and how many files were read."""
    found = scan(root)
    read = []
    whole = hashing._read

    def counted(local, path):
        read.append(path)
        return whole(local, path)

    hashing._read = counted
    try:
        ends = list(hashed(found, cache, keep))
    finally:
        hashing._read = whole
    assert ends == sorted(ends)
    assert ends[-1] == len(found.manifest)
    return {e.path: e.sha256 for e in found.manifest if e.sha256}, sorted(read)


def true(root):
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in root.rglob("*")
        if path.is_file()
    }


def test_every_file_is_hashed_and_small_ones_are_kept(source):
    kept = {}
    assert hashes(source, keep=kept.__setitem__)[0] == true(source)
    assert sorted(kept.values()) == sorted(n.encode() * 10 for n in ("a", "b", "d/c", "d/e"))


def test_what_did_not_change_is_not_read_again(source, cache):
    assert len(hashes(source, cache)[1]) == 5
    assert hashes(source, cache) == (true(source), [])
    (source / "d" / "c").write_text("other")
    (source / "d" / "new").write_text("new")
    (source / "b").unlink()
    assert hashes(source, cache) == (true(source), ["d/c", "d/new"])
    assert hashes(source, cache) == (true(source), [])


def test_the_same_size_and_time_do_not_hide_a_change(source, cache):
    before = (source / "a").stat()
    hashes(source, cache)
    (source / "a").write_text("z" * 10)
    os.utime(source / "a", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert hashes(source, cache) == (true(source), ["a"])
    (source / "new").write_text("y" * 10)
    os.utime(source / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
    (source / "new").replace(source / "a")
    assert hashes(source, cache)[0] == true(source)


def test_a_file_that_changed_just_now_is_not_trusted(source, tmp_path):
    cache = HashCache(tmp_path / "hashes.db")
    hashes(source, cache)
    assert len(hashes(source, cache)[1]) == 5  # their times are no older than the clock's grain


def test_rows_of_files_that_are_gone_are_dropped(source, cache):
    hashes(source, cache)
    for name in ("a", "large"):
        (source / name).unlink()
    hashes(source, cache)
    with sqlite3.connect(cache._path) as database:
        assert database.execute("SELECT count(*) FROM file").fetchone() == (3,)


def test_roots_do_not_mix_and_old_ones_are_forgotten(source, cache, tmp_path, monkeypatch):
    other = tmp_path / "other"
    other.mkdir()
    (other / "a").write_text("of the other")
    for root in (source, other, source, other):
        assert hashes(root, cache)[0] == true(root)
    now = hash_cache.time.time()
    monkeypatch.setattr(hash_cache.time, "time", lambda: now + 91 * 86400)
    hashes(other, cache)
    monkeypatch.undo()
    assert len(hashes(source, cache)[1]) == 5


@pytest.mark.parametrize("damage", ["garbage", "folder", "locked", "half"])
def test_a_cache_that_can_not_be_used_is_no_error(source, cache, damage):
    hashes(source, cache)
    if damage == "garbage":
        cache._path.write_bytes(b"no database" * 100)
    elif damage == "half":
        cache._path.write_bytes(cache._path.read_bytes()[:5000])
    elif damage == "folder":
        cache._path.unlink()
        cache._path.mkdir()
    else:
        database = sqlite3.connect(cache._path)
        database.execute("BEGIN EXCLUSIVE")
    assert hashes(source, cache)[0] == true(source)
    if damage == "locked":
        database.close()
    assert hashes(source, cache)[0] == true(source)


def test_the_cache_is_its_owners_alone(source, cache):
    hashes(source, cache)
    assert stat.S_IMODE(cache._path.stat().st_mode) == 0o600


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(source, monkeypatch):
    changes = iter([True, True, False])
    whole = os.fstat

    def fstat(fd):
        status = whole(fd)
        if status.st_size == 200_000 and next(changes, False):
            with (source / "large").open("ab") as file:
                file.write(b"more")
        return status

    monkeypatch.setattr(hashing.os, "fstat", fstat)
    assert hashes(source)[0] == true(source)


def test_a_file_that_changes_all_the_time_is_an_error(source, monkeypatch):
    whole = os.fstat

    def fstat(fd):
        with (source / "a").open("a") as file:
            file.write("more")
        return whole(fd)

    monkeypatch.setattr(hashing.os, "fstat", fstat)
    with pytest.raises(SourceChanged, match="keeps changing"):
        hashes(source)


def test_a_changed_file_takes_its_new_figures(source):
    found = scan(source)
    (source / "a").write_text("longer than it was before")
    list(hashed(found))
    assert found.manifest[0].size_bytes == 25
    (source / "a").write_text("new")
    rehash(found, 0)
    assert found.manifest[0].sha256 == hashlib.sha256(b"new").hexdigest()
    assert found.manifest == _again(source)


def _again(root):
    found = scan(root)
    list(hashed(found))
    return found.manifest


def test_a_file_that_went_away_is_an_error(source):
    found = scan(source)
    (source / "d" / "c").unlink()
    with pytest.raises(SourceChanged, match="went away"):
        list(hashed(found))


def test_hashes_come_when_they_are_asked_for(source, monkeypatch):
    monkeypatch.setattr(hashing, "_BATCH_ROWS", 1)
    found = scan(source)

    async def ask():
        made = Hashing(found, None)
        assert await made.beyond(0) >= 1
        waiting = asyncio.create_task(made.beyond(4))
        await asyncio.sleep(0)
        waiting.cancel()  # whoever waits may be ended; the work goes on
        await asyncio.gather(waiting, return_exceptions=True)
        await made.all()
        assert await made.beyond(len(found.manifest) - 1) == len(found.manifest)
        await made.close()

    asyncio.run(ask())
    assert all(found.manifest.has_hash(n) for n in range(len(found.manifest)))


@settings(max_examples=25, deadline=None)
@given(tree=trees.trees)
def test_any_tree_is_known_again_whole(tmp_path_factory, tree):
    folder = tmp_path_factory.mktemp("hashing")
    root = folder / "root"
    trees.write(root, tree)
    cache = HashCache(folder / "hashes.db")
    grain, hash_cache._GRAIN_NS = hash_cache._GRAIN_NS, 0
    try:
        first, _read = hashes(root, cache)
        assert hashes(root, cache) == (first, [])
    finally:
        hash_cache._GRAIN_NS = grain
