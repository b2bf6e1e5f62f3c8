"""Read progress out of what a training prints: bytes in, events out.

Each framework's grammar has a module of its own. Unknown text is nobody's error: it yields nothing.
Most of a log is rejected, or skipped as one more frame of a bar, before it is decoded.
"""

from __future__ import annotations

import json
import re
from typing import Any

from towline.core import (
    grammar_bars,
    grammar_boosting,
    grammar_hf,
    grammar_keras,
    grammar_lightning,
    grammar_plain,
    grammar_scripts,
    grammar_sklearn,
    grammar_towline,
    grammar_ultralytics,
    grammar_vision,
    screen,
    thinning,
)
from towline.core.reading import Memory, Progress, Seen

__all__ = ["Progress", "ProgressParser", "parse_line"]

_TEXT_LIMIT = (
    4 * 1024
)  # a longer line that is not JSON is no progress; this bounds a grammar's cost
_KEY_LIMIT = 96
_MOST_ALIKE = 8  # lines of one look that are read of one piece of a log in a hurry
_SHAPE_BYTES = 200
_OF_NUMBERS = b"0123456789.+-"
_STATE_VERSION = 1  # of another towline's state nothing is taken
_RANK = re.compile(rb"\s*\[(?:rank|default)(\d{1,6})\]:\s?")
_RULES = (
    *grammar_ultralytics.RULES,
    *grammar_keras.RULES,
    *grammar_lightning.RULES,
    *grammar_hf.RULES,
    *grammar_boosting.RULES,
    *grammar_sklearn.RULES,
    *grammar_vision.RULES,
    *grammar_scripts.RULES,
    *grammar_plain.RULES,  # last: the habits that many share
)
_ROW = re.compile(rb"\s*\d+\s+[\d.-]")  # of a table whose header came before
_BARS = (b"|", b" \xe2\x94")  # what follows the percent of a drawn bar
_KERAS_FRAME = re.compile(rb"(\d{1,9})/(\d{1,9})(?!\d)")


class ProgressParser:
    """Feed it a log in any pieces."""

    def __init__(self, state: dict[str, Any] | None = None) -> None:
        """Go on where ``state``, of another parser's `state()`, was taken; else begin."""
        known = state if state and state.get("version") == _STATE_VERSION else {}
        carried = json.loads(json.dumps(known))
        self._memory: Memory = carried.get("memory", {})
        self._bar = str(carried.get("bar", "")).encode("latin-1", "replace")  # the last frame's key
        self._thinner = thinning.Thinner(carried.get("thinner"))
        self._screen = screen.Screen()

    def feed(self, data: bytes, *, hurried: bool = False) -> list[Progress]:
        """Read the complete lines of what has come so far.

        Args:
            data: The next bytes.
            hurried: The log is faster than its reader: of the lines that differ by their numbers
                alone, some are read, and the last.
        """
        segments = self._screen.feed(data)
        told: list[Progress] = []
        for segment in _sample(segments) if hurried else segments:
            if segment and self._is_promising(segment):
                told += self._read(segment)
        return told

    @property
    def at_line_start(self) -> bool:
        """Whether another parser could take over here with this one's `state()`."""
        return not self._screen.rest and not self._screen.skipping

    def flush(self) -> list[Progress]:
        """Read what the last line left without a break, and tell what was held back."""
        last = self._screen.end()
        told = self._read(last) if last and self._is_promising(last) else []
        return told + self._thinner.rest()

    def state(self) -> dict[str, Any]:
        """What another parser needs to go on from a line's start: small, and JSON."""
        carried = {
            "version": _STATE_VERSION,
            "memory": self._memory,
            "thinner": self._thinner.state(),
            "bar": self._bar.decode("latin-1"),
        }
        return dict(json.loads(json.dumps(carried)))

    def _is_promising(self, segment: bytes) -> bool:
        """Whether a segment can be progress, and is not one more frame with the same percent."""
        at = segment.find(b"%")
        if at > 0 and segment.startswith(_BARS, at + 1):
            key = segment[: at + 1]
        elif b"/step" in segment:
            key = _keras_key(segment)
        else:
            return _has_sign(segment)
        if key and key == self._bar and not key.endswith(b"100%"):
            return False
        self._bar = key if len(key) <= _KEY_LIMIT else b""
        return True

    def _read(self, segment: bytes) -> list[Progress]:
        seen = _sightings(segment, self._memory)
        return [progress for one in seen for progress in self._thinner.offer(one)] if seen else []


def _sample(segments: list[bytes]) -> list[bytes]:
    """Of lines that look alike some, and always the last: in their order."""
    alike: dict[bytes, list[int]] = {}
    for number, segment in enumerate(segments):
        alike.setdefault(segment[:_SHAPE_BYTES].translate(None, _OF_NUMBERS), []).append(number)
    kept: list[int] = []
    for numbers in alike.values():
        kept += [*numbers[:: len(numbers) // _MOST_ALIKE + 1], numbers[-1]]
    return [segments[number] for number in sorted(set(kept))]


def _has_sign(line: bytes) -> bool:
    """Whether a line without a percent has a word or a form that lines of progress have."""
    return (
        b"oss" in line
        or b"poch" in line
        or b"\t" in line
        or b"{" in line
        or b"tep" in line
        or b"ter" in line
        or b"all" in line
        or b"POCH" in line
        or b"Acc@" in line
        or b"lass" in line
        or b"(AP)" in line
        or b"tree" in line
        or b"score" in line
        or _ROW.match(line) is not None
    )


def _keras_key(segment: bytes) -> bytes:
    """The percent of a Keras frame; a full one has none, for the last of them has more figures."""
    found = _KERAS_FRAME.search(segment)
    if not found or found[1] == found[2] or not int(found[2]):
        return b""
    return b"k%d/%d" % (int(found[1]) * 100 // int(found[2]), int(found[2]))


def parse_line(raw: bytes) -> Progress | None:
    """Read one line by itself; None when it reports no progress."""
    seen = _sightings(raw, {})
    return seen[0].progress if seen else None


def _sightings(segment: bytes, memory: Memory) -> list[Seen]:
    """All that one segment says."""
    if len(segment) > screen.SEGMENT_LIMIT:
        return []
    raw = screen.clean(segment)
    if b"[rank" in raw or b"[default" in raw:
        prefix = _RANK.match(raw)
        if prefix and int(prefix[1]) != 0:
            return []  # the first process tells the same
        raw = raw[prefix.end() :] if prefix else raw
    if b'"progress"' in raw and raw.startswith(b'{"'):
        one = grammar_towline.read(raw.decode("utf-8", "replace"))
        return [one] if one else []
    return _lines(raw, memory) if len(raw) <= _TEXT_LIMIT else []


def _lines(raw: bytes, memory: Memory) -> list[Seen]:
    """What a line says: bars that are drawn in it, and the text itself."""
    line = raw.decode("utf-8", "replace")
    seen: list[Seen] = []
    if b"%|" in raw:
        if (table := grammar_ultralytics.drawn(line, memory)) is not None:
            return table
        seen, line = grammar_bars.read(line, memory)
    return seen + _text(line, memory) if line else seen


def _text(line: str, memory: Memory) -> list[Seen]:
    """Ask the rules whose sign the line has; a sign is found faster where all is ASCII."""
    plain = line if line.isascii() else line.encode("ascii", "ignore").decode("ascii")
    for sign, read in _RULES:
        if sign in plain:
            seen = read(line, memory)
            if seen is not None:
                return seen
    return []
