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
    """Say whether a holder may still act; one elsewhere, or of before a restart, is not judged."""
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
    """Whose process ids these are: the same for two processes only if they see each other's.

    A network card's address and a host's name are no proof: containers on two hosts share them.
    """
    namespace = Path("/proc/self/ns/pid")  # containers on one host do not see each other's pids
    inode = namespace.stat().st_ino if namespace.exists() else 0
    boot = Path("/proc/sys/kernel/random/boot_id")
    started = boot.read_text().strip() if boot.exists() else f"{uuid.getnode():x}"
    return f"{started}-{inode}"
