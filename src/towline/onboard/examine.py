"""Look into what may be the model: is it whole, and was it uploaded? Changes nothing."""

import json
import os
import re
import stat

from . import integrity, safe_files
from .fence import control_folder
from .safe_files import Pulse

_DELIVERED = re.compile(r"delivered-[A-Za-z0-9_-]+\.[0-9a-f]{16}\Z")


def examine(request, pipe):
    """Check the files ``paths`` (absolute), and find those that came with the upload.

    Returns:
        {"checks": {path: [verdict, format, why]}, "uploaded": {path: name of the upload},
        "unread": [path, ...]}. A path is in "uploaded" when a file of the same content was
        delivered, whatever its name and time are now; in "unread" when it can't be read. A file
        that is gone is in none.
    """
    pulse = Pulse(pipe)
    checks, sizes, unread = {}, {}, []
    for path in request["paths"]:
        try:
            real = os.path.realpath(safe_files.inside(request, path))
            if not stat.S_ISREG(os.lstat(real).st_mode):
                continue
            checks[path] = integrity.check(real)
            sizes[path] = os.lstat(real).st_size
        except FileNotFoundError:
            continue
        except OSError as error:
            checks[path] = [integrity.DAMAGED, "", "it can't be read: %s" % error.strerror]
            unread.append(path)
        pulse(examined=len(checks))
    return {"checks": checks, "uploaded": _uploaded(request, sizes, pulse), "unread": unread}


def _uploaded(request, sizes, pulse):
    """Of files that are as large as one that was delivered, those of the same hash."""
    delivered = _delivered(request, {size for size in sizes.values() if size})
    found = {}
    for path, size in sizes.items():
        if size in delivered:
            real = os.path.realpath(safe_files.inside(request, path))
            sha256 = safe_files.hash_file(real, pulse)[0]
            if sha256 in delivered[size]:
                found[path] = delivered[size][sha256]
    return found


def _delivered(request, sizes):
    """{size: {sha256: path of the upload}} of delivered files with one of these sizes."""
    found = {}
    if not sizes:
        return found
    marks = re.compile(b'"f",(?:%s),' % b"|".join(b"%d" % size for size in sorted(sizes)))
    control = control_folder(request)
    for name in os.listdir(control):
        if not _DELIVERED.match(name):
            continue
        upload = name[len("delivered-") : name.rindex(".")]
        with open(os.path.join(control, name), "rb") as lines:
            for line in lines:
                if marks.search(line):
                    row = safe_files.Row(json.loads(line.decode("ascii")))
                    if row.size in sizes:
                        kept = found.setdefault(row.size, {})
                        kept[row.sha256] = "%s/%s" % (
                            upload,
                            row.path.decode("utf-8", "surrogateescape"),
                        )
    return found
