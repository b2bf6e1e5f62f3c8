"""Who holds a lease: this process, named so that another can tell whether it still lives."""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path
from typing import Any

_START_TOLERANCE_S = 1.0  # the system rounds a process's start time


def this_process() -> dict[str, Any]:
    """Name this process: machine, process id, and when it started, for ids are used again."""
    import psutil  # noqa: PLC0415 - 25 ms that reading commands need not pay

    return {
        "machine": _machine(),
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": psutil.Process().create_time(),
    }


def is_alive(holder: dict[str, Any]) -> bool:
    """Say whether a holder may still act; one on another machine always may, until it expires."""
    import psutil  # noqa: PLC0415

    if holder["machine"] != _machine():
        return True
    try:
        process = psutil.Process(holder["pid"])
        same = abs(process.create_time() - holder["started"]) < _START_TOLERANCE_S
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _machine() -> str:
    namespace = Path("/proc/self/ns/pid")  # containers on one host do not see each other's pids
    inode = namespace.stat().st_ino if namespace.exists() else 0
    return f"{uuid.getnode():x}-{inode}"
