"""Who holds a staging area: the newest receiver with its helpers, and no other.

A receiver whose line was cut may hang in a read for long. The one that comes after it ends it,
and every process that took blocks for it, before it touches anything.

In the folder: NAME.lock, locked by the receiver, names the processes to end; NAME.token is that
of the receiver that rules; NAME.takers, locked by those that take blocks, names them.
"""

import errno
import fcntl
import json
import os
import signal
import time

from . import daemon
from .wire import Refusal

_LIMIT_S = 10.0
_PAUSE_S = 0.02
_NAMES_BYTES = 1 << 16


def take_over(path, token):
    """Lock a staging area for a new receiver; whoever held it is ended. Returns the lock's fd."""
    fd = os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _lock(fd)
        write_holders(fd, [os.getpid()])
        daemon.write_json(path + ".token", token)
        takers = os.open(path + ".takers", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock(takers)
            os.ftruncate(takers, 0)
        finally:
            os.close(takers)
    except BaseException:
        os.close(fd)
        raise
    return fd


def join(path, token):
    """Take part in what a receiver does; returns the lock's descriptor, to be kept open.

    Raises:
        Refusal: "busy": another receiver rules.
    """
    fd = os.open(path + ".takers", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    if _try(fd, fcntl.LOCK_SH):
        os.write(fd, _named([os.getpid()]))
        # looked at after the lock and the name stand: whoever takes over now finds us
        if daemon.read_json(path + ".token") == token:
            return fd
    os.close(fd)
    raise Refusal("busy", "another receiver has taken over")


def write_holders(fd, pids):
    """Name the processes that have to end before another may take over."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, b"".join(_named([pid]) for pid in pids), 0)


def _named(pids):
    return b"".join(json.dumps([pid, daemon.born(pid)]).encode("ascii") + b"\n" for pid in pids)


def _lock(fd):
    """Lock a file for us alone, and end whoever has it locked."""
    deadline = time.monotonic() + _LIMIT_S
    while not _try(fd, fcntl.LOCK_EX):
        if time.monotonic() > deadline:
            raise Refusal("busy", "another receiver does not let go of the staging area")
        _end(os.pread(fd, _NAMES_BYTES, 0))
        time.sleep(_PAUSE_S)


def _try(fd, how):
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except (IOError, OSError) as error:
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return False
    return True


def _end(names):
    """Kill the processes that a lock file names, if they are still those processes."""
    for line in names.splitlines():
        try:
            pid, born = json.loads(line.decode("ascii"))
        except ValueError:
            continue  # it has the lock and is about to write its name
        if pid != os.getpid() and daemon.born(pid) == born:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
