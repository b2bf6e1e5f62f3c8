"""How hard to compress: as hard as it goes without keeping the line waiting."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from towline.onboard import blocks, codecs

#: levels worth having. zstd's first one is faster than any line, zlib's is not: 0 is none at all
_LEVELS = {"stored": (0,), "zlib": (0, 1, 6), "zstd": (1, 3, 9)}
_FIRST = {"stored": 0, "zlib": 1, "zstd": 3}
_TRIAL = 8  # blocks of a level before it is judged
_IDLE = 0.25  # a harder level is tried when making a block takes less than this of sending it


class Compression:
    """Packs blocks in threads. ``codec`` is the best that both sides have."""

    def __init__(self, far_codecs: Sequence[str]) -> None:
        both = [codec for codec in codecs.available() if codec in far_codecs]
        self.codec = both[0] if both else "stored"
        self.level = _FIRST[self.codec]
        self._lock = threading.Lock()
        self._raw = self._packed = 0
        self._made_s = self._sent_s = 0.0
        self._trial = 0

    def pack(self, raw: bytes) -> bytes:
        """Make a block of bytes; may run in several threads at once."""
        block: bytes = blocks.wrap(raw, self.codec, self.level)
        with self._lock:
            self._raw += len(raw)
            self._packed += len(block)
        return block

    @property
    def ratio(self) -> float:
        """Bytes on the line for each byte that was packed, so far."""
        return self._packed / self._raw if self._raw else 1.0

    def tune(self, made_s: float, sent_s: float) -> None:
        """Learn how long making a block and sending one took; choose the level for the next."""
        self._made_s += made_s
        self._sent_s += sent_s
        self._trial += 1
        if self._trial < _TRIAL:
            return
        levels = _LEVELS[self.codec]
        at = levels.index(self.level)
        if self._made_s > self._sent_s and at > 0:
            self.level = levels[at - 1]
        elif self._made_s < _IDLE * self._sent_s and at + 1 < len(levels):
            self.level = levels[at + 1]
        self._made_s = self._sent_s = 0.0
        self._trial = 0
