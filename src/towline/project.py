"""The task's local side: which files go, what stays out, what the instance will call them.

Checks everything a user may have got wrong before anything is rented.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass
from pathlib import Path

from towline import recipe
from towline.core.layout import RemoteLayout
from towline.core.task import Scalar, TaskSpec
from towline.errors import SpecError


@dataclass(frozen=True, slots=True)
class Project:
    """A task and the folder its relative paths start from."""

    task: TaskSpec
    base: Path
    results_dir: str
    home: Path  # TOWLINE_HOME, which is never uploaded

    def sources(self) -> dict[str, Path]:
        """What is uploaded, by its name on the instance, in the order it is sent."""
        named = {"dataset": self.dataset, "code": self.code}
        return {name: path for name, path in named.items() if path is not None}

    @property
    def dataset(self) -> Path | None:
        """The dataset's local path."""
        return self._path(self.task.dataset)

    @property
    def code(self) -> Path | None:
        """The code's local folder."""
        return self._path(self.task.code)

    def excluded(self, name: str) -> tuple[Path, ...]:
        """Local paths that are no part of an upload: results, towline's own state, and for the code
        the dataset inside it."""
        results = Path(self.results_dir)
        inside = [self.home, results.parent if results.parent.name == "runs" else results]
        if name == "code" and self.dataset is not None:
            inside.append(self.dataset)
        return tuple(inside)

    def links(self, layout: RemoteLayout) -> list[list[str]]:
        """Where the dataset lies inside the code: the same relative path leads to it there."""
        code, dataset = self.code, self.dataset
        if code is None or dataset is None or not dataset.is_relative_to(code) or dataset == code:
            return []
        inner = dataset.relative_to(code).as_posix()
        return [[f"{layout.code}/{inner}", self.remote_dataset(layout)]]

    def remote_dataset(self, layout: RemoteLayout) -> str:
        """$TOWLINE_DATASET: the folder, or the one file."""
        dataset = self.dataset
        if dataset is None or dataset.is_dir():
            return layout.dataset
        return f"{layout.dataset}/{dataset.name}"

    @property
    def recipe(self) -> recipe.Recipe | None:
        """The recipe that trains, None where the task has a command of its own.

        Raises:
            SpecError: The framework has no recipe.
        """
        return None if self.task.command is not None else recipe.find(self.task.framework)

    def settings(self) -> dict[str, Scalar]:
        """The settings: a recipe's all with their values, else what the task says.

        Raises:
            SpecError: The recipe does not take them.
        """
        found = self.recipe
        return dict(self.task.settings) if found is None else found.validated(self.task.settings)

    def command(self, layout: RemoteLayout) -> str:
        """What the instance runs: the task's own command, or the recipe's script."""
        found = self.recipe
        if self.task.command is not None or found is None:
            return self.task.command or ""
        return f"python {shlex.quote(_script_path(layout, found))}"

    def scripts(self, layout: RemoteLayout) -> dict[str, str]:
        """Text files that the instance needs besides what is uploaded, by their paths there."""
        found = self.recipe
        return {} if found is None else {_script_path(layout, found): found.script()}

    def requirements(self) -> list[str]:
        """Lines of the requirements, without comments; [] for none.

        A recipe's own come first. An empty list in the task says that the instance has all it needs.

        Raises:
            SpecError: The file is missing or unreadable.
        """
        found = self.recipe
        if found is None or self.task.requirements == []:
            return self._own_requirements()
        needed = found.needs(self.settings())
        return needed + [line for line in self._own_requirements() if line not in needed]

    def _own_requirements(self) -> list[str]:
        wanted = self.task.requirements
        if wanted is None:
            return []
        if isinstance(wanted, list):
            return wanted
        path = self._path(wanted)
        assert path is not None  # noqa: S101 - wanted is a str here
        try:
            lines = path.read_text("utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            message = f"requirements: {path} can't be read: {error}"
            raise SpecError(
                message, hint="correct the path, or list the packages in the task"
            ) from error
        return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]

    def check(self) -> None:
        """Find what is wrong before money is spent.

        Raises:
            SpecError: Names what, where, why, and what to do.
        """
        self.settings()
        if self.recipe is not None and self.dataset is None:
            message = f"the recipe {self.recipe.name} needs a dataset, and the task names none"
            hint = "`towline train ./dataset`, or `dataset: ./dataset` in the task file"
            raise SpecError(message, hint=hint)
        for key, path in (("dataset", self.dataset), ("code", self.code)):
            if path is not None and not path.exists():
                message = f"{key}: {path} does not exist"
                raise SpecError(message, hint=f"correct `{key}`, or run towline from its folder")
        if self.code is not None and not self.code.is_dir():
            raise SpecError(f"code: {self.code} is a file", hint="name the folder that holds it")
        self._check_script()
        self.requirements()

    def _check_script(self) -> None:
        """A command that names a local file, in a task that uploads no code, can't work."""
        if self.code is not None or self.task.command is None:
            return
        try:
            words = shlex.split(self.task.command)
        except ValueError:
            return  # a shell may read it all the same
        for word in words:
            if (
                word.endswith((".py", ".sh"))
                and not Path(word).is_absolute()
                and (self.base / word).exists()
            ):
                message = f"the command names {word}, but no code is uploaded"
                raise SpecError(message, hint="add `code: .` to the task file")

    def _path(self, text: str | None) -> Path | None:
        return None if text is None else (self.base / Path(text).expanduser()).absolute()


def _script_path(layout: RemoteLayout, found: recipe.Recipe) -> str:
    return f"{layout.root}/recipe/{found.name}.py"


def requirements_key(lines: list[str], python_version: str, code_sha256: str | None) -> str:
    """Name of the venv for these requirements; local ones (`-e .`, `-r more.txt`) depend on the
    code too."""
    local = any(line.startswith(("-", ".", "/")) or "file:" in line for line in lines)
    parts = [python_version, *lines, code_sha256 or "" if local else ""]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:20]
