"""The dead-man timer: a daemon that ends the instance when nobody comes back for it.

It obeys `guard.json`, which each driver may rewrite:
  deadline   monotonic time after which the instance ends whatever happens, or null
  grace_s    seconds without a driver, while no training runs, after which it ends
  end_argv   the command by which the instance ends itself, or null: then the training is ended
"""

import os
import subprocess
import time

from . import daemon, follow, start
from .fence import control_folder

_POLL_S = 1.0


def arm(request, _pipe):
    """Start the guard, or give the one that runs its new orders."""
    control = control_folder(request)
    lifetime_s = request["lifetime_s"]
    orders = {
        "deadline": None if lifetime_s is None else time.monotonic() + lifetime_s,
        "grace_s": request["grace_s"],
        "end_argv": request["end_argv"],
    }
    daemon.write_json(os.path.join(control, "guard.json"), orders)
    follow.touch_contact(request)
    fd = daemon.try_lock(os.path.join(control, "guard.lock"))
    if fd is not None:
        if daemon.daemonize(fd):
            try:
                _watch(control, request)
            finally:
                os._exit(0)
        os.close(fd)
    return {"armed": True}


def _watch(control, request):
    silence = _Silence()
    while True:
        time.sleep(_POLL_S)
        orders = daemon.read_json(os.path.join(control, "guard.json"))
        if orders is None:
            return  # the run's folder was removed: released
        reason = _reason(control, request, orders, silence)
        if reason:
            _end(control, request, orders, reason)
            return


class _Silence:
    """How long no driver has shown itself, on the clock that never jumps.

    The contact file's time is only compared with itself: a fresh machine may set its wall clock
    by hours while we wait.
    """

    def __init__(self):
        self._seen = (None, time.monotonic())

    def seconds(self, control):
        """Seconds since the contact file changed last."""
        touched = os.stat(os.path.join(control, "contact")).st_mtime
        if touched != self._seen[0]:
            self._seen = (touched, time.monotonic())
        return time.monotonic() - self._seen[1]


def _reason(control, request, orders, silence):
    if orders["deadline"] is not None and time.monotonic() > orders["deadline"]:
        return "the run reached its time or cost limit"
    silent_s = silence.seconds(control)
    if silent_s > orders["grace_s"] and start.state(request, None)["phase"] != "running":
        return "no training ran and nobody came for %d s" % silent_s
    return None


def _end(control, request, orders, reason):
    daemon.write_json(os.path.join(control, "ended-by-guard.json"), {"reason": reason})
    start.halt(dict(request, grace_s=20.0), None)
    if orders["end_argv"]:
        subprocess.Popen(orders["end_argv"], close_fds=True)
