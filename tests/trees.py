"""Trees of files for transfer tests: made to order, made by hypothesis, and compared."""

import os
import random
import stat
from pathlib import Path

from hypothesis import strategies as st

ODD_NAMES = [
    b"new\nline", b"tab\there", b"-rf", b"~", b" space ", b"dot.", b"...", b"quote'\"`", b"back\\slash",
    b"$(id)", b"*?[a]", b"\xff\xfe", b"caf\xc3\xa9", b"cafe\xcc\x81", b"A", b"a", b"CON", b"a:b", b"\x1b[31m",
    b"\xe2\x80\xaegpj.exe", b"n" * 255, b".hidden",
]  # fmt: skip

names = st.one_of(
    st.sampled_from(ODD_NAMES),
    st.binary(min_size=1, max_size=6).filter(
        lambda name: b"/" not in name and b"\0" not in name and name not in {b".", b".."}
    ),
)
small = st.binary(max_size=200)
large = st.builds(
    lambda seed, size, dull: bytes(size) if dull else random.Random(seed).randbytes(size),
    st.integers(0, 3),
    st.sampled_from([65536, 1024 * 1024, 1024 * 1024 + 1, 2_500_000]),
    st.booleans(),
)
files = st.tuples(
    st.one_of(small, small, small, large), st.sampled_from([0o644, 0o755, 0o600, 0o444])
)
folders = st.recursive(
    st.dictionaries(names, files, max_size=4),
    lambda inner: st.dictionaries(names, st.one_of(files, inner), max_size=4),
    max_leaves=8,
)
trees = folders.map(lambda tree: tree | {b"one file at least": (b"x", 0o644)})
links = st.lists(
    st.tuples(
        st.integers(0, 20), st.integers(0, 20), st.sampled_from(["in", "out", "none", "abs"])
    ),
    max_size=3,
)


def write(folder, tree):
    """Make a tree of {name: (content, mode) or tree}."""
    os.makedirs(os.fsencode(folder), exist_ok=True)
    for name, node in tree.items():
        path = os.path.join(os.fsencode(folder), name)
        if isinstance(node, dict):
            write(path, node)
        else:
            with open(path, "wb") as file:
                file.write(node[0])
            os.chmod(path, node[1])
            os.utime(path, ns=(10**18, 10**18 + 123456789))


def add_links(folder, wanted):
    """Put links into a tree: to something in it, out of it, to nothing, or absolute."""
    folder = os.fsencode(folder)
    places = sorted(paths(folder))
    below = [b"", *(place for place in places if os.path.isdir(os.path.join(folder, place)))]
    for number, (where, to, kind) in enumerate(wanted):
        at = os.path.join(folder, below[where % len(below)], b"link%d" % number)
        inside = os.path.join(folder, places[to % len(places)])
        target = {
            "in": os.path.relpath(inside, os.path.dirname(at)),
            "out": b"../" * 30 + b"etc/passwd",
            "none": b"not there",
            "abs": inside,
        }[kind]
        os.symlink(target, at)


def paths(folder):
    """All relative paths below a folder, as bytes."""
    folder = os.fsencode(folder)
    for at, folders, names in os.walk(folder):
        for name in folders + names:
            yield os.path.relpath(os.path.join(at, name), folder)


def look(folder):
    """Everything below a folder that is to arrive: {path: (kind, ...)}."""
    found = {}
    for path in paths(folder):
        full = os.path.join(os.fsencode(folder), path)
        status = os.lstat(full)
        mode = stat.S_IMODE(status.st_mode)
        if stat.S_ISLNK(status.st_mode):
            found[path] = ("link", os.readlink(full))
        elif stat.S_ISDIR(status.st_mode):
            found[path] = ("folder", mode)
        else:
            found[path] = ("file", mode, status.st_mtime_ns, Path(os.fsdecode(full)).read_bytes())
    return found
