"""The classic ways of an upload: one archive, or file by file. Verified like any other."""

import os
import shutil
import subprocess
import time
import zipfile

from . import blocks, receive_build, safe_files, wire
from .fence import control_folder
from .inspect import find_tool
from .receive import summary
from .receive_staging import Staging
from .receive_verify import Verifier
from .safe_files import Pulse
from .wire import Refusal

_LIMIT_S = 600.0


def adopt(request, pipe):
    """Take an upload whose contents were put into the staging area as files.

    In: the manifest's lines in DATA frames, each a block, and END. Asked with "finish" false it
    makes the staging area ready and returns {"complete", "want", "folder"}: the numbers of the
    entries whose contents are to be put into the folder, each named by its SHA-256. Asked with
    "finish" true it verifies and puts in place.

    Raises:
        Refusal: As `receive`.
    """
    staging = _opened(request, pipe)
    digest = request["manifest_sha256"]
    if staging.rows is None:
        return dict(summary(staging, digest), complete=True)
    if request["finish"]:
        _finish(staging, digest)
        return summary(staging, digest)
    wanted = _missing(staging, lambda _path, _row: None)
    return {"complete": False, "want": wanted, "folder": os.fsdecode(staging.objects)}


def _opened(request, pipe):
    """The staging area with the manifest's lines; without `rows` when all is delivered already."""
    staging = Staging(request, Pulse(pipe))
    digest = request["manifest_sha256"]
    if staging.delivered() == digest and staging.stands(digest):
        for _payload in data_frames(pipe):
            pass  # whoever writes much must be read
        return staging
    staging.open(request["total_bytes"], request["entries"])
    staging.rows.keep(0)
    for payload in data_frames(pipe):
        staging.rows.add(blocks.unwrap(payload))
    if staging.rows.digest() != digest:
        raise Refusal("checksum", "the manifest arrived damaged")
    return staging


def data_frames(pipe):
    """Yield the payloads of DATA frames up to END.

    Raises:
        Refusal: "garbled": another frame came.
    """
    while True:
        kind, payload = pipe.read()
        if kind == wire.END:
            return
        if kind != wire.DATA:
            raise Refusal("garbled", "a frame of kind %r is not expected here" % kind)
        yield payload


def _missing(staging, verify):
    """Numbers of the entries whose contents are wanted whole."""
    return [
        number
        for number, row in enumerate(staging.rows)
        if staging.missing(number, row, verify, whole=True)
    ]


def _finish(staging, digest):
    verifier = Verifier()
    try:
        _missing(staging, verifier.whole)
    finally:
        bad = verifier.finish(staging.pulse)
    receive_build.drop_bad(staging, bad)
    receive_build.build(staging, digest)


def unpack(request, pipe):
    """Take an upload that came as `.towline/upload-NAME.zip`; the archive is removed in any case.

    Only contents are taken from the archive. Names, modes and links are the manifest's, so the
    names inside do not matter.

    Raises:
        Refusal: As `receive`; "unpack" when the archive can't be extracted within ten minutes.
    """
    staging = _opened(request, pipe)
    digest = request["manifest_sha256"]
    control = control_folder(request)
    archive = os.path.join(control, "upload-%s.zip" % request["name"])
    try:
        if staging.rows is not None:
            unpacked = os.path.join(os.fsdecode(staging.folder), "unpacked")
            safe_files.remove_tree(unpacked)
            os.mkdir(unpacked, 0o700)
            _extract(archive, unpacked, staging)
            staging.salvage(os.fsencode(unpacked))
            _finish(staging, digest)
    finally:
        safe_files.remove_tree(archive)
    return summary(staging, digest)


def _extract(archive, folder, staging):
    """Extract by `unzip` where it is, else by Python."""
    _check_names(archive)
    program = find_tool("unzip")
    if program is None:
        _extract_by_python(archive, folder, staging.pulse)
        return
    argv = [program, "-q", "-o", archive, "-d", folder]
    process = subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        staging.note_helper(process.pid)
        _wait(process, staging.pulse)
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
