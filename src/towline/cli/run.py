"""`towline train` and `towline demo`: from arguments to a run, and then on to its end."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline.cli.common import json_option, opened, path_text, yes_option
from towline.cli.text import Out
from towline.errors import SpecError

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.instance import Offer
    from towline.core.run import RunRecord
    from towline.core.task import TaskSpec

_S_PER_H = 3600


@click.command()
@click.argument("target", required=False, metavar="[DATASET or FOLDER]")
@click.option("-f", "--file", metavar="FILE", help="Task file; default ./towline.yaml.")
@click.option("--framework", metavar="F", help="Framework of the recipe.")
@click.option("--provider", metavar="P", help="Where to rent: local, ssh.")
@click.option("--host", metavar="USER@ADDR[:PORT]", help="Your own machine, for provider ssh.")
@click.option("--identity", metavar="FILE", help="Private key to log in there with.")
@click.option("--known-hosts", metavar="FILE", help="Host keys you trust; ~/.ssh/known_hosts.")
@click.option("--gpu", metavar="G", help="GPU to rent, such as H100:1.")
@click.option("--epochs", type=click.IntRange(1), metavar="N", help="Short for --set epochs=N.")
@click.option("--set", "settings", multiple=True, metavar="K=V", help="A recipe's setting.")
@click.option(
    "--max-cost",
    type=click.FloatRange(0, min_open=True),
    metavar="USD",
    help="End the training at this sum.",
)
@click.option(
    "--upload",
    type=click.Choice(["auto", "stream", "zip", "files"]),
    help="How the upload travels.",
)
@click.option("--detach", is_flag=True, help="Leave the run to a background driver.")
@yes_option
@json_option
@click.pass_obj
def train(out: Out, /, target: str | None, **given: Any) -> int:
    """Run a task: rent, upload, train, bring the model back, terminate.

    The task is read from -f FILE, from FOLDER/towline.yaml, or from ./towline.yaml. A DATASET
    takes the place of the task's own. Ctrl-C detaches: the run goes on in the background.
    """
    task, base = _task_from(target, given)
    _require_consent(given)
    with opened(out) as towline:
        towline.check(task, base)
        if not given["yes"] and not _agreed(out, towline, task):
            out.line("Nothing was rented.")
            return 2
        go = _detached if given["detach"] else _driven
        return _stored(out, towline, go, lambda: towline.create(task, base))


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
        towline.check(task, project, results)
        return _stored(out, towline, _driven, lambda: towline.create(task, project, results))


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

    if not out.is_terminal:
        out.line(f"Run {run.name} ({run.id}) on {run.provider}")
    return drive_here(out, towline, run)


def _detached(out: Out, towline: Towline, run: RunRecord) -> int:
    from towline.cli.drive import in_background, wait_for_driver  # noqa: PLC0415

    process = in_background(towline, run.id)
    asyncio.run(wait_for_driver(towline, run.id, process))
    out.line(
        f"Run {run.name} ({run.id}) goes on in the background; `towline attach {run.name}`"
        f" shows it, `towline stop {run.name}` ends it."
    )
    if out.as_json:
        out.json(towline.status(towline.store.run(run.id)))
    return 0


# -- from arguments to a task ---------------------------------------------------------------------


def _task_from(target: str | None, given: dict[str, Any]) -> tuple[TaskSpec, Path]:
    """The task, and the folder that its relative paths start from."""
    from towline import taskfile  # noqa: PLC0415
    from towline.core.task import TaskSpec  # noqa: PLC0415

    file = _task_file(target, given["file"])
    if file is None and target is None:
        raise SpecError(
            f"there is no {taskfile.FILE_NAME} in this folder, and no dataset was named",
            hint="write one (docs/task-file.md), name one with -f, or see `towline train --help`",
        )
    task, base = (taskfile.load(file), file.parent) if file else (TaskSpec(), Path())
    if target is not None and not _is_project(target, given["file"]):
        task = replace(task, dataset=_local(target, "dataset"))
    return _with_options(_anchored(task, base), given), base.absolute()


def _task_file(target: str | None, named: str | None) -> Path | None:
    from towline.taskfile import FILE_NAME  # noqa: PLC0415

    if named is not None:
        return Path(named).expanduser()
    if target is not None and _is_project(target, named):
        return Path(target) / FILE_NAME
    return Path(FILE_NAME) if Path(FILE_NAME).exists() else None


def _is_project(target: str, named: str | None) -> bool:
    """Whether the argument is a folder with a task file; with -f it is a dataset in any case."""
    from towline.taskfile import FILE_NAME  # noqa: PLC0415

    return named is None and (Path(target) / FILE_NAME).is_file()


def _anchored(task: TaskSpec, base: Path) -> TaskSpec:
    """Let key files of the task file start from its folder, like its other paths."""
    paths: dict[str, Any] = {
        key: str((base / Path(value).expanduser()).absolute())
        for key in ("identity", "known_hosts")
        if (value := getattr(task.resources, key)) is not None
    }
    return replace(task, resources=replace(task.resources, **paths))


def _with_options(task: TaskSpec, given: dict[str, Any]) -> TaskSpec:
    """Let the command line have the last word."""
    wanted: dict[str, Any] = {
        key: given[key] for key in ("provider", "host", "gpu") if given[key] is not None
    }
    for key in ("identity", "known_hosts"):
        if given[key] is not None:
            wanted[key] = _local(given[key], key)
    settings = dict(task.settings) | dict(_setting(text) for text in given["settings"])
    if given["epochs"] is not None:
        settings["epochs"] = given["epochs"]
    max_cost = task.limits.max_cost if given["max_cost"] is None else given["max_cost"]
    return replace(
        task,
        settings=settings,
        framework=given["framework"] or task.framework,
        upload=given["upload"] or task.upload,
        resources=replace(task.resources, **wanted),
        limits=replace(task.limits, max_cost=max_cost),
    )


def _setting(text: str) -> tuple[str, str | int | float | bool | None]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise SpecError(f"--set {text}: no key=value", hint="write --set lr=0.01")
    try:
        plain = json.loads(value)
    except ValueError:
        return key, value
    return key, plain if isinstance(plain, str | int | float | bool) or plain is None else value


def _local(text: str, what: str) -> str:
    """Absolute form of a path on the command line, which starts from the current folder."""
    path = Path(text).expanduser().absolute()
    if not path.exists():
        raise SpecError(f"{what}: {path} does not exist", hint="correct the path")
    return str(path)


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
    offer = asyncio.run(towline.quote(task))[0]
    if offer.price_usd_per_h <= 0:
        return True
    out.line(f"Offer: {offer}")
    out.line(f"Cost: {_ceiling_text(task, offer)}")
    return out.ask("Rent it?")


def _ceiling_text(task: TaskSpec, offer: Offer) -> str:
    """What is known of the cost before the training has said how long it takes."""
    from towline.core.units import usd_text  # noqa: PLC0415

    limits = task.limits
    sums = [limits.max_cost] if limits.max_cost is not None else []
    if limits.max_duration is not None:
        sums.append(limits.max_duration / _S_PER_H * offer.price_usd_per_h)
    if not sums:
        return "no limit is set (limits: max_cost, max_duration); known once epochs are reported"
    return f"{usd_text(min(sums))} at most, by the task's limits"
