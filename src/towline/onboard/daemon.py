"""Processes that outlive the connection: making them, naming them, ending them."""

import errno
import fcntl
import json
import os
import signal
import time

MARK = "TOWLINE_RUN_ID="
_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


def daemonize(keep_fd):
    """Fork into a new session, away from the connection; True in the daemon.

    SIGHUP is ignored and the three standard streams go to /dev/null. The daemon keeps ``keep_fd``
    only, so that nothing holds the SSH channel open.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return False
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for fd in range(3, 256):
        if fd != keep_fd:
            _close(fd)
    return True


def _close(fd):
    try:
        os.close(fd)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise


def try_lock(path, how=fcntl.LOCK_EX):
    """Take the lock of a file; returns its descriptor, None when another process has it."""
    fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except (IOError, OSError) as error:
        os.close(fd)
        if error.errno not in (errno.EAGAIN, errno.EACCES):
            raise
        return None
    return fd


def is_locked(path):
    """Say whether a living process holds the lock."""
    fd = try_lock(path, fcntl.LOCK_SH)  # shared: two who ask at once do not see each other
    if fd is None:
        return True
    os.close(fd)
    return False


def write_json(path, value):
    """Write a marker whole: temporary name, fsync, rename."""
    temporary = "%s.%d" % (path, os.getpid())
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _NO_LINK, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            json.dump(value, file)
            file.flush()
            os.fsync(file.fileno())
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def read_json(path):
    """Read a marker; None when there is none, or something else was written in its place."""
    try:
        with open(path) as file:
            return json.load(file)
    except ValueError:
        return None  # emptied, say: it says nothing any more
    except (IOError, OSError) as error:
        if error.errno != errno.ENOENT:
            raise
        return None


def born(pid):
    """Start time of a living process in clock ticks; None for a dead one or a zombie.

    On a system without /proc, 0 for any living process.
    """
    try:
        with open("/proc/%d/stat" % pid, "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (IOError, OSError):
        return 0 if not os.path.isdir("/proc/self") and _exists(pid) else None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _exists(pid):
    try:
        os.kill(pid, 0)
    except OSError as error:
        return error.errno == errno.EPERM
    return True


def signal_group(pgid, signum):
    """Signal what is ours of a process group; one that is gone, or another user's, is no error."""
    _signal(os.killpg, pgid, signum)


def signal_one(pid, signum):
    """Signal a process; one that is gone, or another user's, is no error."""
    _signal(os.kill, pid, signum)


def _signal(how, number, signum):
    try:
        how(number, signum)
    except OSError as error:
        if error.errno not in (errno.ESRCH, errno.EPERM):
            raise


def set_oom_score(score):
    """Tell the kernel whom to spare when memory is short: -1000 is never; returns what it was.

    Only root may ask for less than it has. Not allowed, or no Linux, is no error: then it stays.
    """
    try:
        with open("/proc/self/oom_score_adj", "r+") as file:
            before = int(file.read())
            file.seek(0)
            file.write("%d" % score)
    except (OSError, ValueError):
        return None
    return before


def marked(run):
    """Pids of living processes that carry the run's mark in their environment, but for ours."""
    if not os.path.isdir("/proc/self"):
        return []
    wanted = (MARK + run).encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as file:
                if wanted in file.read().split(b"\0") and born(int(name)) is not None:
                    found.append(int(name))
        except (IOError, OSError):
            continue  # another user's process, or one that ended meanwhile: not ours to end
    return found


def end_marked(run, limit_s):
    """Kill what carries the run's mark until nothing does; returns what is left after the limit."""
    deadline = time.monotonic() + limit_s
    left = marked(run)
    while left and time.monotonic() < deadline:
        for pid in left:
            signal_one(pid, signal.SIGKILL)
        time.sleep(0.02)
        left = marked(run)
    return left
