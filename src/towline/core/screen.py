"""What a terminal would have shown, cheaply: bytes in any pieces, segments out.

A segment ends at a line feed, a carriage return or a backspace: what comes behind these writes
over what was there, so that each redrawing of a bar is a segment of its own.
"""

from __future__ import annotations

import re

SEGMENT_LIMIT = 64 * 1024  # a longer one is no progress
# colours, cursor moves and erasing; window titles and links; other two-byte escapes
_ESCAPES = re.compile(
    rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,2048}(?:\x07|\x1b\\)|[@-Z\\^_=>()78][0B]?)"
)
_CONTROLS = bytes(code for code in (*range(32), 127) if code not in b"\t\x1b")


class Screen:
    """Cuts a stream of bytes into segments."""

    def __init__(self) -> None:
        self.rest = b""  # the segment under way
        self.skipping = False  # the segment under way has been too long already

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes; the segments that they complete, empty ones among them."""
        if self.rest:
            data = self.rest + data
        *segments, self.rest = data.replace(b"\r", b"\n").replace(b"\b", b"\n").split(b"\n")
        if segments and self.skipping:
            del segments[0]
            self.skipping = False
        if self.skipping or len(self.rest) > SEGMENT_LIMIT:
            self.skipping, self.rest = True, b""
        return segments

    def end(self) -> bytes:
        """Take the end of the stream: what the last segment left without a break."""
        rest, self.rest, self.skipping = self.rest, b"", False
        return rest


def clean(segment: bytes) -> bytes:
    """A segment without escape sequences, control characters, and blanks at its end."""
    if b"\x1b" in segment:
        segment = _ESCAPES.sub(b"", segment).replace(b"\x1b", b"")
    return segment.translate(None, _CONTROLS).rstrip()
