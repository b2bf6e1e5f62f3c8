"""The classic ways of an upload: one archive, or file by file. Verified like any other."""

import os
import shutil
import subprocess
import time
import zipfile

from . import safe_files
from .fence import control_folder
from .inspect import find_tool
from .receive import answer, summary
from .receive_staging import Staging
from .safe_files import Pulse
from .wire import Refusal

_LIMIT_S = 600.0


def adopt(request, pipe):
    """Take an upload whose contents were put into the staging area as files.

    In: the manifest's frames and END. Asked with "finish" false it makes the staging area ready
    and returns what is missing: see `receive.answer`, with "folder" added: each wanted content is
    to be put there, named by its SHA-256. Asked with "finish" true it verifies and puts in place.

    Raises:
        Refusal: As `receive`.
    """
    rows = safe_files.read_manifest(request, pipe)
    staging = Staging(request, Pulse(pipe))
    if staging.is_delivered(rows):
        return dict(answer(True, {}), **summary(rows, request))
    if request["finish"]:
        staging.finish(rows)
        return summary(rows, request)
    wanted = staging.missing(rows, whole=True)
    staging.require_room(rows, wanted)
    return dict(answer(False, wanted), folder=os.fsdecode(staging.objects))


def unpack(request, pipe):
    """Take an upload that came as `.towline/upload-NAME.zip`; the archive is removed in any case.

    Only contents are taken from the archive. Names, modes and links are the manifest's, so the
    names inside do not matter.

    Raises:
        Refusal: As `receive`; "unpack" when the archive can't be extracted within ten minutes.
    """
    rows = safe_files.read_manifest(request, pipe)
    pulse = Pulse(pipe)
    staging = Staging(request, pulse)
    control = control_folder(request)
    archive = os.path.join(control, "upload-%s.zip" % request["name"])
    try:
        if not staging.is_delivered(rows):
            staging.require_room(rows, staging.missing(rows, whole=True))
            unpacked = os.path.join(os.fsdecode(staging.folder), "unpacked")
            safe_files.remove_tree(unpacked)
            os.mkdir(unpacked, 0o700)
            _extract(archive, unpacked, staging, pulse)
            staging.salvage(os.fsencode(unpacked), rows)
            staging.finish(rows)
    finally:
        safe_files.remove_tree(archive)
    return summary(rows, request)


def _extract(archive, folder, staging, pulse):
    """Extract by `unzip` where it is, else by Python."""
    _check_names(archive)
    program = find_tool("unzip")
    if program is None:
        _extract_by_python(archive, folder, pulse)
        return
    argv = [program, "-q", "-o", archive, "-d", folder]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        staging.note_helper(process.pid)
        _wait(process, pulse)
    finally:
        if process.poll() is None:
            process.kill()
        said = process.communicate()[1]
    if process.returncode != 0:
        reason = said.decode(errors="replace").strip()[-300:]
        raise Refusal("unpack", "unzip ended with status %d: %s" % (process.returncode, reason))


def _wait(process, pulse):
    deadline = time.monotonic() + _LIMIT_S
    while process.poll() is None:
        _require_time(deadline)
        pulse(unpacking=True)
        time.sleep(0.02)


def _extract_by_python(archive, folder, pulse):
    deadline = time.monotonic() + _LIMIT_S
    with zipfile.ZipFile(archive) as opened:
        for number, info in enumerate(opened.infolist()):
            # numbered, so that no name in the archive matters
            with opened.open(info) as source, open(os.path.join(folder, str(number)), "xb") as to:
                shutil.copyfileobj(source, to, safe_files.BLOCK)
            _require_time(deadline)
            pulse(unpacking=True)


def _require_time(deadline):
    if time.monotonic() > deadline:
        raise Refusal("unpack", "extracting took longer than %d s" % _LIMIT_S)


def _check_names(archive):
    """Refuse an archive whose names or links could lead out of the folder."""
    try:
        with zipfile.ZipFile(archive) as opened:
            for info in opened.infolist():
                safe_files.components(info.filename)
                if info.external_attr >> 16 & 0o170000 not in (0, 0o100000):
                    raise Refusal("refused", "the archive holds something that is no file")
    except (zipfile.BadZipFile, FileNotFoundError) as error:
        raise Refusal("unpack", "the archive did not arrive whole: %s" % error) from error
