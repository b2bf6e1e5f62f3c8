"""The small JSON files in which a provider of this machine keeps what it must not forget.

Owns reading and writing them whole; knows nothing of what they say.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from towline.errors import ProviderReplyError


def read_state(path: Path) -> dict[str, Any] | None:
    """Read a state file; None when there is none.

    Raises:
        ProviderReplyError: It is there but is not what `write_state` wrote.
    """
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        message = f"{path} can't be read: {error}"
        hint = "it was written by towline and damaged since; look at it before you remove it"
        raise ProviderReplyError(message, hint=hint) from error
    if not isinstance(value, dict):
        message = f"{path} does not hold what towline wrote"
        raise ProviderReplyError(message, hint="look at it before you remove it")
    return value


def write_state(path: Path, value: dict[str, Any]) -> None:
    """Write a state file, readable by the user only: whole or not at all, also in a power cut."""
    # the process id keeps two writers of the same file from renaming each other's draft away
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(json.dumps(value, indent=1, sort_keys=True).encode())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
