"""Which checkpoints are worth bringing home while the training runs, and under which name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from towline.core.formats import Artifact, looseness

BEST, LAST = "best", "last"


def wanted(ranked: Sequence[Artifact]) -> dict[str, Artifact]:
    """The best candidate, and the newest when that is another; by what each is taken for."""
    sure = [one for one in ranked if one.base is not None or looseness(one.path) == 0]
    if not sure:
        return {}
    found = {BEST: sure[0]}
    newest = max(sure, key=lambda one: one.mtime_ns)
    if newest.mtime_ns > sure[0].mtime_ns:
        found[LAST] = newest
    return found


def figures(one: Artifact) -> list[list[Any]]:
    """What tells one state of a candidate from another: path, size and time of each file."""
    return sorted([file.path, file.size_bytes, file.mtime_ns] for file in one.files)


def home_name(one: Artifact, kind: str, records: Mapping[str, Mapping[str, Any]]) -> str:
    """Its name in the folder of checkpoints; two of the same name are told apart by their kind."""
    name = one.path.rpartition("/")[2]
    others = [record for key, record in records.items() if key != kind]
    return f"{kind}-{name}" if any(record.get("name") == name for record in others) else name
