"""The training's log on this machine: appended to, and recorded in the journal as far as it is."""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO, Self

from towline.context import Context
from towline.core.stream import LogPart, LogStream
from towline.following.reports import Reports
from towline.home import open_private

_TAIL_BYTES = 64 * 1024


class LogKeeper:
    """One connection's reading of the log; a context manager."""

    def __init__(self, ctx: Context, reports: Reports) -> None:
        self._ctx = ctx
        self._reports = reports
        self._noted_at = 0.0
        fact = ctx.facts().get("log") or {"offset": 0, "size_bytes": 0}
        self._file = _open_log(ctx, fact)
        self.offset: int = fact["offset"]  # where reading begins on the instance
        self._stream = LogStream(
            ctx.redactor, fact["offset"], fact["size_bytes"], fact.get("parser")
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._file.close()

    def feed(self, raw: bytes) -> None:
        """Take the next bytes of the log."""
        self._keep(self._stream.feed(raw))

    def end(self) -> None:
        """Take the end of the log."""
        self._keep(self._stream.end())

    def _keep(self, part: LogPart) -> None:
        """Append to the local log, then record how far it reaches: rule 2, in that order."""
        if part.clean:
            self._file.write(part.clean)
            self._file.flush()
            self._note_time(self._file.tell())
        fact = {
            "offset": part.offset,
            "size_bytes": part.size_bytes,
            "parser": part.parser_state,
        }
        self._reports.record({"log": fact}, [one.data() for one in part.progress])

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
        log_fact.update(offset=0, size_bytes=0, parser=None)
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
