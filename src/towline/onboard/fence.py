"""The fence: the instance obeys only the newest driver of a run.

Every mutating request carries its driver's epoch, which grows with each take-over. The highest
one seen stands in a file; lower ones are refused, so that a laptop that slept and woke up can't
act on what is no longer its own.
"""

import fcntl
import os

from .wire import Refusal


def control_folder(request):
    """The run's control folder, made when it is missing."""
    path = os.path.join(request["root"], ".towline")
    os.makedirs(path, mode=0o700, exist_ok=True)
    return path


def check(request):
    """Refuse an old epoch, remember a new one.

    Raises:
        Refusal: "fenced", with the epoch that rules.
    """
    fd = os.open(os.path.join(control_folder(request), "epoch"), os.O_RDWR | os.O_CREAT, 0o600)
    with os.fdopen(fd, "r+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ruling = int(file.read() or 0)
        if request["epoch"] < ruling:
            raise Refusal("fenced", "a newer driver of this run owns the instance", epoch=ruling)
        if request["epoch"] > ruling:
            file.seek(0)
            file.write("%d" % request["epoch"])
            file.truncate()
