"""Start a driver that outlives this process and its terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.instance import RunId


def in_background(towline: Towline, run_id: RunId) -> subprocess.Popen[bytes]:
    """Start a driver that outlives this process and its terminal.

    The environment goes along: that is where the training's secrets are.
    """
    log = towline.home.run_files(run_id).driver_log
    flags = getattr(subprocess, "DETACHED_PROCESS", 0)
    flags |= getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    # -P: a file of the user's in the current folder must not stand in for one of Python's own
    argv = [sys.executable, "-P", "-m", "towline", "drive", run_id]
    with open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as file:  # noqa: PTH123
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
            creationflags=flags,
        )
