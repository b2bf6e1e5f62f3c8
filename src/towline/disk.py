"""What this machine's disk says, in our words: trouble that passes, after which a run is resumed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from towline.core.manifest import shown
from towline.errors import LocalReadError, LocalWriteError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Say plainly why this machine can't take a file.

    Raises:
        LocalWriteError: It can't.
    """
    try:
        yield
    except OSError as error:
        message = f"{shown(str(path))} can't be written: {error.strerror or error}"
        raise LocalWriteError(message) from error


def read_text(path: Path) -> str:
    """Read a small file that must be there.

    Raises:
        LocalReadError: It is not, or can't be read.
    """
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise LocalReadError(f"{shown(str(path))} can't be read: {why}") from error
