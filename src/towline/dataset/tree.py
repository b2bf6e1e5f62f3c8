"""The files of a dataset by what their names say; contents are read only when asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from towline.core.manifest import EntryKind
from towline.transfer.scan import Scan

PICTURES = frozenset((
    ".jpg",
    ".jpeg",
    ".png",
    ".bmp",
    ".gif",
    ".webp",
    ".tif",
    ".tiff",
    ".ppm",
    ".pgm",
))
TABLES = frozenset((".csv", ".tsv"))
_T = TypeVar("_T")
#: names of the three parts of a dataset
SPLITS = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test",)}


class Tree:
    """A dataset that has been listed. Paths are relative to ``root``, with slashes."""

    def __init__(self, scan: Scan) -> None:
        self.root = scan.root
        self.is_file = scan.source.is_file()
        self.sizes: dict[str, int] = {}
        self.folders: set[str] = set()
        manifest = scan.manifest
        for number in range(len(manifest)):
            path = manifest.path(number)
            if manifest.is_file(number):
                self.sizes[path] = manifest.size(number)
                self._add_folders(path.rpartition("/")[0])
            elif manifest[number].kind is EntryKind.DIR:
                self._add_folders(path)
            else:  # a link to another file of the dataset
                self.sizes[path] = 1
                self._add_folders(path.rpartition("/")[0])
        self.pictures = [path for path in self.sizes if suffix(path) in PICTURES]

    def _add_folders(self, folder: str) -> None:
        while folder and folder not in self.folders:
            self.folders.add(folder)
            folder = folder.rpartition("/")[0]

    def named(self, *suffixes: str) -> list[str]:
        """Files with one of these endings."""
        return [path for path in self.sizes if suffix(path) in suffixes]

    def pictures_below(self, folder: str) -> list[str]:
        """Pictures in a folder and in the folders in it."""
        start = f"{folder}/" if folder else ""
        return [path for path in self.pictures if path.startswith(start)]

    def folders_in(self, folder: str) -> list[str]:
        """Names of the folders directly in a folder, but for hidden ones."""
        start = f"{folder}/" if folder else ""
        names = [path[len(start) :] for path in self.folders if path.startswith(start)]
        return sorted(name for name in names if name and "/" not in name and name[0] not in "._")

    def local(self, path: str) -> Path:
        """Where a file lies on this machine."""
        return Path(self.root, *path.split("/"))

    def read(self, path: str, limit: int | None = None) -> bytes:
        """The first bytes of a file; nothing of one that can't be read."""
        try:
            with open(os.path.join(self.root, path), "rb") as file:  # noqa: PTH118, PTH123 - by the thousand
                return file.read() if limit is None else file.read(limit)
        except OSError:
            return b""


def suffix(path: str) -> str:
    """The ending of a path, small letters."""
    name = path.rpartition("/")[2]
    dot = name.rfind(".")
    return name[dot:].lower() if dot > 0 else ""


def sample(things: Sequence[_T], most: int) -> list[_T]:
    """At most so many, spread evenly over all."""
    if len(things) <= most:
        return list(things)
    return [things[number * len(things) // most] for number in range(most)]


def resolve(entry: str, base: str, places: Iterable[str]) -> str | None:
    """Which of the places a path of another machine means: the one its longest end leads to.

    Args:
        entry: The path as it is written.
        base: The folder it is written in.
        places: Folders and files of the dataset.
    """
    known = places if isinstance(places, set | frozenset | dict) else set(places)
    parts = [part for part in entry.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    for start in range(len(parts)):
        end = "/".join(parts[start:])
        for root in dict.fromkeys((base, "")):
            place = f"{root}/{end}" if root else end
            if place in known:
                return place
    return base if not parts else None
