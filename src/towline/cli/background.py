"""Start a driver that outlives this process and its terminal."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

from towline.errors import DriverNotStarted, LocalWriteError
from towline.home import open_private

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.instance import RunId
    from towline.home import Home


def in_background(towline: Towline, run_id: RunId) -> subprocess.Popen[bytes]:
    """Start a driver that outlives this process and its terminal.

    The environment goes along: that is where the training's secrets are.

    Raises:
        DriverNotStarted: This machine can't start a process now.
    """
    flags = getattr(subprocess, "DETACHED_PROCESS", 0)
    flags |= getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    # -P: a file of the user's in the current folder must not stand in for one of Python's own
    argv = [sys.executable, "-P", "-m", "towline", "drive", run_id]
    try:
        with _log(towline.home, run_id) as file:
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
                creationflags=flags,
            )
    except OSError as error:
        message = f"no background driver can be started: {error.strerror or error}"
        hint = f"`towline resume {run_id}` drives the run here"
        raise DriverNotStarted(message, hint=hint) from error


def _log(home: Home, run_id: RunId) -> IO[bytes]:
    """Where its output goes; nowhere when the log can't be written: a run needs its driver more."""
    try:
        return open_private(home.run_files(run_id).driver_log, "ab")
    except (OSError, LocalWriteError):
        return Path(os.devnull).open("wb")
