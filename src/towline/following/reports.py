"""What a training reports of itself, recorded: each report once, together with how far was read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from towline.context import Context
from towline.core import standing
from towline.core.side_files import SIDE_NAMES


class Reports:
    """All that was reported in a run, by the log and by side files."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._newest: dict[str, Any] | None = ctx.facts().get("progress")
        #: called with each report once it is recorded
        self.on_report: Callable[[dict[str, Any]], None] = lambda _data: None

    def record(self, facts: dict[str, Any], reports: list[dict[str, Any]]) -> None:
        """Store reports as events, with the facts that say what they were read from."""
        newest, at = self._newest, self._ctx.clock.now()
        for data in reports:
            newest = standing.newest(newest, data, at, SIDE_NAMES)
        if reports:
            facts = facts | {"progress": newest}
        self._ctx.journal.advance(facts, [("progress", data) for data in reports])
        self._newest = newest
        for data in reports:
            self.on_report(data)
