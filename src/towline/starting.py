"""A run's beginning: everything that can be checked before money is spent, then its record."""

from __future__ import annotations

import os
import re
import secrets as random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from towline import errors, taskfile
from towline.core.instance import run_id_from
from towline.core.redact import Redactor
from towline.core.run import Attempt, RunRecord, RunState, StepName
from towline.core.task import TaskSpec
from towline.dataset.report import Report
from towline.project import Project
from towline.store.journal import Journal, Store
from towline.transfer.scan import Scan, scan

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_UNSET_HINT = (
    "`export {0}=...` and try again: without it, it can't be kept out of the log."
    " `towline abort` ends a run without it"
)


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found before money is spent.

    ``scans`` is what would be sent, by its name on the instance; ``providers`` are those that the
    task may rent from.
    """

    scans: dict[str, Scan]
    dataset: Report | None
    providers: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Size of all that would be sent."""
        return sum(one.manifest.size_bytes for one in self.scans.values())


def check(
    task: TaskSpec, base: Path, results_root: Path | None, redactor: Redactor, home: Path
) -> Checked:
    """Find what is wrong with a task; nothing is stored.

    Raises:
        SpecError: Names what, where, why, and what to do.
    """
    project = Project(task, base, str(_root(results_root) / "any"), home)
    project.check()
    _check_secrets(task, redactor)
    run_name(task, base)
    scans = {
        name: scan(source, exclude=project.excluded(name))
        for name, source in project.sources().items()
    }
    return Checked(scans, _look_at_dataset(project, scans.get("dataset")))


def _look_at_dataset(project: Project, scan: Scan | None) -> Report | None:
    """Look into the dataset of a task, which the task's recipe must be able to train on."""
    from towline.dataset.check import check as look  # noqa: PLC0415 - not every command needs it

    if scan is None:
        return None
    name = None if project.recipe is None else project.recipe.name
    report = look(scan, name, project.settings())
    if report.fatal:
        first = report.fatal[0]
        more = f" (and {len(report.fatal) - 1} more)" if len(report.fatal) > 1 else ""
        text = f"dataset: {first}{more}" if first.path else f"{first}{more}"
        raise errors.SpecError(text, hint=first.hint)
    return report


def create(
    task: TaskSpec,
    base: Path,
    results_root: Path | None,
    checked: Checked,
    store: Store,
    now: float,
) -> RunRecord:
    """Make the results folder and store a run of a checked task.

    Raises:
        SpecError: The results folder can't be made.
    """
    name = run_name(task, base)
    task = replace(task, name=name)
    run = RunRecord(
        id=run_id_from(random.token_bytes(8)),
        name=name,
        state=RunState.ACTIVE,
        task={
            "spec": taskfile.as_data(task),
            "base": str(base.absolute()),
            "bytes": checked.size_bytes,
        },
        provider=",".join(checked.providers),
        results_dir="",
        created_at=now,
        nonce=random.token_hex(16),
    )
    root = _root(results_root)
    return store.create_run(run, lambda free: _claim_folder(root, free))


def stored_task(run: RunRecord, attempts: list[Attempt], journal: Journal) -> TaskSpec:
    """The run's task. Strictly read where a training is still to be started by it.

    Otherwise what another version of towline stored must not keep a run from being brought home
    and ended: what is not understood is left out, and a note says so.

    Raises:
        SpecError: Something of it is not understood, and nothing was started yet.
    """
    where = f"the stored task of run {run.name}"
    is_under_way = any(attempt.step is StepName.EXECUTE for attempt in attempts)
    if not is_under_way and run.wish is None and run.error is None:
        try:
            return taskfile.validate(run.task["spec"], where)
        except errors.SpecError as error:
            hint = (
                "another version of towline stored it, which can go on with it;"
                f" `towline abort {run.name}` ends the run with this one"
            )
            raise errors.SpecError(error.message, hint=hint) from error
    task, left = taskfile.as_stored(run.task["spec"], where)
    if left and journal.store.facts(run.id).get("task_left_out") != left:
        notes = [("note", {"text": f"left out of what is done: {one}"}) for one in left]
        journal.advance({"task_left_out": left}, notes)
    return task


def provider_names(task: TaskSpec, accounts: Callable[[], list[str]]) -> list[str]:
    """The providers that a task may rent from: one or several, `any` for all accounts.

    A task that names none runs on its `host`; with a GPU on any account; else on this machine.

    Raises:
        SpecError: It wants a GPU or any account, and there is none.
    """
    wanted = task.resources.provider
    if isinstance(wanted, str):
        wanted = [name.strip() for name in wanted.split(",") if name.strip()]
    if wanted is None and (task.resources.host or task.resources.gpu is None):
        return ["ssh" if task.resources.host else "local"]
    if wanted and "any" not in wanted:
        return list(dict.fromkeys(wanted))
    if found := accounts():
        return found
    what = f"a GPU ({task.resources.gpu})" if task.resources.gpu else "any account"
    message = f"the task asks for {what}, and no account is set up"
    hint = "`towline login PROVIDER` sets one up; or name a `provider`"
    raise errors.SpecError(message, hint=hint)


def run_name(task: TaskSpec, base: Path) -> str:
    """The run's name: the task's own, else made from the folder's.

    Raises:
        SpecError: The task's name has letters a name can't have.
    """
    if task.name is not None:
        if not _NAME.fullmatch(task.name):
            message = f"name: {task.name!r} is no run name"
            hint = "use a to z, 0 to 9, - and _, 41 characters at most, a letter or digit first"
            raise errors.SpecError(message, hint=hint)
        return task.name
    plain = re.sub(r"[^a-z0-9_-]+", "-", base.absolute().name.lower()).strip("-_")[:41]
    return plain or "run"


def secrets_of(task: TaskSpec, redactor: Redactor) -> dict[str, str]:
    """Values of the task's secrets, known to the redactor before anything else sees them.

    Raises:
        SpecError: One is not set in this shell, or too short to be masked.
    """
    values = {}
    for name in task.secrets:
        value = os.environ.get(name)
        if not value:
            message = f"the task names the secret {name}, which is not set in this shell"
            raise errors.SpecError(message, hint=_UNSET_HINT.format(name))
        try:
            redactor.add(value)
        except ValueError as error:
            message = f"the secret {name} can't be kept out of the log: {error}"
            raise errors.SpecError(message, hint="use a longer one") from error
        values[name] = value
    return values


def _check_secrets(task: TaskSpec, redactor: Redactor) -> None:
    """Every named secret is there, and none stands in the task itself."""
    secrets_of(task, redactor)
    data = taskfile.as_data(task)
    for key, value in data.items():
        if redactor.value({key: value}) != {key: value}:
            message = f"`{key}` in the task seems to hold a secret"
            hint = (
                "put it into an environment variable of this shell and name that variable:"
                " `secrets: [NAME]`; the training sees it under the same name"
            )
            raise errors.SpecError(message, hint=hint)


def _root(results_root: Path | None) -> Path:
    return (results_root or Path("runs")).absolute()


def _claim_folder(root: Path, name: str) -> str | None:
    folder = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        if not root.is_dir():
            raise _unwritable(folder, error) from error
        return None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return str(folder)


def _unwritable(folder: Path, error: OSError) -> errors.SpecError:
    message = f"the results folder {folder} can't be made: {error.strerror}"
    return errors.SpecError(
        message, hint="run towline in a folder you can write; nothing was rented"
    )
