"""Say how a run ended, or what an error left behind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from towline.cli.common import path_text
from towline.cli.render import LogTail
from towline.cli.text import Out
from towline.core.run import RunRecord, RunState, StepName, done_steps, exit_code
from towline.core.units import seconds_text, size_text, usd_text

if TYPE_CHECKING:
    from towline.api import Towline

_FAILED_LOG_LINES = 20


def tell_end(out: Out, towline: Towline, run: RunRecord) -> int:
    """Say how an ended run went; its exit code."""
    status = towline.status(run)
    error = status["error"]
    if error["kind"] == "TrainingFailed":
        tell_log_end(out, towline, run)
    if not out.as_json:
        out.lines(_end_lines(run, status))
    if run.state is RunState.FAILED:
        out.complain(error["kind"], error["message"], error["hint"])
    if out.as_json:
        out.json(status)
    return exit_code(run, has_model=status["model"]["path"] is not None)


def _end_lines(run: RunRecord, status: dict[str, Any]) -> Iterator[str]:
    results = path_text(run.results_dir)
    yield from _model_lines(status["model"])
    if run.state is RunState.ABORTED:
        yield "Aborted: what was on the instance is discarded."
    elif run.state is not RunState.SUCCEEDED or status["model"]["path"] is None:
        yield f"Run {run.name}: {run.state}; what came home is in {results}"
    took = seconds_text((run.ended_at or run.created_at) - run.created_at)
    yield f"  {took}, {usd_text(status['cost']['spent_usd'])}; the instance is gone"


def _model_lines(model: dict[str, Any]) -> Iterator[str]:
    if model["path"] is not None:
        yield f"Model: {path_text(model['path'])}"
        yield f"  {size_text(model['size_bytes'])}, SHA-256 {model['sha256'][:12]}"


def tell_log_end(out: Out, towline: Towline, run: RunRecord) -> None:
    """Print the last lines of the training's log."""
    tail = LogTail(towline.files(run).log)
    tail.skip_to_last(_FAILED_LOG_LINES)
    lines = tail.read()
    lines += [tail.rest] if tail.rest else []
    if lines:
        out.line("The training's last lines:")
        out.lines(f"| {line}" for line in lines)


def tell_open(out: Out, towline: Towline, run: RunRecord) -> None:
    """After an error that left a run without a driver: what is home, what still runs, what to do."""
    if run.state is not RunState.ACTIVE:
        return
    name = run.name
    out.lines(_model_lines(towline.status(run)["model"]))
    done = done_steps(towline.store.attempts(run.id))
    if StepName.EXECUTE in done and StepName.FOLLOW not in done:
        out.line("Nothing was ended: the training goes on on the instance.")
    rows = [row for row in towline.store.ledger(run.id) if row.gone_at is None]
    for row in rows:
        price = f"{usd_text(row.price_usd_per_h)} an hour" if row.price_usd_per_h else "no money"
        out.line(f"The instance {row.instance_id or row.tag} still runs and costs {price}.")
    out.line(f"`towline resume {name}` goes on with the run, `towline abort {name}` ends it.")
