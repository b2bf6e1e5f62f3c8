"""Of a million files those that matter when the model is chosen: by name alone, and in bounds.

What is left out could not have been the model: it is none by its name and belongs to none, or
there are thousands that come before it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable

from towline.core.artifact import order
from towline.core.formats import (
    Artifact,
    FoundFile,
    is_part,
    looseness,
    marks_folder,
    model_folders,
    parents,
)
from towline.core.frameworks import MARKS, is_trainers
from towline.core.globs import matches

MOST_SINGLES = 10_000
_MARKS = re.compile("|".join(fnmatch.translate(mark) for mark in MARKS))


def sieve(files: Iterable[FoundFile], explicit: str | None) -> list[FoundFile]:
    """Keep what `search` needs; ``files`` is gone through twice.

    Args:
        files: All files of a run.
        explicit: The task's `artifacts.model`.
    """
    if explicit is not None:
        wanted = explicit.rstrip("/")
        return list({file.path: file for file in files if _is_named(file.path, wanted)}.values())
    folders = model_folders([file for file in files if marks_folder(file.path)])
    kept: list[FoundFile] = []
    singles = _Best()
    for file in files:
        if file.says or _matters(file.path, folders):
            kept.append(file)
        elif looseness(file.path) is not None:
            singles.offer(file)
    return kept + singles.files()


def _is_named(path: str, wanted: str) -> bool:
    """Whether a file is named, lies in a folder that is, or may be one model with others."""
    return is_part(path) or any(matches(one, wanted) for one in (path, *parents(path)))


def _matters(path: str, folders: Collection[str]) -> bool:
    if is_part(path) or _MARKS.fullmatch(path.rpartition("/")[2]) is not None:
        return True
    if folders and any(folder in folders for folder in parents(path)):
        return True
    return looseness(path) == 0 and is_trainers(path)


class _Best:
    """The best of the files that may be a model each by itself."""

    def __init__(self) -> None:
        self._files: list[FoundFile] = []

    def offer(self, file: FoundFile) -> None:
        """Take one; when there are too many, the worse half goes."""
        self._files.append(file)
        if len(self._files) >= 2 * MOST_SINGLES:
            self._files = self.files()

    def files(self) -> list[FoundFile]:
        """The best, in order."""
        return _first(self._files)


def _first(files: Iterable[FoundFile]) -> list[FoundFile]:
    singles = [Artifact(path=file.path, files=(file,), why="") for file in files]
    return [one.files[0] for one in sorted(singles, key=order)[:MOST_SINGLES]]
