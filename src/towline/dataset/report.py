"""What a look at a dataset found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from towline.core.manifest import shown

Kind = Literal["yolo", "classes", "coco", "table", "text", "pictures", "files"]
#: how each kind is called
KINDS: Mapping[str, str] = {
    "yolo": "a YOLO dataset",
    "classes": "pictures in class folders",
    "coco": "pictures with COCO annotations",
    "table": "a table",
    "text": "texts",
    "pictures": "pictures without labels",
    "files": "files of no kind that towline knows",
}
_MOST_ALIKE = 3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. ``is_fatal``: no training can come of it."""

    text: str
    path: str | None = None
    line: int | None = None
    hint: str | None = None
    is_fatal: bool = False

    def __str__(self) -> str:
        place = shown(self.path) if self.path else ""
        place += f":{self.line}" if self.line else ""
        return f"{place}: {self.text}" if place else self.text

    def data(self) -> dict[str, Any]:
        """Its JSON form."""
        return {
            "level": "error" if self.is_fatal else "warning",
            "text": self.text,
            "path": shown(self.path) if self.path else None,
            "line": self.line,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Report:
    """A dataset's kind, its contents by split and class, and the findings."""

    kind: Kind = "files"
    task: str | None = None  # of a YOLO dataset: detect, segment, pose
    classes: list[str] = field(default_factory=list)
    splits: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)  # what was only sampled, and the like
    findings: list[Finding] = field(default_factory=list)
    _alike: dict[str, int] = field(default_factory=dict)

    def warn(self, text: str, path: str | None = None, line: int | None = None) -> None:
        """Note what is odd; training can go on."""
        self.findings.append(Finding(text, path, line))

    def warn_few(self, about: str, text: str, path: str, line: int | None = None) -> None:
        """As `warn` for what may come by the thousand: the first three, and later a count."""
        self._alike[about] = self._alike.get(about, 0) + 1
        if self._alike[about] <= _MOST_ALIKE:
            self.warn(text, path, line)

    def count_alike(self) -> None:
        """Say how many more there were of what came by the thousand."""
        for about, count in self._alike.items():
            if count > _MOST_ALIKE:
                self.warn(f"{count - _MOST_ALIKE:,} more {about}")
        self._alike.clear()

    def refuse(
        self, text: str, hint: str, path: str | None = None, line: int | None = None
    ) -> None:
        """Note what makes a training impossible."""
        self.findings.append(Finding(text, path, line, hint, is_fatal=True))

    @property
    def fatal(self) -> list[Finding]:
        """Findings that no training can come of."""
        return [one for one in self.findings if one.is_fatal]

    def data(self) -> dict[str, Any]:
        """Its JSON form, as `plan --json` shows it."""
        return {
            "kind": self.kind,
            "task": self.task,
            "classes": self.classes,
            "splits": self.splits,
            "notes": self.notes,
            "findings": [one.data() for one in self.findings],
        }
