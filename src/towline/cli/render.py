"""Show a run as its events are stored: plain lines, or JSON lines.

Every view reads the journal and the local log only, so that the process that drives a run and
one that watches it show the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from towline.cli.text import Out
from towline.cli.words import Words, event_json

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.instance import RunId
    from towline.core.run import RunRecord
    from towline.store.journal import Event

_POLL_S = 0.1
_EVENTS, _LOG_BYTES = 1000, 1 << 20  # shown in one go
_BLOCK = 65536
_LINE_LIMIT = 65536  # a longer line is shown in pieces
_FAILED_LOG_LINES = 20


class View(Protocol):
    """One way to show a run."""

    #: whether it is shown a run from its beginning, or from now on
    wants_history: bool

    def event(self, event: Event) -> None:
        """Take the next stored event."""

    def log(self, lines: list[str], rest: str) -> None:
        """Take new lines of the log, and the one that is not complete yet."""

    def tick(self) -> None:
        """Show what has changed; called some ten times a second."""

    def close(self) -> None:
        """Leave the screen to what is printed next."""


class PlainView:
    """Quiet lines, one a fact; with ``with_log`` the training's own lines too."""

    wants_history = False

    def __init__(self, out: Out, *, prefix: str = "", with_log: bool = False) -> None:
        self._out = out
        self._prefix = prefix
        self._with_log = with_log
        self._words = Words()

    def event(self, event: Event) -> None:
        """Print a line for an event that people care about."""
        text = self._words.say(event)
        told_by_log = self._with_log and event.kind == "progress"
        if text is not None and not told_by_log:
            self._out.line(self._prefix + text)

    def recap(self, events: list[Event]) -> int:
        """Say the steps so far in a line each; the number of the last event that this covers."""
        last, open_step = 0, None
        for event in events:
            last, text = event.seq, self._words.say(event)
            if event.kind == "step_started":
                open_step = text
            elif event.kind in ("step_done", "step_failed"):
                self._out.line(f"{self._prefix}{text}")
                open_step = None
        if open_step is not None:
            self._out.line(self._prefix + open_step)
        return last

    def log(self, lines: list[str], rest: str) -> None:  # noqa: ARG002 - only a live view redraws
        """Print the log's new lines, if asked to."""
        if self._with_log:
            self._out.lines(f"{self._prefix}| {line}" for line in lines)

    def tick(self) -> None:
        """Do nothing: lines come with the events."""

    def close(self) -> None:
        """Do nothing: nothing is redrawn."""


class JsonView:
    """One event a line."""

    wants_history = False

    def __init__(self, out: Out) -> None:
        self._out = out

    def event(self, event: Event) -> None:
        """Print the event."""
        self._out.json(event_json(event))

    def log(self, lines: list[str], rest: str) -> None:
        """Leave the log out: `logs --json` has it."""

    def tick(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def view_for(out: Out, towline: Towline, run: RunRecord, *, with_log: bool = False) -> View:
    """The view that fits where the output goes."""
    if out.as_json:
        return JsonView(out)
    if out.is_terminal and not out.is_verbose:
        from towline.cli.live import LiveView  # noqa: PLC0415 - rich takes 0.1 s

        return LiveView(out, towline, run)
    return PlainView(out, with_log=with_log)


async def show_run(
    out: Out,
    towline: Towline,
    run_id: RunId,
    view: View,
    is_over: Callable[[], bool],
    *,
    after: int = 0,
) -> None:
    """Feed a view until nothing more will come, at the pace at which it is read.

    Args:
        out: Where the view shows it; while that is behind, no more is read of the run.
        towline: The opened home.
        run_id: Which run.
        view: How it is shown.
        is_over: Says that what is stored by now is all.
        after: Number of the last event that was shown already.
    """
    after = 0 if view.wants_history else after
    log = LogTail(towline.home.run_files(run_id).log)
    log.skip_to_last(_FAILED_LOG_LINES)
    while True:
        over = is_over()  # asked first: what was stored up to this moment is shown below
        if over and out.is_stuck:
            return  # nobody reads; `events` and `logs` have all of it
        if not out.is_behind:
            events = towline.store.events(run_id, after, _EVENTS)
            view.log(log.read(_LOG_BYTES), log.rest)  # what came before a step's end comes before
            for event in events:
                after = event.seq
                view.event(event)
            view.tick()
            if over and len(events) < _EVENTS and log.is_at_end:
                return
        await towline.clock.sleep(_POLL_S)


class LogTail:
    """Read a growing log as lines of text; of a progress bar only the last frame.

    The file may shrink when a new driver takes over; the same bytes come again then, so reading
    goes on at the old place.
    """

    def __init__(self, path: Path, offset: int = 0) -> None:
        self._path = path
        self._offset = offset
        self._rest = b""
        self.is_at_end = True

    def skip_to_last(self, count: int) -> None:
        """Begin at the last ``count`` lines of what is there now."""
        self._offset = offset_of_last(self._path, count)

    def read(self, most_bytes: int = -1) -> list[str]:
        """Read the lines that were completed since the last call, up to a number of bytes."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._offset)
                data = file.read(most_bytes)
        except OSError:
            return []  # it is not there yet, or can't be opened now: the next time
        self._offset += len(data)
        self.is_at_end = len(data) != most_bytes
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = b"\r".join(rest.split(b"\r")[-2:])[-_LINE_LIMIT:]
        return [_last_frame(line) for line in lines]

    @property
    def rest(self) -> str:
        """What the unfinished line shows."""
        return _last_frame(self._rest)


def _last_frame(line: bytes) -> str:
    """What a terminal would show of a line with carriage returns in it."""
    frames = [frame for frame in line.split(b"\r") if frame]
    return frames[-1].decode("utf-8", "replace") if frames else ""


def offset_of_last(path: Path, count: int) -> int:
    """Where the last ``count`` lines of a file begin; found from its end."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        start, data = end, b""
        while start > 0 and data.count(b"\n") <= count:
            start = max(0, end - 2 * len(data) - _BLOCK)
            file.seek(start)
            data = file.read(end - start)
    last = data.split(b"\n")[-count - 1 if data.endswith(b"\n") else -count :] if count else []
    return end - len(b"\n".join(last))
