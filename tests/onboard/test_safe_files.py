"""Hostile manifests: nothing is ever written outside of the run's folder."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.onboard import receive_build, safe_files, wire
from towline.onboard.receive_staging import Staging
from towline.onboard.rows import Rows

X = hashlib.sha256(b"x").hexdigest()


def lines_of(rows):
    return b"".join(json.dumps(row).encode("ascii") + b"\n" for row in rows)


def read(folder, rows, batch=100):
    """Check rows as the receiver does when they come in batches."""
    made = Rows(os.fsencode(folder / "rows"), write=True)
    try:
        for at in range(0, len(rows), batch):
            made.add(lines_of(rows[at : at + batch]))
        for row in list(made):
            if row.kind == "l":
                made.require_inside(row)
    except wire.Refusal:
        made.close()
        raise
    return made


def file(path, **more):
    return list(({"path": path, "kind": "f", "size": 1, "mode": 0o644, "mtime": 0, "sha256": X,
                  "target": ""} | more).values())  # fmt: skip


def folder(path):
    return file(path, kind="d", size=0, mode=0o755, sha256="")


def link(path, target):
    return file(path, kind="l", size=0, mode=0o777, sha256="", target=target)


HOSTILE = {
    "absolute": [file("/etc/x")],
    "parent": [file("../x")],
    "inner parent": [file("a/../../x")],
    "dot": [file("./x")],
    "empty": [file("")],
    "double slash": [file("a//b")],
    "trailing slash": [file("a/")],
    "NUL": [file("a\0b")],
    "no text": [file("\ud800")],
    "number as path": [file(7)],
    "long name": [file("n" * 256)],
    "long path": [file("/".join(["n" * 200] * 20))],
    "deep": [file("/".join(["d"] * 300))],
    "twice": [file("a"), file("a")],
    "out of order": [file("b"), file("a")],
    "below a file": [file("a"), file("a/b")],
    "below a link": [link("a", "b"), file("a/c"), folder("b")],
    "absolute link": [link("a", "/etc")],
    "empty link": [link("a", "")],
    "link out": [link("a", "..")],
    "link out and in": [link("a", "../dataset/b"), file("b")],
    "link out by a link": [
        folder("a"),
        folder("a/b"),
        link("a/b/up", "../.."),
        link("z", "a/b/up/.."),
    ],
    "dangling": [link("a", "b")],
    "loop": [link("a", "b"), link("b", "a")],
    "link with NUL": [link("a", "b\0")],
    "through a file": [file("a"), link("b", "a/c")],
    "setuid": [file("a", mode=0o4755)],
    "negative size": [file("a", size=-1)],
    "true as size": [file("a", size=True)],
    "huge time": [file("a", mtime=10**30)],
    "unknown kind": [file("a", kind="c")],
    "sized folder": [file("a", kind="d")],
    "no hash": [file("a", sha256="")],
    "hash that is a path": [file("a", sha256="../" * 21 + "x")],
    "short row": [["a", "f"]],
    "no row": ["a"],
    "nested": [json.loads("[" * 500 + "]" * 500)],
}


@pytest.mark.parametrize("batch", [1, 100])
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_manifests_are_refused(tmp_path, name, batch):
    with pytest.raises(wire.Refusal) as caught:
        read(tmp_path, HOSTILE[name], batch)
    assert caught.value.body["kind"] == "refused"


@pytest.mark.parametrize("batch", [1, 100])
def test_harmless_oddities_are_accepted(tmp_path, batch):
    rows = [
        folder("a"), link("a/up", ".."), link("a/z", "../z\n"), file("b\\c"), link("l", "a/up/a/./z"), file("z\n"),
    ]  # fmt: skip
    made = read(tmp_path, rows, batch)
    assert [row.path.decode() for row in made] == [row[0] for row in rows]
    made.close()


@pytest.mark.parametrize("name", ["", "..", "a/b", ".towline", "/x", "a\0", "a" * 65, "ä"])
def test_only_plain_names_are_delivered_to(tmp_path, name):
    request = {"root": str(tmp_path), "name": name, "manifest_sha256": "0" * 64}
    with pytest.raises(wire.Refusal, match="no name"):
        Staging(request, lambda **_figures: None)


parts = st.sampled_from(["a", "b", "c", "..", ".", "", "l", "etc"])
names = st.lists(parts, min_size=1, max_size=4).map("/".join)
rows = st.lists(
    st.one_of(
        names.map(file),
        names.map(folder),
        st.builds(link, names, st.one_of(names, names.map(lambda name: "/" + name))),
    ),
    min_size=1,
    max_size=7,
    unique_by=lambda row: row[0],
).map(sorted)


@settings(max_examples=300, deadline=None)
@given(rows=rows)
def test_nothing_is_written_outside_whatever_the_manifest_says(tmp_path_factory, rows):
    top = tmp_path_factory.mktemp("far")
    root = top / "towline" / "run"
    root.mkdir(parents=True)
    request = {"root": str(root), "name": "dataset"}
    staging = Staging(request, lambda **_figures: None)
    try:
        staging.open(0, 0)
        for number, row in staging.rows.add(lines_of(rows)):
            staging.missing(number, row, None)
        Path(os.fsdecode(staging.object(X))).write_bytes(b"x")
        receive_build.build(staging, staging.rows.digest())
    except wire.Refusal:
        assert not (root / "dataset").exists()
    else:
        assert (root / "dataset").is_dir()
    finally:
        os.close(staging._lock)
    assert {path.name for path in top.iterdir()} == {"towline"}
    assert {path.name for path in root.iterdir()} <= {".towline", "dataset"}
    for path in (root / "dataset").rglob("*"):
        assert path.resolve(strict=True).is_relative_to(root / "dataset")


def test_a_tree_is_never_entered_through_a_link(tmp_path):
    (tmp_path / "tree").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tree" / "a").symlink_to(tmp_path / "elsewhere")
    folders = safe_files.Folders(os.fsencode(tmp_path), b"tree")
    with pytest.raises(OSError, match="a"):
        folders.open((b"a",))
    folders.close()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_read_only_folders_are_removed_and_links_not_followed(tmp_path):
    keep = tmp_path / "keep"
    keep.write_text("x")
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    (tree / "d" / "f").write_text("x")
    (tree / "link").symlink_to(tmp_path)
    (tree / "d").chmod(0o500)
    safe_files.remove_tree(os.fsencode(tree))
    assert not tree.exists()
    assert keep.exists()
