"""Promise 3: one digest names the whole tree, whatever its paths are made of."""

import dataclasses
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.manifest import Entry, EntryKind, Manifest, path_bytes, shown

paths = (
    st
    .binary(min_size=1, max_size=20)
    .filter(lambda raw: all(raw.split(b"/")))
    .map(lambda raw: raw.decode("utf-8", "surrogateescape"))
)
hexes = st.binary(min_size=32, max_size=32).filter(any).map(bytes.hex)
entries = st.builds(
    Entry,
    path=paths,
    kind=st.sampled_from(EntryKind),
    size_bytes=st.integers(0, 2**50),
    mode=st.integers(0, 0o777),
    mtime_ns=st.integers(-(2**62), 2**62),
    sha256=hexes | st.just(""),
    target=paths | st.just(""),
)
trees = st.lists(entries, max_size=8, unique_by=lambda entry: entry.path)


@given(trees, st.randoms(use_true_random=False))
def test_the_order_of_reading_changes_nothing(tree, rng):
    mixed = list(tree)
    rng.shuffle(mixed)
    assert Manifest.of(mixed) == Manifest.of(tree)
    assert Manifest.of(mixed).digest() == Manifest.of(tree).digest()


@given(trees)
def test_entries_are_sorted_as_the_far_side_sorts_bytes(tree):
    found = [path_bytes(entry.path) for entry in Manifest.of(tree)]
    assert found == sorted(found)


@given(trees)
def test_the_canonical_lines_read_back_to_the_same_entries(tree):
    manifest = Manifest.of(tree)
    lines = list(manifest.lines())
    rows = [json.loads(line) for line in lines]
    keys = ("path", "kind", "size_bytes", "mode", "mtime_ns", "sha256", "target")
    again = [Entry(**dict(zip(keys, row, strict=True))) for row in rows]
    assert (
        Manifest.of(Entry(**(dataclasses.asdict(e) | {"kind": EntryKind(e.kind)})) for e in again)
        == manifest
    )
    assert all(line.isascii() and line.count(b"\n") == 1 and line[-1:] == b"\n" for line in lines)
    assert list(manifest.lines(len(tree) // 2)) == lines[len(tree) // 2 :]
    assert list(manifest.lines(0, len(tree) // 2)) == lines[: len(tree) // 2]
    compact = [json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in rows]
    assert lines == compact  # there is one way to write them


CHANGES = {
    "path": "\udcff other\n",
    "kind": EntryKind.LINK,
    "size_bytes": 2**51,
    "mode": 0o1000,
    "mtime_ns": 2**62 + 1,
    "sha256": "f" * 64,
    "target": "elsewhere",
}


@pytest.mark.parametrize("key", CHANGES)
@settings(max_examples=30)
@given(st.lists(entries, min_size=1, max_size=5, unique_by=lambda e: e.path), st.data())
def test_a_change_of_any_one_field_changes_the_digest(key, tree, data):
    at = data.draw(st.integers(0, len(tree) - 1))
    if getattr(tree[at], key) == CHANGES[key]:
        return
    changed = list(tree)
    changed[at] = dataclasses.replace(tree[at], **{key: CHANGES[key]})
    assert Manifest.of(changed).digest() != Manifest.of(tree).digest()


@given(trees)
def test_columns_give_back_what_they_were_given(tree):
    manifest = Manifest.of(tree)
    ordered = sorted(tree, key=lambda entry: path_bytes(entry.path))
    assert list(manifest) == ordered
    assert [manifest[number] for number in range(len(manifest))] == ordered
    for number, entry in enumerate(ordered):
        assert manifest.path(number) == entry.path
        assert manifest.size(number) == entry.size_bytes
        assert manifest.is_file(number) == (entry.kind is EntryKind.FILE)
        assert manifest.has_hash(number) == (entry.kind is not EntryKind.FILE or entry.sha256 != "")
        assert manifest.find(entry.path) == number
    assert manifest.find("no such path") is None
    for number in (-1, len(manifest)):
        with pytest.raises(IndexError):
            manifest[number]


@given(st.lists(entries, min_size=1, max_size=5, unique_by=lambda e: e.path), st.data())
def test_a_file_that_changed_is_replaced(tree, data):
    manifest = Manifest.of(tree)
    number = data.draw(st.integers(0, len(tree) - 1))
    fresh = dataclasses.replace(manifest[number], size_bytes=7, mtime_ns=3, sha256="a" * 64)
    manifest.replace(number, fresh)
    assert manifest == Manifest.of(list(manifest)[:number] + [fresh] + list(manifest)[number + 1 :])
    assert manifest.size_bytes == Manifest.of(manifest).size_bytes
    manifest.set_hash(number, "b" * 64)
    assert manifest[number] == dataclasses.replace(fresh, sha256="b" * 64)


def test_a_missing_entry_changes_the_digest():
    tree = [Entry(path=f"a/{n}", kind=EntryKind.FILE, sha256="11" * 32) for n in range(50)]
    whole = Manifest.of(tree)
    for _ in range(10):
        fewer = Manifest.of(random.Random(1).sample(tree, 49))
        assert fewer.digest() != whole.digest()


def test_sizes_and_counts_are_those_of_files():
    manifest = Manifest.of([
        Entry(path="d", kind=EntryKind.DIR),
        Entry(path="d/a", kind=EntryKind.FILE, size_bytes=3),
        Entry(path="d/b", kind=EntryKind.FILE, size_bytes=4),
        Entry(path="l", kind=EntryKind.LINK, target="d/a"),
    ])
    assert (manifest.size_bytes, manifest.file_count) == (7, 2)
    assert list(Manifest.of([]).lines()) == []


@given(st.binary(max_size=40))
def test_every_path_keeps_its_bytes(raw):
    assert path_bytes(raw.decode("utf-8", "surrogateescape")) == raw


@given(paths | st.text())
def test_a_shown_path_can_be_printed_anywhere(path):
    text = shown(path)
    assert text.isprintable()
    assert text.encode("utf-8").decode() == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("a b/ümlaut.png", "a b/ümlaut.png"),
        ("line\nbreak", "line\\nbreak"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("evil\u202egnp.exe", "evil\\u202egnp.exe"),
        ("\udcff", "\\udcff"),
    ],
)
def test_what_could_fool_a_terminal_is_escaped(path, text):
    assert shown(path) == text
