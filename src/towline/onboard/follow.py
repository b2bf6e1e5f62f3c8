"""Stream the training's log from a byte offset until the training has ended."""

import os
import time

from . import age, daemon, start, wire
from .fence import control_folder
from .watch import Watch

_POLL_S = 0.05
_ALIVE_EVERY_S = 2.0
_BLOCK = 256 * 1024


def follow(request, pipe):
    """Send DATA frames with the log's bytes from ``offset`` on; the result is `state` at the end.

    Between them a JSON remark every two seconds, so that a silent training and a dead line can
    be told apart. It carries "idle_s", the seconds since the log last grew, "detached" as in
    `state`, and "guarded", whether the guard lives. The first remark is the instance's age. With "watch" in the request, more remarks
    come: see `watch`.
    """
    touch_contact(request)
    known = age.read(control_folder(request), request["run"])
    pipe.send_json(wire.JSON, {"age_s": known and known.seconds()})
    offset, guard = request["offset"], os.path.join(control_folder(request), "guard.lock")
    said = grew = time.monotonic()
    log = watch = None
    while True:
        state = start.state(request, None)  # before the read: an end seen now has its log written
        watch = watch or _watch(request, state)
        for remark in watch.waiting() if watch else ():
            pipe.send_json(wire.JSON, remark)
        log = log or _open(request["log"])
        block = log.read(_BLOCK) if log and _at(log, offset) else b""
        now = time.monotonic()
        if now - said >= _ALIVE_EVERY_S:
            remark = {"idle_s": 0.0 if block else now - grew, "detached": state["detached"]}
            pipe.send_json(wire.JSON, dict(remark, guarded=daemon.is_locked(guard)))
            touch_contact(request)
            said = now
        if block:
            pipe.send(wire.DATA, block)
            offset += len(block)
            grew = now
        elif state["phase"] != "running":
            for remark in watch.last() if watch else ():
                pipe.send_json(wire.JSON, remark)
            return dict(state, offset=offset)
        else:
            time.sleep(_POLL_S)


def _watch(request, state):
    """Begin to watch a training that has started, if it was asked for."""
    if "watch" not in request or state["start"] is None:
        return None
    job = daemon.read_json(os.path.join(control_folder(request), "job.json")) or {}
    return Watch(request["root"], request["watch"], state["start"]["at"], job.get("pid"))


def touch_contact(request):
    """Note that a driver is here; the guard reads the file's time."""
    path = os.path.join(control_folder(request), "contact")
    with open(path, "a"):
        os.utime(path, None)


def _open(path):
    return open(path, "rb", 0) if os.path.exists(path) else None


def _at(log, offset):
    if log.tell() != offset:
        log.seek(offset)
    return True
