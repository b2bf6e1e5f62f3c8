"""What stays at home: names that are never wanted, and the user's own `.towlineignore` files.

Owns the rules and their order; knows nothing of hashing or sending. `.gitignore` is not read: it
says what is not source, and data rarely is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from pathspec import GitIgnoreSpec
from pathspec.patterns.gitignore import GitIgnorePatternError

from towline.core.manifest import shown
from towline.errors import SpecError

IGNORE_FILE = ".towlineignore"
_VENV_MARK = "pyvenv.cfg"
_VENV = "virtual environment"
#: pattern, and why it is never wanted; `!pattern` in .towlineignore brings it back
_DEFAULTS = {
    ".git": "version control",
    ".hg": "version control",
    ".svn": "version control",
    "__pycache__/": "cache",
    "*.pyc": "cache",
    ".mypy_cache/": "cache",
    ".pytest_cache/": "cache",
    ".ruff_cache/": "cache",
    ".ipynb_checkpoints/": "cache",
    ".tox/": _VENV,
    ".venv": _VENV,
    "venv/": _VENV,
    "node_modules/": "installed packages",
    ".DS_Store": "system file",
    "Thumbs.db": "system file",
    ".env": "may hold secrets",
    ".env.*": "may hold secrets",
}


_GROUP = re.compile(r"\(\?P<\w+>")


@dataclass(frozen=True, slots=True)
class _Rules:
    """The rules of one folder; they hold for what is below it."""

    folder: str  # relative to the root, "" for the root itself
    spec: GitIgnoreSpec
    why: tuple[str, ...]  # one a pattern
    any_of: re.Pattern[str]  # matches whatever one of them matches, at a third of the time

    @classmethod
    def of(cls, folder: str, spec: GitIgnoreSpec, why: tuple[str, ...]) -> _Rules:
        """Join the patterns; names of groups may not come twice in one."""
        found = [one.regex.pattern for one in spec.patterns if one.regex is not None]
        joined = "|".join(f"(?:{_GROUP.sub('(?:', pattern)})" for pattern in found)
        return cls(folder, spec, why, re.compile(joined or r"(?!)"))

    def judge(self, path: str, *, is_folder: bool) -> str | None:
        """Why a path is left out; "" when it is kept on purpose, None when nothing is said."""
        inner = path.removeprefix(self.folder + "/") if self.folder else path
        index, why = self._last_match(inner + "/" if is_folder else inner)
        if index is not None and is_folder and why.endswith("/**"):
            # as git: `data/**` leaves out what is in data, and one of it may be kept
            index, why = self._last_match(inner)
        return None if index is None else why

    def _last_match(self, inner: str) -> tuple[int | None, str]:
        """The pattern that decides, and why it leaves the path out ("" when it keeps it)."""
        if self.any_of.match(inner) is None:
            return None, ""
        found = self.spec.check_file(inner)
        if found.index is None:
            return None, ""
        return found.index, self.why[found.index] if found.include else ""


class SkipRules:
    """The rules that hold in one folder: its own first, then those of the folders around it."""

    def __init__(self, chain: tuple[_Rules, ...]) -> None:
        self._chain = chain

    @classmethod
    def defaults(cls) -> SkipRules:
        """The rules that hold everywhere."""
        spec = GitIgnoreSpec.from_lines(_DEFAULTS)
        return cls((_Rules.of("", spec, tuple(_DEFAULTS.values())),))

    def entering(self, folder: str, local: Path) -> SkipRules:
        """The rules inside a folder: those so far, and its `.towlineignore` if it has one.

        Raises:
            SpecError: The file can't be read, or a pattern in it is none.
        """
        file = local / IGNORE_FILE
        if not file.is_file():
            return self
        try:
            text = file.read_text("utf-8-sig")
            lines = [line for line in text.splitlines() if line]
            spec = GitIgnoreSpec.from_lines(lines)
        except (OSError, UnicodeDecodeError, GitIgnorePatternError, ValueError) as error:
            message = f"{shown(str(file))} can't be read: {error}"
            raise SpecError(message, hint="its lines are patterns as in .gitignore") from error
        name = f"{folder}/{IGNORE_FILE}" if folder else IGNORE_FILE
        why = tuple(f"{name}: {line.strip()}" for line in lines)
        return SkipRules((_Rules.of(folder, spec, why), *self._chain))

    def why_skipped(self, path: str, local: str, *, is_folder: bool) -> str | None:
        """Why a path is left out, None when it is wanted."""
        for rules in self._chain:
            why = rules.judge(path, is_folder=is_folder)
            if why is not None:
                return why or None
        if is_folder and Path(local, _VENV_MARK).is_file():
            return _VENV
        return None
