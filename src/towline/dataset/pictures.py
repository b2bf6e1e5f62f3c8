"""Is a picture's file whole? Judged by its first and last bytes; nothing is decoded."""

from __future__ import annotations

import os
from collections.abc import Callable

from towline.dataset.report import Report
from towline.dataset.tree import Tree, sample

MOST = 4000  # pictures that are opened
_HEAD = 64
_TAIL = 65_536  # some cameras and editors append their own data
_POINTER = b"version https://git-lfs"


def check_pictures(tree: Tree, report: Report) -> None:
    """Look at the heads and ends of pictures; empty files are found among all of them."""
    empty = [path for path in tree.pictures if not tree.sizes[path]]
    for path in empty:
        report.warn_few("empty pictures", "the file is empty", path)
    full = [path for path in tree.pictures if tree.sizes[path]]
    looked = sample(full, MOST)
    broken = pointers = 0
    for path in looked:
        wrong = _wrong(tree, path)
        if wrong is not None:
            broken += 1
            pointers += wrong == _LFS
            report.warn_few("broken pictures", wrong, path)
    if len(looked) < len(full):
        report.notes.append(f"looked into {len(looked):,} of {len(full):,} pictures")
    if tree.pictures and (not looked or broken == len(looked)):
        hint = "`git lfs pull` fetches them" if pointers else "check how they were copied"
        report.refuse("none of the pictures that were looked at is whole", hint)


_LFS = "it is a Git LFS pointer, not a picture"


def _wrong(tree: Tree, path: str) -> str | None:
    """What is wrong with one picture's file; None for nothing."""
    try:
        with open(os.path.join(tree.root, path), "rb") as file:  # noqa: PTH118, PTH123 - by the thousand
            size = os.fstat(file.fileno()).st_size
            head = file.read(_HEAD)
            file.seek(max(0, size - 512))
            tail = file.read()
            found = judge(head, tail, size)
            if found == _CUT and size > len(tail):
                file.seek(max(0, size - _TAIL))
                found = judge(head, file.read(), size)
            return found
    except OSError as error:
        return f"it can't be read: {error.strerror}"


_CUT = "the picture is cut off"


def judge(head: bytes, tail: bytes, size: int) -> str | None:
    """What is wrong with a picture of this head, end and size; None for nothing."""
    if head.startswith(_POINTER):
        return _LFS
    for magic, is_whole in _KINDS.items():
        if head.startswith(magic):
            return None if is_whole(head, tail, size) else _CUT
    if head[:2] in {b"P2", b"P3", b"P5", b"P6"}:
        return None
    start = head[:16].decode("latin-1").strip()
    what = f"it begins with {start!r}" if start.isprintable() and start else "unknown first bytes"
    return f"it is no picture ({what})"


def _number(raw: bytes) -> int:
    return int.from_bytes(raw, "little")


_KINDS: dict[bytes, Callable[[bytes, bytes, int], bool]] = {
    b"\xff\xd8\xff": lambda _head, tail, size: size > 100 and b"\xff\xd9" in tail,  # noqa: PLR2004
    b"\x89PNG\r\n\x1a\n": lambda head, tail, _size: head[12:16] == b"IHDR" and b"IEND" in tail,
    b"GIF87a": lambda _head, tail, _size: b"\x3b" in tail[-16:],
    b"GIF89a": lambda _head, tail, _size: b"\x3b" in tail[-16:],
    b"BM": lambda head, _tail, size: size >= _number(head[10:14]) and size >= _number(head[2:6]),
    b"RIFF": lambda head, _tail, size: head[8:12] == b"WEBP" and size >= _number(head[4:8]) + 8,
    b"II*\0": lambda head, _tail, size: size > _number(head[4:8]),
    b"MM\0*": lambda head, _tail, size: size > int.from_bytes(head[4:8], "big"),
    b"II+\0": lambda _head, _tail, size: size > 16,  # noqa: PLR2004
}
