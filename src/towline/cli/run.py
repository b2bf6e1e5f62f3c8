"""`towline train` and `towline demo`: from arguments to a run, and then on to its end."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli.arguments import task_from, task_options
from towline.cli.common import json_option, opened, path_text, sweep, yes_option
from towline.cli.text import Out
from towline.errors import SpecError

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import RunRecord
    from towline.core.task import TaskSpec
    from towline.starting import Checked


@click.command()
@task_options
@click.option("--detach", is_flag=True, help="Leave the run to a background driver.")
@yes_option
@json_option
@click.pass_obj
def train(out: Out, /, target: str | None, **given: Any) -> int:
    """Run a task: rent, upload, train, bring the model back, terminate.

    The task is read from -f FILE, from FOLDER/towline.yaml, or from ./towline.yaml. A DATASET
    takes the place of the task's own. Ctrl-C detaches: the run goes on in the background.
    """
    task, base = task_from(target, given)
    _require_consent(given)
    with opened(out) as towline:
        checked = towline.check(task, base)
        _show_dataset(out, checked)
        sweep(out, towline)
        if not given["yes"] and not _agreed(out, towline, task):
            out.line("Nothing was rented.")
            return 2
        go = _detached if given["detach"] else _driven
        return _stored(out, towline, go, lambda: towline.create(task, base, checked))


def _show_dataset(out: Out, checked: Checked) -> None:
    """Say what the dataset is, and what is odd in it, before anything is rented."""
    from towline.cli.data import dataset_lines  # noqa: PLC0415 - `--help` needs none of it

    lines = dataset_lines(checked.dataset.data()) if checked.dataset else []
    out.lines([f"{'  ' if number else 'Dataset: '}{line}" for number, line in enumerate(lines)])


@click.command()
@click.option(
    "--folder",
    default="towline-demo",
    show_default=True,
    metavar="F",
    help="Where the project is written.",
)
@click.pass_obj
def demo(out: Out, folder: str) -> int:
    """Train a real small model on this machine, with no account.

    Writes 1,797 images of handwritten digits, a training script and a task file, and runs the
    whole way with the built-in provider `local`.
    """
    from towline.demo import write_project  # noqa: PLC0415
    from towline.taskfile import FILE_NAME, load  # noqa: PLC0415

    project = write_project(Path(folder)).absolute()
    out.line(f"Project: {path_text(str(project))}")
    task = load(project / FILE_NAME)
    task = replace(task, resources=replace(task.resources, provider="local"))
    with opened(out) as towline:
        results = project / "runs"
        checked = towline.check(task, project, results)
        return _stored(
            out, towline, _driven, lambda: towline.create(task, project, checked, results)
        )


def _stored(
    out: Out,
    towline: Towline,
    go: Callable[[Out, Towline, RunRecord], int],
    create: Callable[[], RunRecord],
) -> int:
    """Store a run and go on with it; a signal in between waits until there is a driver."""
    from towline.cli.drive import signals_held  # noqa: PLC0415

    with signals_held():
        return go(out, towline, create())


def _driven(out: Out, towline: Towline, run: RunRecord) -> int:
    from towline.cli.drive import drive_here  # noqa: PLC0415

    with out.unblocked():
        if not out.is_terminal:
            out.line(f"Run {run.name} ({run.id}) on {' or '.join(run.providers)}")
        return drive_here(out, towline, run)


def _detached(out: Out, towline: Towline, run: RunRecord) -> int:
    from towline.cli.background import in_background  # noqa: PLC0415
    from towline.cli.drive import wait_for_driver  # noqa: PLC0415

    process = in_background(towline, run.id)
    asyncio.run(wait_for_driver(towline, run.id, process))
    out.line(
        f"Run {run.name} ({run.id}) goes on in the background; `towline attach {run.name}`"
        f" shows it, `towline stop {run.name}` ends it."
    )
    if out.as_json:
        out.json(towline.status(towline.store.run(run.id)))
    return 0


# -- asking before money is spent -----------------------------------------------------------------


def _require_consent(given: dict[str, Any]) -> None:
    """Without a terminal nobody can be asked, so only -y may rent."""
    if not given["yes"] and not sys.stdin.isatty():
        raise SpecError(
            "there is no terminal to ask on; nothing was rented",
            hint="add -y to go on without a question",
        )


def _agreed(out: Out, towline: Towline, task: TaskSpec) -> bool:
    """Show what would be rented and ask; what is free needs no question."""
    from towline.cli.words import ceiling_text  # noqa: PLC0415 - `--help` needs none of it

    market = asyncio.run(towline.quote(task))
    offer = market.offers[0]
    if not offer.hour_usd:
        return True
    for note in market.notes():
        out.line(note)
    out.line(f"Offer: {offer}")
    out.line(f"Cost: {ceiling_text(task.limits.ceiling_usd(offer.hour_usd))}")
    return out.ask("Rent it?")
