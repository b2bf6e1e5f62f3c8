"""The processes below the supervisor: finding what has left the command's group, and ending it.

Linux only: there the supervisor adopts what a dying command leaves behind, whatever session it
made for itself. Elsewhere nothing below it is found.
"""

import errno
import os
import signal
import sys
import time

from . import daemon

_PR_SET_CHILD_SUBREAPER = 36
_SETTLE_S = 2.0


def adopt_orphans():
    """Become the parent of each descendant whose own parent ends."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes  # a Python may lack it

            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        except (ImportError, OSError, AttributeError):
            return  # then what leaves the group is not seen, as on other systems


def reap():
    """Bury those of our children that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except OSError as error:
        if error.errno != errno.ECHILD:
            raise


class Process:
    """One line of /proc: pid, parent, group, and the seconds of processor time it has used."""

    def __init__(self, pid, fields):
        self.pid = pid
        self.parent = int(fields[1])
        self.group = int(fields[2])
        # its own, and that of children which have ended
        self.used_s = sum(int(field) for field in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def below(pid):
    """Living processes that descend from one."""
    by_parent = {}
    for process in _all():
        by_parent.setdefault(process.parent, []).append(process)
    found = list(by_parent.get(pid, []))
    for process in found:  # grows while it is walked
        found += by_parent.get(process.pid, [])
    return found


def detached(supervisor, group):
    """Processes below the supervisor that are not of the command's group."""
    return [process for process in below(supervisor) if process.group != group]


def end(job, signum):
    """Signal the command's group, and what has left it; what is another user's is left alone.

    ``job`` is job.json. A number that the system has given to somebody else since is not ours; nor
    is what the supervisor itself runs to remove a container.
    """
    found = []
    if _lives(job.get("supervisor")):
        own = os.getpgid(job["supervisor"]["pid"])
        found = [one for one in below(job["supervisor"]["pid"]) if one.group != own]
    if _lives(job) or any(process.group == job["pid"] for process in found):
        daemon.signal_group(job["pid"], signum)
    for process in found:
        if process.group != job["pid"]:
            daemon.signal_one(process.pid, signum)


def _lives(noted):
    return noted is not None and daemon.born(noted["pid"]) == noted["born"]


class Idleness:
    """Whether processes have done next to nothing for a while, all together."""

    SHARE = 0.01  # of one processor

    def __init__(self, limit_s):
        self._limit_s = limit_s
        self._since = time.monotonic()
        self._used = {}

    def is_over(self, processes):
        """Whether the time that has just passed was an idle one; to be asked again and again."""
        passed = time.monotonic() - self._since
        if passed < self._limit_s and self._used:
            return False
        spent = sum(one.used_s - self._used.get(one.pid, 0.0) for one in processes)
        was_idle = bool(self._used) and spent < self.SHARE * passed
        self._since = time.monotonic()
        self._used = {one.pid: one.used_s for one in processes}
        return was_idle


def _all():
    """Every living process that is no zombie."""
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    for name in names:
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue  # it ended meanwhile
        if fields and fields[0] not in (b"Z", b"X"):
            yield Process(int(name), fields)


def end_rest_of(group):
    """End what the command left in its group.

    First it may leave that: `setsid train &` as the last line is still a shell's child when the
    shell has ended.
    """
    deadline = time.monotonic() + _SETTLE_S
    while time.monotonic() < deadline and any(one.group == group for one in below(os.getpid())):
        reap()
        time.sleep(0.02)
    daemon.signal_group(group, signal.SIGTERM)


def wait_for_detached(group, idle_limit_s, say):
    """Wait while processes that left the command's group are at work; end those that are not.

    The user has taken them out of the group, so they are the work, or a service that never ends
    by itself. A service does nothing once its work is over: after ``idle_limit_s`` of that they
    are ended. ``say`` is called with their number when it changes.
    """
    idleness, said = Idleness(idle_limit_s), None
    while True:
        reap()
        found = detached(os.getpid(), group)
        if len(found) != said:
            said = len(found)
            say(said)
        if not found:
            return
        if idleness.is_over(found):
            break
        time.sleep(0.2)
    for signum in (signal.SIGTERM, signal.SIGKILL):
        for process in found:
            daemon.signal_one(process.pid, signum)
        deadline = time.monotonic() + 5.0
        while detached(os.getpid(), group) and time.monotonic() < deadline:
            reap()
            time.sleep(0.05)
        found = detached(os.getpid(), group)
