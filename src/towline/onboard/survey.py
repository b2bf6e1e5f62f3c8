"""What a training wrote: list it all, and see what still moves. Changes nothing."""

import errno
import json
import os
import re
import stat
import time

from . import blocks, codecs, safe_files, wire
from .safe_files import Pulse

#: rows travel in frames of about so many bytes of JSON; a block holds more than one too long
_FRAME_BYTES = 512 * 1024
_ROW_BYTES = 60  # of one, beside its name
_ESCAPED = 6  # a byte of a name is so many of JSON at most
_MOST_UNREAD = 100
#: small files that say which checkpoint is the best
_SAYING = ("trainer_state.json", "last_checkpoint")
_SAID_BYTES = 16 << 20
_MOST_SAYING = 200
_SETTLE_STEP_S = 0.05


def survey(request, pipe):
    """List the files below ``roots``, and links to files in the run's folder.

    Out: ROWS frames, each a block of JSON: [[folder below the run's, [[name, size, mtime_ns, mode,
    what it says], ...]], ...], in no order. A link is listed under its own path, with its target's
    figures. Folders behind links are not entered.

    Args:
        request: "roots": absolute folders, all below which is listed; "codecs" that the other side
            can unpack; optional: "flat": folders of which only the files right in them are; "names":
            files that are listed even where their folder can't be; "hints": read what trainers' own
            files say.
        pipe: Gets the frames.

    Returns:
        {"files": how many rows were sent, "unread": [[path, why], ...] of what could not be looked
        into, the first hundred, "unread_count"}.
    """
    rows = _Rows(request, pipe)
    for path in request.get("names", ()):
        rows.take(safe_files.inside(request, path))
    for root in request.get("flat", ()):
        rows.folder(safe_files.inside(request, root))
    for root in request["roots"]:
        waiting = [safe_files.inside(request, root)]
        while waiting:
            waiting += rows.folder(waiting.pop())
    rows.end(hints=request.get("hints", False))
    return {"files": rows.count, "unread": rows.unread, "unread_count": rows.unread_count}


class _Rows:
    """Rows on their way; no more is kept here than a frame's."""

    def __init__(self, request, pipe):
        self.count = 0
        self.unread, self.unread_count = [], 0
        self._request, self._pipe, self._pulse = request, pipe, Pulse(pipe)
        self._run = os.fsencode(request["root"])
        both = [codec for codec in codecs.available() if codec in request["codecs"]]
        self._codec = both[0] if both else "stored"
        self._folders, self._bytes = [], 0
        self._saying = []

    def folder(self, path):
        """List one folder's files; returns the folders in it."""
        inner = []
        try:
            with os.scandir(path) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        inner.append(entry.path)
                    else:
                        self.take(entry.path)
        except OSError as error:
            self._note(path, error)
        return inner

    def take(self, path):
        """List one file, or a link to one in the run's folder."""
        try:
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) and safe_files.is_inside(self._run, path):
                found = os.stat(path)
        except OSError as error:
            self._note(path, error)
            return
        if stat.S_ISREG(found.st_mode):
            folder, _, name = path[len(self._run) + 1 :].rpartition(b"/")
            row = [_text(name), found.st_size, found.st_mtime_ns, found.st_mode & 0o777, ""]
            if row[0] in _SAYING:
                self._saying.append((found.st_mtime_ns, folder, row))
            else:
                self._add(folder, row)

    def end(self, hints):
        """Send what is left, with what trainers say."""
        self._saying.sort(key=lambda one: -one[0])
        for number, (_mtime_ns, folder, row) in enumerate(self._saying):
            if hints and number < _MOST_SAYING:
                text = self._small_text(folder + b"/" + os.fsencode(row[0]))
                row[4] = _best_checkpoint(text) if row[0].endswith(".json") else text[:4096]
            self._add(folder, row)
        self._send()

    def _add(self, folder, row):
        if not self._folders or self._folders[-1][0] != folder:
            self._folders.append((folder, []))
            self._bytes += _ESCAPED * len(folder)
        self._folders[-1][1].append(row)
        self._bytes += _ROW_BYTES + _ESCAPED * (len(row[0]) + len(row[4]))
        self.count += 1
        self._pulse(listed=self.count)
        if self._bytes >= _FRAME_BYTES:
            self._send()

    def _send(self):
        if self._folders:
            value = [[_text(folder), rows] for folder, rows in self._folders]
            raw = json.dumps(value, separators=(",", ":")).encode("ascii")
            self._pipe.send(wire.ROWS, blocks.wrap(raw, self._codec))
        self._folders, self._bytes = [], 0

    def _note(self, path, error):
        """Keep what can't be looked into; what has gone meanwhile, or is a link to nothing, can."""
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return
        self.unread_count += 1
        if len(self.unread) < _MOST_UNREAD:
            self.unread.append([_text(path[len(self._run) + 1 :]), error.strerror])

    def _small_text(self, path):
        """What a small file says, "" when it can't be read."""
        try:
            fd = safe_files.open_regular(os.path.realpath(os.path.join(self._run, path)))
            if fd is None:
                return ""
            with os.fdopen(fd, "rb") as file:
                return file.read(_SAID_BYTES).decode("utf-8", "replace").strip()
        except OSError as error:
            self._note(os.path.join(self._run, path), error)
            return ""


def _best_checkpoint(text):
    try:
        value = json.loads(text).get("best_model_checkpoint")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return value[:4096] if isinstance(value, str) else ""


def _text(path):
    return path.decode("utf-8", "surrogateescape")


# -- what still moves -----------------------------------------------------------------------------


def look(request, pipe):
    """Look at the files ``paths`` (absolute) twice, ``settle_s`` apart.

    Returns:
        {"files": {path: [size, mtime_ns, moving]}}. What is gone is missing. "moving": it changed
        between the looks, or a process has it open for writing.
    """
    pulse = Pulse(pipe)
    paths = {path: safe_files.inside(request, path) for path in request["paths"]}
    before = {path: _figures(raw) for path, raw in paths.items()}
    deadline = time.monotonic() + request["settle_s"]
    while time.monotonic() < deadline:
        time.sleep(_SETTLE_STEP_S)
        pulse(settling=True)
    written = _open_for_writing(request)
    files = {}
    for path, raw in paths.items():
        now = _figures(raw)
        if now is not None:
            files[path] = [now[0], now[1], now != before[path] or now[2] in written]
    return {"files": files}


def _figures(path):
    try:
        found = os.stat(path)
    except OSError:
        return None  # it has gone
    return found.st_size, found.st_mtime_ns, found.st_ino


def _open_for_writing(request):
    """Inodes of files in the run's folder that some process of ours may still write to."""
    run = os.path.realpath(os.fsencode(request["root"])) + b"/"
    found = set()
    try:
        pids = [name for name in os.listdir(b"/proc") if name.isdigit()]
    except OSError:
        return found  # a system without /proc: the two looks must do
    for pid in pids:
        try:
            for number in os.listdir(b"/proc/%s/fd" % pid):
                link = b"/proc/%s/fd/%s" % (pid, number)
                if os.readlink(link).startswith(run) and _writes(pid, number):
                    found.add(os.stat(link).st_ino)
        except OSError:
            continue  # it ended, or it is another user's
    return found


def _writes(pid, number):
    with open(b"/proc/%s/fdinfo/%s" % (pid, number), "rb") as info:
        match = re.search(rb"^flags:\s*([0-7]+)", info.read(), re.MULTILINE)
    return match is not None and int(match.group(1), 8) & os.O_ACCMODE != os.O_RDONLY
