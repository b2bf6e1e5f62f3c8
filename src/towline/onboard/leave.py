"""Leave the instance as it was: end what the run started, remove its folder."""

import os
import shutil
import signal

from . import children, container, daemon, guard, markers, reboot, window
from .fence import control_folder

_LIMIT_S = 10.0


def leave(request, _pipe):
    """End the run's processes and remove its folder; safe to repeat.

    Returns {"processes_left", "folder_gone"}.

    Raises:
        OSError: The first reason why the folder could not be removed; the rest of it is.
    """
    control = control_folder(request)
    guard.dismiss(control)
    reboot.forget(control, request["run"])
    window.close(request["session"])
    container.remove(request["root"], request["run"])
    job = daemon.read_json(os.path.join(control, "job.json"))
    if job is not None:
        children.end(job, signal.SIGKILL)
    left = daemon.end_marked(request["run"], _LIMIT_S)
    markers.forget(request["run"])
    _unlock(request["root"])
    failures = []
    shutil.rmtree(request["root"], onerror=lambda *failed: failures.append(failed[2][1]))
    # the program, where the disk was full: see core.layout
    shutil.rmtree("/dev/shm/towline-%s" % request["run"], ignore_errors=True)  # noqa: S108
    gone = not os.path.exists(request["root"])
    if failures and not gone:
        raise failures[0]
    return {"processes_left": len(left), "folder_gone": gone}


def _unlock(root):
    """Make read-only folders writable, from the top down; what is another user's stays as it is."""
    for folder, names, _files in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if not os.path.islink(path):
                try:
                    os.chmod(path, 0o700)
                except OSError:
                    continue  # removing it will fail, and say so
