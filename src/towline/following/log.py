"""The training's log on this machine: appended to, and recorded in the journal as far as it is."""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO, Self

from towline.context import Context
from towline.core.progress import Progress
from towline.core.stream import LogPart, LogStream
from towline.disk import writing
from towline.following.reports import Reports
from towline.home import open_private
from towline.onboard import blocks, codecs

_TAIL_BYTES = 64 * 1024
_RECORD_EVERY_S = 0.2
_WINDOW = 16  # blocks under way: what is told beside them is not to wait long
#: a log that has been ahead of its reader for so long is read in a hurry, for so long at least
_HURRY_AFTER_S = 0.5
_HURRY_S = 5.0


class LogKeeper:
    """One connection's reading of the log; a context manager."""

    def __init__(self, ctx: Context, reports: Reports) -> None:
        self._ctx = ctx
        self._reports = reports
        self._noted_at = 0.0
        self._recorded_at = 0.0
        self._behind_since: float | None = None
        self._hurry_until = 0.0
        self._part: LogPart | None = None  # the newest that is not recorded yet
        self._progress: list[Progress] = []
        fact = ctx.facts().get("log") or {"offset": 0, "size_bytes": 0}
        with writing(self._ctx.files.log):
            self._file = _open_log(ctx, fact)
        self.offset: int = fact["offset"]  # as far as it is recorded
        self._mark: list[int] | None = fact.get("mark")
        self._stream = LogStream(
            ctx.redactor, fact["offset"], fact["size_bytes"], fact.get("parser")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        with writing(self._ctx.files.log):
            self._file.close()

    def wish(self) -> dict[str, Any]:
        """What the instance is asked: from where on, and by what it knows the log again."""
        return {
            "offset": self.offset,
            "mark": self._mark,
            "codecs": codecs.available(),
            "window": _WINDOW,
        }

    def feed(self, block: bytes, *, more_waits: bool = False) -> None:
        """Take the next block of the log; recorded at once, or with what follows hard upon it.

        Args:
            block: As it came; see `onboard.blocks`.
            more_waits: More of the log has come already.
        """
        raw = bytes(blocks.unwrap(block))
        now = self._ctx.clock.monotonic()
        self._behind_since = (self._behind_since or now) if more_waits else None
        if self._behind_since is not None and now - self._behind_since >= _HURRY_AFTER_S:
            self._hurry_until = now + _HURRY_S
        self._keep(self._stream.feed(raw, hurried=now < self._hurry_until))
        if now - self._recorded_at >= _RECORD_EVERY_S:
            self.record()

    def hear(self, remark: dict[str, Any]) -> None:
        """Take what the instance says of the log: all of it has come, or it begins anew."""
        if "idle_s" in remark:
            self.record()
        elif "anew" in remark:
            self._begin_anew()

    def end(self) -> None:
        """Take the end of the log."""
        self._keep(self._stream.end())
        self.record()

    def _begin_anew(self) -> None:
        """The training has cut its log off: what comes now is from its new beginning."""
        part = self._stream.end()
        size = part.size_bytes
        self._stream = LogStream(self._ctx.redactor, 0, size, part.parser_state)
        self._keep(part)
        self._keep(self._stream.feed(b""))
        self.record()

    def record(self) -> None:
        """Write what has come to the local log, then record how far it reaches: rule 2, in that order."""
        part = self._part
        if part is None:
            return
        self._recorded_at = self._ctx.clock.monotonic()
        with writing(self._ctx.files.log):
            self._file.flush()
            self._note_time(self._file.tell())
        fact = {
            "offset": part.offset,
            "size_bytes": part.size_bytes,
            "parser": part.parser_state,
            "mark": part.mark,
        }
        self._reports.record({"log": fact}, [one.data() for one in self._progress])
        self._part, self._progress, self.offset = None, [], part.offset

    def _keep(self, part: LogPart) -> None:
        with writing(self._ctx.files.log):
            self._file.write(part.clean)
        self._progress += part.progress
        self._part = part

    def _note_time(self, size_bytes: int) -> None:
        """Note, once a second, how long the log was when: `logs --since` reads it."""
        now = self._ctx.clock.now()
        if now - self._noted_at >= 1.0:
            self._noted_at = now
            with open_private(self._ctx.files.log_times, "ab") as times:
                times.write(json.dumps({"at": now, "size_bytes": size_bytes}).encode() + b"\n")


def _open_log(ctx: Context, log_fact: dict[str, Any]) -> BinaryIO:
    """Open the local log at its recorded size; what a dead driver wrote beyond is read again."""
    fd = os.open(ctx.files.log, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(fd, "r+b")
    size: int = log_fact["size_bytes"]
    if file.seek(0, os.SEEK_END) < size:  # lost with the power: the instance still has all of it
        log_fact.update(offset=0, size_bytes=0, parser=None, mark=None)
        size = 0
    file.truncate(size)
    file.seek(size)
    return file


def tail(ctx: Context) -> str:
    """The end of the log as it is here."""
    try:
        with ctx.files.log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
