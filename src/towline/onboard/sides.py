"""Read the files in which a training reports its metrics, while it writes them.

A file that grows is read from where the reader stands; a check sum of what was read before tells
whether it is still the same file. One that is written anew each time is read whole once it stands
still. Links are not followed, and how much is read has bounds.
"""

import base64
import fnmatch
import os
import stat
import time
import zlib

_BLOCK = 256 * 1024
_LARGEST_WHOLE = 8 * 1024 * 1024
_LARGEST = 64 * 1024 * 1024
_MOST_FILES = 100
_MOST_ENTRIES = 50000
_DEEPEST = 12
_MARK = 1024
_SEARCH_EVERY_S = 2.0
_NOT_INSIDE = ("__pycache__", "node_modules", "site-packages", "venv", "env", "wandb")


class Sides:
    """The side files of one run.

    Args:
        root: The run's folder; paths are relative to it.
        roots: Folders to search.
        names: [pattern, whole] pairs; the pattern is one of file names.
        since: UTC seconds; what was last written before is not the training's.
        known: By path, the "offset" and "mark" that earlier frames ended with.
    """

    def __init__(self, root, roots, names, since, known):
        self._root = root
        self._roots = roots
        self._names = names
        self._since = since
        self._at = {path: (row["offset"], row["mark"]) for path, row in known.items()}
        self._paths = {}
        self._seen = {}
        self._restless = {}
        self._left = set()
        self._search_at = 0.0

    def changes(self, *, final=False):
        """Yield a frame for each piece that is new; with ``final``, everything that is left."""
        now = time.monotonic()
        if final or now >= self._search_at:
            self._search()
            took = time.monotonic() - now
            self._search_at = now + max(_SEARCH_EVERY_S, 20 * took)  # a huge tree costs little
        for path, whole in sorted(self._paths.items()):
            try:
                for frame in self._of_file(path, whole, final):
                    yield frame
            except (IOError, OSError):
                continue  # it went, or can't be read: the next look decides

    def _of_file(self, path, whole, final):
        full = os.path.join(self._root, path)
        while True:
            found = os.lstat(full)
            look = (found.st_ino, found.st_size, found.st_mtime)
            if self._seen.get(path) == look or not stat.S_ISREG(found.st_mode):
                return
            if whole and not final and self._restless.get(path) != look:
                self._restless[path] = look  # it may be half written
                return
            if found.st_size > (_LARGEST_WHOLE if whole else _LARGEST):
                self._seen[path] = look
                frame = self._refused(path, found.st_size)
            else:
                frame = self._all(path, full) if whole else self._more(path, full)
                if whole or frame is None or frame["end"] >= found.st_size:
                    self._seen[path] = look
            if frame is not None:
                yield dict(frame, at=found.st_mtime)
            if not final:
                return

    def _refused(self, path, size):
        if path in self._left:
            return None
        self._left.add(path)
        return {"side_left": path, "size_bytes": size}

    def _all(self, path, full):
        with open(full, "rb") as file:
            data = file.read(_LARGEST_WHOLE)
        mark = zlib.crc32(data) & 0xFFFFFFFF
        if self._at.get(path) == (len(data), mark):
            return None
        return self._frame(path, data, 0, len(data), mark)

    def _more(self, path, full):
        offset, mark = self._at.get(path, (0, None))
        with open(full, "rb") as file:
            if offset and _mark(file, offset) != mark:
                offset = 0
            file.seek(offset)
            data = file.read(_BLOCK)
            end = offset + len(data)
            if not data and (offset or path not in self._at):
                return None
            return self._frame(path, data, offset, end, _mark(file, end))

    def _frame(self, path, data, offset, end, mark):
        self._at[path] = (end, mark)
        text = base64.b64encode(data).decode("ascii")
        return {"side": path, "offset": offset, "end": end, "mark": mark, "data": text}

    def _search(self):
        """Look through the folders, the outer ones first, as far as the bounds allow."""
        waiting = [(root, 0) for root in self._roots]
        entries = 0
        for folder, depth in waiting:  # it grows meanwhile
            try:
                found = list(os.scandir(folder))
            except OSError:
                continue
            entries += len(found)
            if entries > _MOST_ENTRIES:
                return
            for entry in found:
                if self._is_folder(entry):
                    if depth < _DEEPEST:
                        waiting.append((entry.path, depth + 1))
                else:
                    self._consider(entry)

    def _is_folder(self, entry):
        if entry.name[0] == "." or entry.name in _NOT_INSIDE:
            return False
        try:
            return entry.is_dir(follow_symlinks=False)
        except OSError:
            return False

    def _consider(self, entry):
        for pattern, whole in self._names:
            if fnmatch.fnmatchcase(entry.name, pattern):
                path = os.path.relpath(entry.path, self._root)
                if path not in self._paths and len(self._paths) < _MOST_FILES and _is_text(path):
                    self._take_note(path, entry, whole)
                return

    def _take_note(self, path, entry, whole):
        try:
            found = entry.stat(follow_symlinks=False)
        except OSError:
            return  # it went meanwhile
        if stat.S_ISREG(found.st_mode) and found.st_mtime >= self._since:
            self._paths[path] = whole


def _is_text(path):
    """Whether a path can be named in a journal: one that is no Unicode can't."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _mark(file, end):
    """A check sum of a file's beginning and of what lies before ``end``."""
    file.seek(0)
    head = file.read(min(_MARK, end))
    file.seek(max(0, end - _MARK))
    return zlib.crc32(file.read(min(_MARK, end)), zlib.crc32(head)) & 0xFFFFFFFF
