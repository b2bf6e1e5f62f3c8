"""A large file on its way home: its parts come in any order and are hashed in order.

Beside the file lies a journal of what has come; a kill leaves one that says too little, never too much.
"""

from __future__ import annotations

import contextlib
import hashlib
import struct
from pathlib import Path

from towline.transfer.shares import Prefix

_PAIR = struct.Struct(">QQ")
_BLOCK = 1024 * 1024


class Growing:
    """One file ``part`` that is being written; ``size`` is what it will have."""

    def __init__(self, part: Path, size: int) -> None:
        self._prefix = Prefix(size, self.gaps(part, size))
        self._journal = _journal(part).open("ab", buffering=0)
        mode = "rb+" if part.exists() else "wb+"
        self._file = part.open(mode, buffering=0)
        self._digest = hashlib.sha256()
        self._hashed = 0

    @staticmethod
    def gaps(part: Path, size: int) -> list[tuple[int, int]]:
        """What is missing of a file, by its journal; a file without one is nothing."""
        missing = Prefix(size, [(0, size)] if size else [])
        with contextlib.suppress(FileNotFoundError):
            data = _journal(part).read_bytes() if part.exists() else b""
            whole = len(data) - len(data) % _PAIR.size
            for start, end in _PAIR.iter_unpack(data[:whole]):
                missing.add(start, end)
        return missing.gaps

    @staticmethod
    def drop(part: Path) -> None:
        """Remove a file and its journal."""
        part.unlink(missing_ok=True)
        _journal(part).unlink(missing_ok=True)

    @property
    def is_whole(self) -> bool:
        """Whether every byte is there."""
        return not self._prefix.gaps

    def write(self, offset: int, data: memoryview) -> None:
        """Write bytes, note them, and hash as far as there is no gap."""
        self._file.seek(offset)
        rest = data
        while rest:
            rest = rest[self._file.write(rest) :]
        self._journal.write(_PAIR.pack(offset, offset + len(data)))
        self._prefix.add(offset, offset + len(data))
        if offset == self._hashed:
            self._digest.update(data)
            self._hashed += len(data)
        if self._hashed < self._prefix.upto:
            self._catch_up()

    def _catch_up(self) -> None:
        self._file.seek(self._hashed)
        while self._hashed < self._prefix.upto:
            data = self._file.read(min(_BLOCK, self._prefix.upto - self._hashed))
            if not data:
                break  # somebody has cut it: its hash will tell
            self._digest.update(data)
            self._hashed += len(data)

    def close(self) -> str:
        """Close it; SHA-256 of what was hashed."""
        self._file.close()
        self._journal.close()
        return self._digest.hexdigest()


def _journal(part: Path) -> Path:
    return part.with_suffix(".ranges")
