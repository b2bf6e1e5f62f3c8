"""Side files on their way home: what the instance sends of them is read, each row once.

How far a file was read, what its reader remembers and the rows go to the journal together: a
driver that dies loses and doubles none. A file that was written anew is read anew; rows of it
that were recorded already are dropped.
"""

from __future__ import annotations

import base64
import json
from typing import Any

from towline.context import Context
from towline.core.side_files import SIDE_NAMES, reader
from towline.core.units import size_text
from towline.following.reports import Reports

_MOST_REMEMBERED = 200_000


class SideFiles:
    """The side files of one run, in the hands of one driver."""

    def __init__(self, ctx: Context, reports: Reports) -> None:
        self._ctx = ctx
        self._reports = reports
        self._known: dict[str, dict[str, Any]] = ctx.facts().get("sides") or {}
        self._readers: dict[str, Any] = {}
        self._refused: set[str] = set()
        self._recorded: set[str] | None = None

    def wish(self) -> dict[str, Any]:
        """What the instance is asked: names to look for, and where each known file stands."""
        self._readers.clear()
        known = {
            path: {"offset": row["offset"], "mark": row["mark"]}
            for path, row in self._known.items()
        }
        return {"names": [[name, _is_whole(name)] for name in SIDE_NAMES], "known": known}

    def take(self, frame: dict[str, Any]) -> bool:
        """Take one piece of a file; says whether something new was reported."""
        path, data = str(frame["side"]), base64.b64decode(frame["data"])
        side, reports = self._read(path, data, at_start=frame["offset"] == 0)
        if side is None:
            return False
        reports = [one | {"file": path} for one in reports]
        fresh = [one for one in reports if self._is_new(one)]
        row = {"offset": frame["end"], "mark": frame["mark"], "state": side.state()}
        known = self._known | {path: row}
        self._reports.record({"sides": known}, fresh)
        self._known = known
        return bool(fresh)

    def left(self, frame: dict[str, Any]) -> None:
        """Say that a file is too large to be followed."""
        size = size_text(frame["size_bytes"])
        self._ctx.note(f"{frame['side_left']} is not followed: {size} are too much")

    def _read(self, path: str, data: bytes, *, at_start: bool) -> tuple[Any, list[dict[str, Any]]]:
        """Feed a file's reader; a reader that can't stand its file gives up without harm."""
        if path in self._refused:
            return None, []
        side = self._readers.get(path)
        try:
            if side is None or (at_start and not side.whole):
                side = self._readers[path] = self._reader(path, at_start=at_start)
            return side, [progress.data() for progress in side.feed(data)] if side else []
        except Exception as error:  # noqa: BLE001 - an odd file must not end a run
            self._refused.add(path)
            self._ctx.note(f"{path} can't be read for progress ({type(error).__name__}: {error})")
            return None, []

    def _reader(self, path: str, *, at_start: bool) -> Any:
        """A reader that goes on where the last one was; from the start, where the file is new."""
        state = (self._known.get(path) or {}).get("state")
        return reader(path, None if at_start and not _is_whole(path) else state)

    def _is_new(self, data: dict[str, Any]) -> bool:
        """Whether no side file has reported this before."""
        if self._recorded is None:
            events = self._ctx.journal.store.events(self._ctx.run.id)
            old = [event.data for event in events if event.kind == "progress"]
            self._recorded = {_print(one) for one in old if "file" in one}
        mark = _print(data)
        if mark in self._recorded:
            return False
        if len(self._recorded) < _MOST_REMEMBERED:
            self._recorded.add(mark)
        return True


def _print(data: dict[str, Any]) -> str:
    """What two reports have in common that say the same."""
    name = data["file"].rpartition("/")[2]
    rest = [data.get("epoch"), data.get("step"), sorted(data["metrics"].items())]
    return json.dumps([name, *rest])


def _is_whole(name: str) -> bool:
    side = reader(name.replace("*", "x").replace("?", "x"))
    return bool(side is not None and side.whole)
