"""What a training wrote: list it, and see what still moves. Changes nothing."""

import json
import os
import re
import stat
import time

from . import safe_files, wire
from .safe_files import Pulse

_MOST_FILES = 200000
_MOST_BYTES = 24 * 1024 * 1024  # of the answer, which is one frame
#: small files that say which checkpoint is the best
_SAYING = ("trainer_state.json", "last_checkpoint")
_SAID_BYTES = 16 << 20
_MOST_SAYING = 200
_SETTLE_STEP_S = 0.05


def survey(request, pipe):
    """List the files below ``roots`` (absolute), and links to files in the run's folder.

    Args:
        request: "roots"; optional: "since_ns": older files are left out; "settle_s": look a second
            time after so long; "hints": read what trainers' own files say.
        pipe: Gets a remark a second.

    Returns:
        {"files": [{"root", "path", "size", "mtime_ns", "mode", "inode", "moving", "says"}],
        "truncated", "unreadable"}: folders that can't be looked into are listed in the last. A
        link is listed under its own path, with its target's figures. Folders behind links are not
        entered. "moving" (only with "settle_s"): it changed between the looks, or a process has it
        open for writing.
    """
    pulse = Pulse(pipe)
    before = None
    if request.get("settle_s"):
        before = {
            (row["root"], row["path"]): _figures(row) for row in _list(request, pulse)["files"]
        }
        _pause(request["settle_s"], pulse)
    answer = _list(request, pulse)
    if before is not None:
        _mark_moving(request, answer["files"], before)
    if request.get("hints"):
        _add_sayings(request, answer["files"])
    return answer


def _list(request, pulse):
    since_ns = request.get("since_ns")
    files, unreadable, size = [], [], 0
    for root in request["roots"]:
        for row in _walk(request, root, unreadable):
            if since_ns is not None and row["mtime_ns"] < since_ns:
                continue
            size += len(ascii(row["path"])) + len(root) + 140
            if len(files) >= _MOST_FILES or size > _MOST_BYTES:
                return {"files": files, "truncated": True, "unreadable": unreadable}
            files.append(row)
            pulse(listed=len(files))
    return {"files": files, "truncated": False, "unreadable": unreadable}


def _walk(request, root, unreadable):
    top = safe_files.inside(request, root)
    run = os.fsencode(request["root"])

    def note(error):
        unreadable.append(_text(error.filename))

    for folder, folders, names in os.walk(top, onerror=note):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            found = _file_at(run, path)
            if found is not None:
                yield {
                    "root": root,
                    "path": _text(path[len(top) + 1 :]),
                    "size": found.st_size,
                    "mtime_ns": found.st_mtime_ns,
                    "mode": stat.S_IMODE(found.st_mode) & 0o777,
                    "inode": found.st_ino,
                }


def _file_at(run, path):
    """The figures of a regular file, or of one in the run's folder that a link leads to."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) and safe_files.is_inside(run, path):
            found = os.stat(path)
    except OSError:
        return None  # gone meanwhile, or a link to nothing
    return found if stat.S_ISREG(found.st_mode) else None


# -- what still moves -----------------------------------------------------------------------------


def _figures(row):
    return row["size"], row["mtime_ns"], row["inode"]


def _pause(seconds, pulse):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        time.sleep(_SETTLE_STEP_S)
        pulse(settling=True)


def _mark_moving(request, rows, before):
    written = _open_for_writing(request)
    for row in rows:
        same = before.get((row["root"], row["path"])) == _figures(row)
        row["moving"] = not same or row["inode"] in written


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


# -- what trainers say ----------------------------------------------------------------------------


def _add_sayings(request, rows):
    saying = [row for row in rows if row["path"].rpartition("/")[2] in _SAYING]
    saying.sort(key=lambda row: -row["mtime_ns"])
    for row in saying[:_MOST_SAYING]:
        text = _small_text(request, "%s/%s" % (row["root"], row["path"]))
        if text is not None:
            row["says"] = _best_checkpoint(text) if row["path"].endswith(".json") else text[:4096]


def _small_text(request, path):
    try:
        fd = safe_files.open_regular(os.path.realpath(safe_files.inside(request, path)))
        if fd is None:
            return None
        with os.fdopen(fd, "rb") as file:
            return file.read(_SAID_BYTES).decode("utf-8", "replace").strip()
    except (OSError, wire.Refusal):
        return None


def _best_checkpoint(text):
    try:
        value = json.loads(text).get("best_model_checkpoint")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return value if isinstance(value, str) else ""


def _text(path):
    return path.decode("utf-8", "surrogateescape")
