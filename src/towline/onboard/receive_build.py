"""From verified contents to the final folder: the tree is made beside its place, then renamed."""

import os
import stat

from . import safe_files
from .receive_before import storable
from .receive_staging import say_if_full
from .safe_files import DIR, FILE
from .wire import Refusal


def build(staging, digest):
    """Make the tree and put it under its final name.

    Raises:
        Refusal: "checksum" when contents are missing; "refused" when a link leads out; "disk_full".
    """
    folders = safe_files.Folders(staging.folder, b"tree")
    try:
        for number in staging.copies:
            _copy(staging, folders, staging.rows[number])
        _move(staging, folders)
        for number in staging.links:
            row = staging.rows[number]
            staging.rows.require_inside(row)
            parent = folders.open(row.parts[:-1])
            os.symlink(safe_files.link_target(row), row.parts[-1], dir_fd=parent)
        _settle(staging, folders)
        # the record of a delivery outlives a loss of power, so what it stands for must as well
        safe_files.to_disk(folders.open(()), lambda: staging.pulse(building=True))
    except OSError as error:
        say_if_full(error)
        raise
    finally:
        folders.close()
    staging.settle(digest)


def _copy(staging, folders, row):
    """A file whose content another one has too, or an empty one; the content itself stays."""
    copy = os.path.join(staging.folder, b"copy")
    safe_files.remove_tree(copy)
    try:
        safe_files.copy(staging.object(row.sha256) if row.size else None, copy, staging.pulse)
    except FileNotFoundError:
        raise _missing(row)
    _place(folders, row, copy)


def _move(staging, folders):
    """Make the folders and move each content to the first entry that has it."""
    copies = iter(staging.copies)
    copy = next(copies, None)
    for number, row in enumerate(staging.rows):
        staging.pulse(building=True)
        if number == copy:
            copy = next(copies, None)
        elif row.kind == DIR:
            folders.open(row.parts)
        elif row.kind == FILE:
            _place(folders, row, staging.object(row.sha256))


def _place(folders, row, source):
    """Rename a content into the tree, with the mode and time of its entry."""
    try:
        found = os.lstat(source)
    except FileNotFoundError:
        raise _missing(row)
    if not stat.S_ISREG(found.st_mode) or found.st_size != row.size:
        raise _missing(row)
    if stat.S_IMODE(found.st_mode) != row.mode | 0o400:
        os.chmod(source, row.mode | 0o400)
    time_ns = storable(row.mtime_ns)
    if found.st_mtime_ns != time_ns:
        os.utime(source, ns=(time_ns, time_ns))
    os.rename(source, row.parts[-1], dst_dir_fd=folders.open(row.parts[:-1]))


def _missing(row):
    return Refusal("checksum", "%s did not arrive whole" % row.shown)


def _settle(staging, folders):
    """The folders' modes, the deepest first."""
    for number in reversed(staging.folders):
        row = staging.rows[number]
        os.fchmod(folders.open(row.parts), row.mode | 0o700)
        staging.pulse(building=True)


def drop_bad(staging, bad):
    """Drop contents that are damaged.

    Raises:
        Refusal: "checksum", if there are any.
    """
    for sha256 in bad:
        staging.forget(sha256)
    if bad:
        count = len(bad)
        raise Refusal("checksum", "%d file%s did not arrive whole" % (count, "s" * (count > 1)))
