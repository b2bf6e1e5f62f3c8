"""What is sent, what stays at home, and what is said about it."""

import os
import socket

import pytest
import trees
from hypothesis import given, settings

from towline.core.manifest import EntryKind, path_bytes
from towline.errors import SpecError
from towline.transfer.scan import scan

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
    return {e.path for e in found.manifest if e.kind is not EntryKind.DIR}


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
    kept = {e.path: e.target for e in found.manifest if e.kind is EntryKind.LINK}
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
    entries = {e.path: e for e in scan(tmp_path).manifest}
    assert entries["empty"].mode == 0o750  # its owner can always write in it
    assert entries["a"].mode == entries["b"].mode == 0o755  # setuid never travels
    assert {e.sha256 for e in entries.values()} == {""}  # nothing is read yet


def test_a_single_file_is_one_entry_even_if_its_name_is_left_out_elsewhere(tmp_path):
    make(tmp_path, ".env", "other")
    found = scan(tmp_path / ".env")
    assert [e.path for e in found.manifest] == [".env"]
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


@pytest.mark.parametrize("locked", ["folder", "folder/file"])
def test_what_is_unreadable_is_an_error_that_says_what_to_do(tmp_path, locked):
    make(tmp_path, "folder/file")
    (tmp_path / locked).chmod(0)
    if os.access(tmp_path / locked, os.R_OK):
        pytest.skip("this user reads everything")
    try:
        with pytest.raises(SpecError, match=locked) as caught:
            scan(tmp_path)
    finally:
        (tmp_path / locked).chmod(0o700)
    assert "chmod" in caught.value.hint
    assert ".towlineignore" in caught.value.hint


def test_an_unreadable_file_is_an_error_for_root_too(tmp_path, monkeypatch):
    make(tmp_path, "a", "b")
    monkeypatch.setattr(os, "access", lambda local, how: not local.endswith("b"))
    with pytest.raises(SpecError, match=r"b can't be read: Permission denied"):
        scan(tmp_path)


def test_entries_come_in_the_order_of_their_paths_bytes(tmp_path):
    make(tmp_path, "a/x", "a.txt", "a-b", "a0", "b/c/d", "b.c", "é", "z")
    paths = [path_bytes(entry.path) for entry in scan(tmp_path).manifest]
    assert paths == sorted(paths)
    assert len(paths) == 11


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
    listed = [entry.path for entry in found.manifest] + [one.path for one in found.skipped]
    assert sorted(listed) == sorted(there)
    paths = [path_bytes(entry.path) for entry in found.manifest]
    assert paths == sorted(paths)
