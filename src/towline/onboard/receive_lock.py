"""Who holds a staging area: the newest receiver, and no other.

A receiver whose line was cut may hang in a read for long. The one that comes after it ends it
before it touches anything.
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


def take_over(path):
    """Lock the staging area. A receiver whose line was cut may still hold it: it is ended."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    deadline = time.monotonic() + _LIMIT_S
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except (IOError, OSError) as error:
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
        if time.monotonic() > deadline:
            os.close(fd)
            raise Refusal("busy", "another receiver does not let go of the staging area")
        _end(os.pread(fd, 200, 0))
        time.sleep(0.02)
    write_holders(fd, [os.getpid()])
    return fd


def write_holders(fd, pids):
    """Name the processes that have to end before another may take over."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, json.dumps([[pid, daemon.born(pid)] for pid in pids]).encode("ascii"), 0)


def _end(holders):
    """Kill the processes that the lock file names, if they are still those processes."""
    try:
        named = json.loads(holders.decode("ascii"))
    except ValueError:
        return  # it has the lock and is about to write its name
    for pid, born in named:
        if pid != os.getpid() and daemon.born(pid) == born:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError as error:
                if error.errno != errno.ESRCH:
                    raise
