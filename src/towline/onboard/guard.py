"""The dead-man timer: a daemon that ends the instance when nobody comes back for it.

It obeys the orders of `guard.json`, which each driver may rewrite; times are ages of the instance:
  training_s   when the training is ended; null without a limit. `why` says which limit that is
  lifetime_s   when the instance ends, whatever happens; null without a limit
  grace_s      seconds without a driver, while no training runs, after which it ends
  stop_grace_s seconds from SIGTERM to SIGKILL
  end_argv     the command by which the instance ends itself, or null: then only the training is ended

First of all the instance ends; all else is done as far as it can be. So nothing here waits for
the disk, for a process or for a write: what is read is read by a thread beside, which may hang, and
orders that can't be read any more stand as they were. Only `leave` ends a guard without an end.
"""

import errno
import os
import shutil
import signal
import subprocess
import threading
import time

from . import age, children, daemon, follow, markers, reboot, start
from .fence import control_folder

_POLL_S = 1.0
_NOTE_AGE_S = 60.0
_LOOK_S = 1.0
_SAY_S = 0.5
_RETRY_S = (2.0, 300.0)  # after an end command that did not end the instance: first pause, longest
_STUCK_S = 600.0  # an end command may itself go on trying
_LEFT = b"left "


def arm(request, _pipe):
    """Start the guard, or give the one that runs its new orders.

    Returns "age_s", and by "reboot" how it comes back after a reboot, None where it does not.

    Raises:
        OSError: The one that runs can't be told.
    """
    control = control_folder(request)
    known = age.begin(control, request)
    orders = dict(request["limits"], end_argv=_found(request["end_argv"]))
    orders["path"] = os.environ.get("PATH", os.defpath)
    failure = _write(control, request, orders)
    if not _launch(control, request, orders, known) and failure is not None:
        raise failure
    comes_back = _survive(control, request) if request["reboot"] else None
    return {"armed": True, "age_s": known.seconds(), "reboot": comes_back}


def rearm(request, _pipe):
    """Start the guard again by the orders that it had, after a reboot."""
    control = control_folder(request)
    orders = markers.newest(os.path.join(control, "guard.json"), request["run"])
    if orders is None:
        return {"armed": False}
    os.environ["PATH"] = orders["path"]
    known = age.read(control, request["run"]) or age.Age(0.0)
    return {"armed": True, "started": _launch(control, request, orders, known)}


def dismiss(control):
    """Tell the guard that the run is over here: by its lock, which it holds open."""
    path = os.path.join(control, "guard.lock")
    if os.path.exists(path):
        with open(path, "r+b", 0) as lock:
            lock.write(_LEFT)


def _found(argv):
    """The end command with its program's full path, found while the disk can be read."""
    return argv and [shutil.which(argv[0]) or argv[0]] + argv[1:]


def _write(control, request, orders):
    """Write the orders down; returns why they could not be. A guard that starts has them anyway."""
    path = os.path.join(control, "guard.json")
    try:
        markers.save(path, request["run"], orders)
        markers.reserve(path)
        follow.touch_contact(request)
    except OSError as error:
        return error
    return None


def _survive(control, request):
    try:
        return reboot.survive(control, request)
    except OSError:
        return None  # the guard is there; that nothing brings it back is told


def _launch(control, request, orders, known):
    """Start the guard unless one runs; whether it did."""
    fd = daemon.try_lock(os.path.join(control, "guard.lock"))
    if fd is None:
        return False
    os.pwrite(fd, b"armed", 0)  # `dismiss` writes over it, on a full disk too
    if daemon.daemonize(fd):
        try:
            daemon.set_oom_score(-1000)
            os.chdir("/")
            _Guard(_Eyes(control, request, orders, known, fd), known).watch()
        finally:
            os._exit(0)
    os.close(fd)
    return True


class _Eyes(threading.Thread):
    """What lies on the disk, looked at beside the guard, which must not hang with it.

    Each attribute is what was seen last; what can't be read stays as it was.
    """

    def __init__(self, control, request, orders, known, lock_fd):
        threading.Thread.__init__(self)
        self.daemon = True
        self.orders = orders
        self.is_running = self.is_over = False
        self.job = self.contact = None
        self.halted_s = None  # the age at which somebody asked the training to end
        self._has_looked, self._has_said = threading.Event(), threading.Event()
        self._control, self._request, self._age, self._lock_fd = control, request, known, lock_fd
        self._wake = threading.Event()
        self._reason, self._noted = {}, None

    def run(self):
        """Look whenever we are asked to."""
        while True:
            self._wake.wait()
            self._wake.clear()
            self._look()
            self._has_looked.set()

    def open(self):
        """Begin; without a thread to be had, each glance looks by itself."""
        try:
            self.start()
        except RuntimeError:
            self.glance = self._look

    def glance(self):
        """Have a look taken; waits for it, but not for a disk that hangs."""
        self._has_looked.clear()
        self._wake.set()
        self._has_looked.wait(_LOOK_S)

    def _look(self):
        """Look at each thing; a failure of one is no reason not to look at the others."""
        looks = (self._at_lock, self._at_orders, self._at_contact, self._at_training)
        for look in looks + (self._write_reason, self._note_age):
            try:
                look()
            except Exception:  # noqa: BLE001, S112 - full, broken, taken away: what was known stands
                continue

    def say(self, **reason):
        """Have a reason written; waits a moment for it, not longer."""
        if set(reason.items()) <= set(self._reason.items()):
            return
        self._reason = dict(self._reason, **reason)
        self._has_said.clear()
        self._wake.set()
        self._has_said.wait(_SAY_S)

    def _path(self, name):
        return os.path.join(self._control, name)

    def _at_lock(self):
        self.is_over = os.pread(self._lock_fd, len(_LEFT), 0) == _LEFT

    def _at_orders(self):
        found = markers.newest(self._path("guard.json"), self._request["run"])
        if found is not None and set(self.orders) <= set(found):
            self.orders = found

    def _at_contact(self):
        self.contact = os.stat(self._path("contact")).st_mtime

    def _at_training(self):
        self.is_running = start.state(self._request, None)["phase"] == "running"
        self.job = daemon.read_json(self._path("job.json"))
        self.halted_s = (daemon.read_json(self._path("halted.json")) or {}).get("age_s")

    def _write_reason(self):
        if self._reason and not self._has_said.is_set():
            path = self._path("ended-by-guard.json")
            markers.save(path, self._request["run"], self._reason)
            self._has_said.set()

    def _note_age(self):
        if self._noted is None or time.monotonic() - self._noted >= _NOTE_AGE_S:
            self._noted = time.monotonic()
            age.note(self._control, self._request["run"], self._age)


class _Guard:
    """Decides once a second, and at each limit, what is due."""

    def __init__(self, eyes, known):
        self._eyes, self._age = eyes, known
        self._halted_s = None
        self._end = _EndCommand()
        # the contact's time is only compared with itself: a fresh machine may set its wall clock
        self._contact, self._heard = None, time.monotonic()

    def watch(self):
        """Watch until the run was left, or nothing is left that could be ended."""
        self._eyes.open()
        while not self._eyes.is_over:
            try:
                self._eyes.glance()
                if self._is_done():
                    return
            except Exception:  # noqa: BLE001 - a guard that dies of a surprise guards nothing
                time.sleep(_POLL_S)
            time.sleep(self._pause_s())

    def _pause_s(self):
        now, orders = self._age.seconds(), self._eyes.orders
        ahead = [at - now for at in (orders["training_s"], orders["lifetime_s"]) if at is not None]
        return min([_POLL_S] + [max(0.01, left) for left in ahead if left > 0])

    def _is_done(self):
        """Do what is due; whether no more can be done here."""
        now, eyes = self._age.seconds(), self._eyes
        if eyes.is_running and _is_past(now, eyes.orders["training_s"]):
            eyes.say(reason=eyes.orders["why"], limit=eyes.orders["why"])
            self._halt(now)
        reason = self._why_end(now)
        if reason is None:
            return False
        if eyes.orders["end_argv"]:
            eyes.say(reason=reason)
            self._end.push(eyes.orders["end_argv"])
            return False
        return not self._is_company(now)

    def _halt(self, now):
        """SIGTERM once, then SIGKILL each second: what ignores that is not waited for."""
        if self._halted_s is None:
            self._halted_s = now
            children.end(self._eyes.job, signal.SIGTERM)
        elif now - self._halted_s >= self._eyes.orders["stop_grace_s"]:
            children.end(self._eyes.job, signal.SIGKILL)

    def _why_end(self, now):
        orders = self._eyes.orders
        if _is_past(now, orders["lifetime_s"]):
            return "the run reached its time or cost limit"
        if self._eyes.contact != self._contact:
            self._contact, self._heard = self._eyes.contact, time.monotonic()
        silent_s = time.monotonic() - self._heard
        if silent_s > orders["grace_s"] and not self._is_company(now):
            return "no training ran and nobody came for %d s" % silent_s
        return None

    def _is_company(self, now):
        """Whether a training runs that nobody has asked to end, or that may still be saving."""
        asked = [at for at in (self._halted_s, self._eyes.halted_s) if at is not None]
        patience_s = self._eyes.orders["stop_grace_s"] + start.KILL_S
        return self._eyes.is_running and (not asked or now - min(asked) <= patience_s)


class _EndCommand:
    """The command that ends the instance, begun again until it does."""

    def __init__(self):
        self._process = None
        self._began = None
        self._pause_s = _RETRY_S[0]

    def push(self, argv):
        """Begin it, unless it is at work or has just failed."""
        now = time.monotonic()
        if self._began is not None and now - self._began < self._patience_s():
            return
        if self._began is not None:
            self._pause_s = min(2 * self._pause_s, _RETRY_S[1])
        self._began = now
        try:
            self._process = subprocess.Popen(argv)  # its streams are ours: /dev/null
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOMEM):
                os.execv(argv[0], argv)  # no process to be had: ours will do

    def _patience_s(self):
        if self._process is not None and self._process.poll() is None:
            return _STUCK_S
        return self._pause_s


def _is_past(now, moment):
    return moment is not None and now >= moment
