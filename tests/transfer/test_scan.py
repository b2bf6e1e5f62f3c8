"""What is sent, what stays at home, and what is said about it."""

import os
import socket
import stat

import pytest
import trees
from hypothesis import given, settings

from towline.core.manifest import EntryKind
from towline.errors import SourceChanged, SpecError
from towline.transfer import scan as scan_module
from towline.transfer.scan import rescan, scan

LEFT_OUT = {
    ".git/config": ".git", ".hg/x": ".hg", ".svn/x": ".svn", "src/__pycache__/a.pyc": "src/__pycache__",
    "b.pyc": "b.pyc", ".venv/x": ".venv", "venv/x": "venv", ".mypy_cache/x": ".mypy_cache",
    ".pytest_cache/x": ".pytest_cache", ".ruff_cache/x": ".ruff_cache",
    "nb/.ipynb_checkpoints/x": "nb/.ipynb_checkpoints", ".DS_Store": ".DS_Store", "d/Thumbs.db": "d/Thumbs.db",
    ".env": ".env", ".env.local": ".env.local", "node_modules/m/x": "node_modules", ".tox/x": ".tox",
    "myenv/pyvenv.cfg": "myenv",
}  # fmt: skip


def make(root, *files, text="x"):
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def sent(found):
    return {e.path for e in found.manifest.entries if e.kind is not EntryKind.DIR}


def skipped(found):
    return {one.path: one.why for one in found.skipped}


@pytest.mark.parametrize("file", LEFT_OUT)
def test_what_is_never_wanted_is_left_out_and_listed_once(tmp_path, file):
    found = scan(make(tmp_path, "keep.txt", file, file + ".more" if "/" in file else "keep2"))
    assert LEFT_OUT[file] in skipped(found)
    assert not any(path.startswith(LEFT_OUT[file] + "/") for path in skipped(found))
    assert file not in sent(found)
    assert "keep.txt" in sent(found)


def test_an_ignore_file_leaves_out_and_brings_back(tmp_path):
    make(
        tmp_path, "a.tmp", "keep.tmp", ".env", "logs/x", "logs/keep", "only/a", "sub/b.raw", "sub/c"
    )
    (tmp_path / ".towlineignore").write_text(
        "# mine\n\n*.tmp\n!keep.tmp\n!.env\nlogs/**\n!logs/keep\n"
    )
    (tmp_path / "sub" / ".towlineignore").write_text("*.raw\n")
    found = scan(tmp_path)
    assert sent(found) == {
        ".towlineignore", "keep.tmp", ".env", "logs/keep", "only/a", "sub/c", "sub/.towlineignore"
    }  # fmt: skip
    assert skipped(found) == {
        "a.tmp": ".towlineignore: *.tmp",
        "logs/x": ".towlineignore: logs/**",
        "sub/b.raw": "sub/.towlineignore: *.raw",
    }


def test_a_default_folder_comes_back_whole(tmp_path):
    make(tmp_path, "venv/a", "venv/pyvenv.cfg", "x")
    (tmp_path / ".towlineignore").write_text("!venv\n")
    assert {"venv/a", "venv/pyvenv.cfg"} <= sent(scan(tmp_path))


def test_data_is_never_dropped_because_of_gitignore(tmp_path):
    make(tmp_path, "data.bin")
    (tmp_path / ".gitignore").write_text("*\n")
    assert sent(scan(tmp_path)) == {"data.bin", ".gitignore"}


def test_an_ignore_file_that_is_no_text_is_an_error(tmp_path):
    (make(tmp_path, "a") / ".towlineignore").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SpecError, match=r"\.towlineignore can't be read"):
        scan(tmp_path)


def test_links_inside_are_kept_and_others_listed(tmp_path):
    root = make(tmp_path / "r", "d/file", "venv/x")
    make(tmp_path, "outside")
    for name, target in {
        "in": "d/file", "d/up": "../d/file", "folder": "d", "chain": "in", "root": "d/..",
        "out": "../outside", "back": "../r/d/file", "abs": str(root / "d/file"), "none": "nothing",
        "loop": "loop", "left": "venv/x", "through": "d/up/x", "far": "d/../../outside",
    }.items():  # fmt: skip
        (root / name).symlink_to(target)
    found = scan(root)
    kept = {e.path: e.target for e in found.manifest.entries if e.kind is EntryKind.LINK}
    assert kept == {
        "in": "d/file", "d/up": "../d/file", "folder": "d", "chain": "in", "root": "d/.."
    }  # fmt: skip
    why = skipped(found)
    assert {name for name, text in why.items() if "leads out" in text} == {
        "out",
        "back",
        "abs",
        "far",
    }
    assert {name for name, text in why.items() if "nothing" in text} == {
        "none", "loop", "left", "through"
    }  # fmt: skip


def test_pipes_and_sockets_are_listed(tmp_path):
    make(tmp_path, "a")
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(tmp_path / "sock"))
        assert skipped(scan(tmp_path)) == {"pipe": "named pipe", "sock": "socket"}


def test_empty_folders_hard_links_and_modes_are_kept(tmp_path):
    make(tmp_path, "a")
    (tmp_path / "empty").mkdir(mode=0o550)
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "a").chmod(0o4755)
    entries = {e.path: e for e in scan(tmp_path).manifest.entries}
    assert entries["empty"].mode == 0o750  # its owner can always write in it
    assert entries["a"].mode == entries["b"].mode == 0o755  # setuid never travels
    assert entries["a"].sha256 == entries["b"].sha256


def test_a_single_file_is_one_entry_even_if_its_name_is_left_out_elsewhere(tmp_path):
    make(tmp_path, ".env", "other")
    found = scan(tmp_path / ".env")
    assert [e.path for e in found.manifest.entries] == [".env"]
    assert found.root == tmp_path


def test_excluded_paths_are_no_part_of_it_and_not_listed(tmp_path):
    make(tmp_path, "code.py", "runs/old/model", "data/x")
    found = scan(tmp_path, exclude=[tmp_path / "runs", tmp_path / "data" / "."])
    assert sent(found) == {"code.py"}
    assert not found.skipped


def test_missing_empty_and_odd_sources_are_errors(tmp_path):
    with pytest.raises(SpecError, match="No such file"):
        scan(tmp_path / "none")
    with pytest.raises(SpecError, match="no files to send"):
        scan(tmp_path)
    make(tmp_path, ".env")
    with pytest.raises(SpecError) as caught:
        scan(tmp_path)
    assert "may hold secrets" in caught.value.hint
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="neither a folder nor a file"):
        scan(tmp_path / "pipe")


@pytest.mark.parametrize("hash_files", [True, False])
@pytest.mark.parametrize("locked", ["folder", "folder/file"])
def test_what_is_unreadable_is_an_error_that_says_what_to_do(tmp_path, hash_files, locked):
    make(tmp_path, "folder/file")
    (tmp_path / locked).chmod(0)
    if os.access(tmp_path / locked, os.R_OK):
        pytest.skip("this user reads everything")
    try:
        with pytest.raises(SpecError, match=locked) as caught:
            scan(tmp_path, hash_files=hash_files)
    finally:
        (tmp_path / locked).chmod(0o700)
    assert "chmod" in caught.value.hint
    assert ".towlineignore" in caught.value.hint


def test_an_unreadable_file_is_an_error_for_root_too(tmp_path, monkeypatch):
    make(tmp_path, "a", "b")

    def refuse(local, path, hash_files):
        raise PermissionError(13, "Permission denied", str(local))

    monkeypatch.setattr(scan_module, "_read_entry", refuse)
    with pytest.raises(SpecError, match=r"[ab] can't be read: Permission denied"):
        scan(tmp_path)


def test_a_file_that_changes_while_it_is_hashed_is_hashed_again(tmp_path, monkeypatch):
    make(tmp_path, "a")
    changes = iter([True, True, False])
    whole = os.fstat

    def fstat(fd):
        status = whole(fd)
        if stat.S_ISREG(status.st_mode) and next(changes, False):
            with (tmp_path / "a").open("a") as file:
                file.write("more")
        return status

    monkeypatch.setattr(scan_module.os, "fstat", fstat)
    assert scan(tmp_path).manifest.size_bytes == (tmp_path / "a").stat().st_size


def test_a_file_that_changes_all_the_time_is_an_error(tmp_path, monkeypatch):
    make(tmp_path, "a")
    whole = os.fstat

    def fstat(fd):
        with (tmp_path / "a").open("a") as file:
            file.write("more")
        return whole(fd)

    monkeypatch.setattr(scan_module.os, "fstat", fstat)
    with pytest.raises(SourceChanged, match="keeps changing"):
        scan(tmp_path)


def test_without_hashing_everything_else_is_the_same(tmp_path):
    make(tmp_path, "a", "d/b")
    quick, whole = scan(tmp_path, hash_files=False), scan(tmp_path)
    assert sent(quick) == sent(whole)
    assert quick.manifest.size_bytes == whole.manifest.size_bytes
    assert {e.sha256 for e in quick.manifest.entries} == {""}


def test_rescan_reads_one_file_anew(tmp_path):
    before = scan(make(tmp_path, "a", "b"))
    make(tmp_path, "a", "b", text="new")
    after = rescan(before, "a")
    old, new = ({e.path: e.sha256 for e in s.manifest.entries} for s in (before, after))
    assert old["a"] != new["a"]
    assert old["b"] == new["b"]


def test_very_deep_folders_are_read(tmp_path):
    deep = tmp_path
    for _ in range(400):
        deep = deep / "d"
        deep.mkdir()
    (deep / "f").write_text("x")
    assert scan(tmp_path).manifest.file_count == 1


@settings(max_examples=40, deadline=None)
@given(tree=trees.trees, links=trees.links)
def test_any_tree_is_read_whole(tmp_path_factory, tree, links):
    root = tmp_path_factory.mktemp("tree")
    trees.write(root, tree)
    trees.add_links(root, links)
    found = scan(root)
    there = {os.fsdecode(path) for path in trees.paths(root)}
    listed = [entry.path for entry in found.manifest.entries] + [one.path for one in found.skipped]
    assert sorted(listed) == sorted(there)
