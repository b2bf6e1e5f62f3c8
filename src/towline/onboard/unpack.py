"""The classic ways to take a tree: one ZIP, or file by file; proven like any other.

Both leave files named by their entry numbers in one flat folder, so that no name out of an archive
ever becomes a path; from there they are moved to their places by the manifest.
"""

import os
import shutil
import subprocess
import zipfile

from .fence import control_folder
from .inspect import find_tool
from .receive import Delivery, read_manifest
from .safe_files import KIND, PATH, under
from .wire import Refusal

_UNZIP_LIMIT_S = 600


def unpack(request, pipe):
    """Extract the ZIP at ``zip`` into ``flat``, then as `adopt`; the ZIP is removed either way."""
    archive = under(control_folder(request), request["zip"])
    try:
        os.makedirs(request["flat"], mode=0o700, exist_ok=True)
        _extract(archive, under(control_folder(request), request["flat"]))
    finally:
        if os.path.exists(archive):
            os.unlink(archive)
    return adopt(request, pipe)


def adopt(request, pipe):
    """Move files from the flat folder to their places and prove the whole."""
    delivery = Delivery(request, read_manifest(request, pipe))
    flat = under(control_folder(request), request["flat"])
    for number, row in enumerate(delivery.rows):
        source = os.path.join(flat, "%d" % number)
        if row[KIND] == "f" and os.path.lexists(source):
            delivery.tree.take(source, row[PATH])
    result = delivery.finish(pipe)
    shutil.rmtree(flat)
    return result


def _extract(archive, into):
    program = find_tool("unzip")
    if program is None:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                if not info.filename.isdigit():
                    raise Refusal("path", "refused the archive's member %r" % info.filename)
                opened.extract(info, into)
        return
    argv = [program, "-q", "-o", archive, "-d", into]
    try:
        subprocess.check_output(argv, stderr=subprocess.STDOUT, timeout=_UNZIP_LIMIT_S)
    except subprocess.TimeoutExpired:
        raise Refusal("unzip", "unzip took more than %d s" % _UNZIP_LIMIT_S)
    except subprocess.CalledProcessError as error:
        said = error.output.decode(errors="replace").strip()[-300:]
        full = "No space" in said or "disk full" in said
        raise Refusal("disk_full" if full else "unzip", "unzip failed: %s" % said)
