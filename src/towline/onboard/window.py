"""The window on the training: a tmux session that shows the log, where there is tmux."""

import os
import subprocess

from . import daemon
from .inspect import find_tool

COLUMNS, ROWS = "220", "50"  # wide enough that no trainer wraps its metrics


def open_for(request):
    """Open a tmux session that shows the log; returns its name, None without tmux.

    The session is a window on the training, not its parent: it may be killed at will.
    """
    tmux = find_tool("tmux")
    if tmux is None:
        return None
    if _tmux(tmux, "has-session", "-t", "=" + request["session"]) == 0:
        return request["session"]
    env = {k: v for k, v in os.environ.items() if k != daemon.MARK[:-1]}
    show = "exec tail -n +1 -F '%s'" % request["log"].replace("'", "'\\''")
    argv = [tmux, "new-session", "-d", "-s", request["session"], "-x", COLUMNS, "-y", ROWS]
    try:
        subprocess.check_output(
            argv + [show], stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=env, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None  # the training does not depend on it; the caller says that there is no window
    return request["session"]


def close(session):
    """End the tmux session of a run, if there is one."""
    tmux = find_tool("tmux")
    if tmux is not None:
        _tmux(tmux, "kill-session", "-t", "=" + session)


def _tmux(tmux, *argv):
    """Ask tmux something; its exit status, None when it does not answer."""
    try:
        return subprocess.call(
            [tmux] + list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None  # no training depends on its window
