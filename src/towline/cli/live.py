"""The live view: eight steps, transfer, progress, cost and the end of the log, redrawn in place."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any, cast

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from towline.cli.text import Out, Screen, shorten
from towline.cli.words import (
    cost_text,
    machine_words,
    metric_words,
    progress_text,
    transfer_words,
)
from towline.core.run import StepName
from towline.core.units import seconds_text
from towline.plan import STEPS

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import RunRecord
    from towline.store.journal import Event

_LOG_LINES = 8
_REDRAW_S = 0.25
_BAR_WIDTH = 30
_TRANSFERS = {StepName.DELIVER: "upload", StepName.GATHER: "download"}
_MARKS = {"waiting": "·", "active": "●", "done": "✓", "failed": "✗"}
_PLAIN_MARKS = {"waiting": ".", "active": ">", "done": "+", "failed": "x"}
_STYLES = {"waiting": "dim", "active": "bold cyan", "done": "green", "failed": "bold red"}


@dataclass(slots=True)
class _Row:
    """What is known of one step."""

    state: str = "waiting"
    began: float = 0.0
    ended: float | None = None
    notes: list[str] = field(default_factory=list)


class LiveView:
    """A screen that is redrawn while the run goes on, and stays as it was at the end."""

    wants_history = True

    def __init__(self, out: Out, towline: Towline, run: RunRecord) -> None:
        self._out = out
        self._towline = towline
        self._run = run
        self._rows = {step: _Row() for step in StepName}
        self._step: StepName | None = None
        self._log: list[str] = []
        self._rest = ""
        self._drawn_at = 0.0
        screen = cast("IO[str]", Screen(out))
        self._console = Console(file=screen, highlight=False, markup=False, emoji=False)
        utf = "utf" in (self._console.encoding or "").lower()
        self._marks = _MARKS if utf else _PLAIN_MARKS
        self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
        self._live.start()

    def event(self, event: Event) -> None:
        """Note what the event changes on the screen."""
        data = event.data
        match event.kind:
            case "step_started":
                self._step = StepName(data["step"])
                row = self._rows[self._step]
                row.state, row.began, row.ended = "active", row.began or event.at, None
            case "step_done" | "step_failed":
                row = self._rows[StepName(data["step"])]
                row.state, row.ended = event.kind.removeprefix("step_"), event.at
                row.notes += [str(data["result"]["error"])] if "error" in data["result"] else []
            case "note" if self._step is not None:
                self._rows[self._step].notes.append(data["text"])
            case "line_back" if self._step is not None:
                text = f"connected again after {seconds_text(data['silent_s'])}"
                self._rows[self._step].notes.append(text)
        self._drawn_at = 0.0

    def log(self, lines: list[str], rest: str) -> None:
        """Keep the log's end."""
        self._log = [*self._log, *lines][-_LOG_LINES:]
        self._rest = rest

    def tick(self) -> None:
        """Redraw a few times a second."""
        now = self._towline.clock.monotonic()
        if now - self._drawn_at >= _REDRAW_S:
            self._drawn_at = now
            self._live.update(self._screen(), refresh=True)

    def close(self) -> None:
        """Draw the last time; the cursor is below."""
        self._live.update(self._screen(), refresh=True)
        self._live.stop()

    # -- the parts of the screen ----------------------------------------------------------------

    def _screen(self) -> Group:
        facts = self._towline.store.facts(self._run.id)
        status = self._towline.status(self._towline.store.run(self._run.id))
        parts = [self._head(), Text(), self._steps(facts), Text(), *self._figures(status, facts)]
        used = sum(len(self._console.render_lines(part)) for part in parts)
        room = max(0, self._console.height - used - 2)
        log = [*self._log, *([self._rest] if self._rest else [])][-min(_LOG_LINES, room) :]
        if log and room:
            width = self._console.width - 4
            parts += [
                Text("  " + shorten(self._out.clean(line).expandtabs(4), width), style="dim")
                for line in log
            ]
        return Group(*parts)

    def _head(self) -> Text:
        text = f"{self._run.name} ({self._run.id}) on {self._run.provider}"
        return Text(self._out.clean(text), style="bold")

    def _steps(self, facts: dict[str, Any]) -> Table:
        grid = Table.grid(padding=(0, 2, 0, 0), expand=True)
        grid.add_column(no_wrap=True)
        grid.add_column(justify="right", no_wrap=True)
        grid.add_column(ratio=1, overflow="fold")
        for name, row in self._rows.items():
            style = _STYLES[row.state]
            word = Text(f"{self._marks[row.state]} {STEPS[name].shown}", style=style)
            grid.add_row(word, self._elapsed(row), self._sentence(name, row, facts))
        return grid

    def _elapsed(self, row: _Row) -> str:
        if not row.began:
            return ""
        return seconds_text(max(0.0, (row.ended or self._towline.clock.now()) - row.began))

    def _sentence(self, name: StepName, row: _Row, facts: dict[str, Any]) -> Text | Table:
        if row.state == "active":
            if (since := facts.get("unreachable_since")) is not None:
                silent = seconds_text(self._towline.clock.now() - since)
                return Text(f"unreachable for {silent}; the instance goes on", style="yellow")
            moved = facts.get("transfer") or {}
            if moved.get("direction") == _TRANSFERS.get(name) and moved.get("at", 0) >= row.began:
                return _transfer(moved)
            status = facts.get("status") or {}
            if status.get("at", 0) >= row.began:
                return Text(self._out.clean(status["text"]))
        return Text(self._out.clean("; ".join(row.notes)))

    def _figures(self, status: dict[str, Any], facts: dict[str, Any]) -> list[Text | Table]:
        """Progress and money, once there are any."""
        parts: list[Text | Table] = []
        progress, cost = status["progress"], status["cost"]
        if said := progress_text(progress | {"metrics": {}}):
            words = [said]
            if progress["eta_s"] is not None:
                words.append(f"{seconds_text(progress['eta_s'])} left")
            parts.append(_bar(progress["fraction"] or 0.0, "  ".join(words)))
        if progress["metrics"]:
            parts.append(Text(self._out.clean("  ".join(metric_words(progress["metrics"])))))
        is_training = self._step is StepName.FOLLOW and facts.get("training") is None
        if is_training and (busy := machine_words(status["machine"])):
            parts.append(Text(self._out.clean("  ".join(busy)), style="dim"))
        if is_training and status["stalled"]:
            parts.append(Text(self._out.clean(status["stalled"]["text"]), style="yellow"))
        if status["instance"]["price_usd_per_hour"]:
            parts.append(Text(cost_text(cost)))
        if facts.get("training") is None:
            parts.append(Text("Ctrl-C detaches; the run goes on.", style="dim"))
        return parts


def _transfer(moved: dict[str, Any]) -> Table:
    done, total = moved["bytes"], moved["total_bytes"]
    return _bar(done / total if total else 1.0, "  ".join(transfer_words(moved)))


def _bar(fraction: float, words: str) -> Table:
    grid = Table.grid(padding=(0, 1, 0, 0))
    grid.add_row(ProgressBar(1.0, fraction, width=_BAR_WIDTH), f"{fraction:4.0%}", words)
    return grid
