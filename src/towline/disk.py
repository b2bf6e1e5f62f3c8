"""What this machine's disk says, in our words, and whether it is this machine's at all."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from towline.core.manifest import shown
from towline.errors import LocalReadError, LocalWriteError

_MOUNTS = Path("/proc/self/mountinfo")
_NETWORK = frozenset([
    "nfs",
    "nfs4",
    "cifs",
    "smb",
    "smb2",
    "smb3",
    "smbfs",
    "afpfs",
    "webdav",
    "davfs",
    "9p",
    "afs",
    "coda",
    "ncpfs",
    "ceph",
    "lustre",
    "gpfs",
    "beegfs",
    "glusterfs",
    "gfs",
    "gfs2",
    "ocfs2",
    "pvfs2",
    "orangefs",
    "panfs",
    "wekafs",
    "fhgfs",
    "vboxsf",
    "prl_fs",
])
#: of filesystems that a program serves, those that reach over a network
_NETWORK_FUSE = frozenset([
    "sshfs",
    "s3fs",
    "rclone",
    "gcsfuse",
    "glusterfs",
    "ceph",
    "davfs",
    "davfs2",
    "curlftpfs",
    "juicefs",
    "cephfs",
    "goofys",
    "blobfuse",
    "blobfuse2",
    "mount-s3",
    "seaweedfs",
    "moosefs",
    "mfs",
    "smbnetfs",
])


def network_filesystem(path: Path) -> str | None:
    """The kind of network filesystem that a folder is on; None for a disk of this machine."""
    found = dict(_mounts())  # of several mounts at one place the last one counts
    folder = path.resolve()
    kind = next((found[str(at)] for at in (folder, *folder.parents) if str(at) in found), "")
    whole = found.get("/") == kind == "9p"  # a sandbox, all of whose disk is passed in so
    is_network = kind in _NETWORK or kind.removeprefix("fuse.") in _NETWORK_FUSE
    return kind if is_network and not whole else None


def _mounts() -> Iterable[tuple[str, str]]:
    """(folder, kind) of each mounted filesystem, in the order they were mounted."""
    if sys.platform == "linux":
        return _read_mounts(_MOUNTS.read_text("utf-8", "replace") if _MOUNTS.exists() else "")
    import psutil  # noqa: PLC0415 - 25 ms

    return [(one.mountpoint, one.fstype) for one in psutil.disk_partitions(all=True)]


def _read_mounts(text: str) -> Iterator[tuple[str, str]]:
    """Read Linux's `mountinfo`."""
    for line in text.splitlines():
        place, _, rest = line.partition(" - ")
        folder = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), place.split(" ")[4])
        yield folder, rest.split(" ")[0]


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say plainly why this machine can't take a file.

    Raises:
        LocalWriteError: It can't.
    """
    try:
        yield
    except OSError as error:
        message = f"{shown(str(path))} can't be written: {error.strerror or error}"
        raise LocalWriteError(message) from error


def read_text(path: Path) -> str:
    """Read a small file that must be there.

    Raises:
        LocalReadError: It is not, or can't be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LocalReadError(f"{shown(str(path))} can't be read: {why}") from error
