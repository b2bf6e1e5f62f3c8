"""From a command line to a task: the arguments that `train` and `plan` share."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towline.errors import SpecError

if TYPE_CHECKING:
    from towline.core.task import TaskSpec

_F = TypeVar("_F", bound=Callable[..., Any])

_OPTIONS = (
    click.argument("target", required=False, metavar="[DATASET or FOLDER]"),
    click.option("-f", "--file", metavar="FILE", help="Task file; default ./towline.yaml."),
    click.option("--framework", metavar="F", help="Framework of the recipe."),
    click.option(
        "--provider", metavar="P", help="Where to rent: one, several with commas, or any."
    ),
    click.option("--host", metavar="USER@ADDR[:PORT]", help="Your own machine, for provider ssh."),
    click.option("--identity", metavar="FILE", help="Private key to log in there with."),
    click.option("--known-hosts", metavar="FILE", help="Host keys you trust; ~/.ssh/known_hosts."),
    click.option("--gpu", metavar="G", help="GPU to rent, such as H100:1."),
    click.option("--epochs", type=click.IntRange(1), metavar="N", help="Short for --set epochs=N."),
    click.option("--set", "settings", multiple=True, metavar="K=V", help="A recipe's setting."),
    click.option(
        "--max-cost",
        type=click.FloatRange(0, min_open=True),
        metavar="USD",
        help="End the training at this sum.",
    ),
    click.option(
        "--upload",
        type=click.Choice(["auto", "stream", "zip", "files"]),
        help="How the upload travels.",
    ),
)


def task_options(command: _F) -> _F:
    """Add the arguments that say what to run, and where."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def task_from(target: str | None, given: dict[str, Any]) -> tuple[TaskSpec, Path]:
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
        command=task.command if given["framework"] in {None, "custom"} else None,
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
