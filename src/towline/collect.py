"""Find what a training wrote on its instance, and bring files of it home, each proven by its hash.

Shared by the step `gather`, by checkpoints while training, and by `towline fetch`, which looks at a
live instance.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from towline.core.artifact import Artifact, FoundFile, Search, search
from towline.core.formats import looseness, missing_shards
from towline.core.manifest import shown
from towline.core.units import count_text
from towline.errors import CommandFailed
from towline.line import Line
from towline.onboard import integrity
from towline.transfer.download import RemoteFile, download
from towline.transfer.meter import TransferProgress, TransferResult

#: the first look at what still moves is short: most trainings have long ended their last save
_FIRST_LOOK_S = 0.1
_LOOK_S = 0.7
_MOST_LOOKS = 300
#: a file that is held open and does not change for so many looks is taken as it is
_STILL_LOOKS = 8
#: candidates that are looked into at a time
_BATCH = 40
_MOST_FILES = 400  # of one candidate
_CONFIG = re.compile(r"(^|/)(adapter_)?config\.json$|\.index(\.json)?$")
#: clocks of file systems lag behind
_SLACK_S = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """What a candidate's bytes say: whole, plausible, unknown or damaged (see `onboard.integrity`)."""

    verdict: str
    format: str
    why: str

    @property
    def damaged(self) -> bool:
        """Whether it can't be the model as it is."""
        return self.verdict == integrity.DAMAGED

    def __str__(self) -> str:
        return f"{self.verdict}: {self.why}" if self.why else self.verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was found on the instance, and what of it was looked into."""

    files: list[FoundFile]
    search: Search
    checks: dict[str, Check]

    @property
    def model(self) -> Artifact | None:
        """The best candidate that is not damaged."""
        return next((one for one in self.search.ranked if not self._is_damaged(one)), None)

    @property
    def damaged(self) -> list[Artifact]:
        """Candidates before the model that are damaged."""
        ranked = self.search.ranked
        model = self.model
        before = ranked if model is None else ranked[: ranked.index(model)]
        return [one for one in before if self._is_damaged(one)]

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Lines of the receipt; `check` is null for what was not looked into."""
        rows = self.search.rows(limit)
        return [row | {"check": self._said(row["path"])} for row in rows]

    def _said(self, path: str) -> str | None:
        return str(self.checks[path]) if path in self.checks else None

    def _is_damaged(self, one: Artifact) -> bool:
        return one.path in self.checks and self.checks[one.path].damaged


async def survey(
    line: Line, started_at: float, *, settle_s: float = 0.0, hints: bool = False
) -> list[FoundFile]:
    """List the files written since the training started.

    What was uploaded is older, or lies in the dataset, which is not looked at.

    Raises:
        CommandFailed: The instance lists what can't lie there.

    Args:
        line: To the instance.
        started_at: The instance's own time of the start, in UTC seconds.
        settle_s: Look twice, so many seconds apart: FoundFile.moving says what changed.
        hints: Read what trainers' own files say of their best checkpoint.
    """
    layout = line.layout
    request = {"roots": [layout.output, layout.code], "settle_s": settle_s, "hints": hints}
    answer = await line.call("survey", request)
    since_ns = int(started_at * 1e9)
    found = []
    for row in answer["files"]:
        path = f"{row['root']}/{row['path']}".removeprefix(layout.root + "/")
        if not _is_plain(path):
            raise CommandFailed(f"the instance lists {shown(path)}, which leads out of the run")
        if row["mtime_ns"] >= since_ns or path.startswith("output/"):
            found.append(
                FoundFile(
                    path=path, size_bytes=row["size"], mode=row["mode"], mtime_ns=row["mtime_ns"],
                    moving=row.get("moving", False), says=row.get("says", ""),
                )
            )  # fmt: skip
    return found


def _is_plain(path: str) -> bool:
    """Whether a path stays below the output folder or the working folder, here as there."""
    parts = path.split("/")
    return parts[0] in ("output", "code") and not {"", ".", ".."} & set(parts)


async def find(
    line: Line,
    started_at: float,
    explicit: str | None,
    waiting: Callable[[str], None] | None = None,
) -> Found:
    """Find the candidates for the model, ranked, and look into them until one is whole.

    Args:
        line: To the instance.
        started_at: The instance's own time of the start, in UTC seconds.
        explicit: The task's `artifacts.model`.
        waiting: Told the path of a candidate that is still written to; without it nothing is
            waited for.
    """
    since_ns = int((started_at - _SLACK_S) * 1e9)
    files = await survey(line, started_at, settle_s=_FIRST_LOOK_S, hints=True)
    found = search(files, explicit, since_ns=since_ns)
    still = 0
    for _look in range(_MOST_LOOKS if waiting else 0):
        moving = [one for one in found.ranked[:_BATCH] if one.moving and not _is_text(one)]
        if waiting is None or not moving or still >= _STILL_LOOKS:
            break
        waiting(moving[0].path)
        before = _figures(found)
        files = await survey(line, started_at, settle_s=_LOOK_S, hints=True)
        found = search(files, explicit, since_ns=since_ns)
        still = still + 1 if _figures(found) == before else 0
    found, checks = await _look_into(line, found, any_text=explicit is not None)
    return Found(files=files, search=found, checks=checks)


def _figures(found: Search) -> list[tuple[str, int, int]]:
    return [(one.path, one.size_bytes, one.mtime_ns) for one in found.ranked]


async def _look_into(
    line: Line, found: Search, *, any_text: bool
) -> tuple[Search, dict[str, Check]]:
    """Check candidates, the best first, until one is whole; leave out what was uploaded."""
    checks: dict[str, Check] = {}
    while True:
        batch = [one for one in found.ranked if one.path not in checks][:_BATCH]
        if not batch:
            return found, checks
        reasons = await _examine(line, batch, checks)
        found = found.without(reasons)
        if not any_text:
            texts = [one.path for one in batch if _is_text(one)]
            found = found.dropping([p for p in texts if checks[p].format not in integrity.BOOSTERS])
        if any(one.path in checks and not checks[one.path].damaged for one in found.ranked):
            return found, checks


async def _examine(
    line: Line, batch: Sequence[Artifact], checks: dict[str, Check]
) -> dict[str, str]:
    """Look into some candidates; returns those that are none, with the reason."""
    root = line.layout.root
    paths = {one.path: [f"{root}/{path}" for path in _to_check(one)] for one in batch}
    asked = sorted({path for own in paths.values() for path in own})
    answer = await line.call("examine", {"paths": asked})
    reasons = {}
    for one in batch:
        own = paths[one.path]
        weights = [path for path in own if looseness(path) is not None] or own
        checks[one.path] = _together(one, [answer["checks"].get(path) for path in own])
        if weights and all(path in answer["uploaded"] for path in weights):
            origin = answer["uploaded"][weights[0]]
            reasons[one.path] = f"it came with the upload ({origin})"
    return reasons


async def look_at(line: Line, one: Artifact) -> Check:
    """Look into one candidate."""
    checks: dict[str, Check] = {}
    await _examine(line, [one], checks)
    return checks[one.path]


def _is_text(one: Artifact) -> bool:
    return one.base is None and looseness(one.path) == 2  # noqa: PLR2004 - see `looseness`


def _to_check(one: Artifact) -> list[str]:
    if one.base is None:
        return [one.path]
    paths = [file.path for file in one.files]
    return [
        path for path in paths if looseness(path) is not None or _CONFIG.search(path)
    ][:_MOST_FILES]  # fmt: skip


def _together(one: Artifact, said: Iterable[list[str] | None]) -> Check:
    """A candidate is as good as its worst file."""
    if lost := missing_shards(one):
        return Check(integrity.DAMAGED, "", f"it lacks {count_text(lost, 'shard')}")
    found = [Check(*each) if each else Check(integrity.DAMAGED, "", "it is gone") for each in said]
    order = (integrity.DAMAGED, integrity.UNKNOWN, integrity.PLAUSIBLE, integrity.WHOLE)
    return min(
        found,
        key=lambda check: order.index(check.verdict),
        default=Check(integrity.UNKNOWN, "", ""),
    )


def check_at_home(one: Artifact, folder: Path) -> Check:
    """Look into a candidate that has arrived below ``folder``, as the instance did."""
    said = []
    for path in _to_check(one):
        try:
            said.append(integrity.check(folder / path))
        except OSError as error:
            said.append([integrity.DAMAGED, "", f"it can't be read: {error.strerror}"])
    return _together(one, said)


async def fetch(
    line: Line,
    files: Sequence[FoundFile],
    into: Path,
    report: Callable[[TransferProgress], None],
) -> tuple[TransferResult, dict[str, str]]:
    """Download files to the same relative paths below ``into``.

    Returns:
        What was moved, and the SHA-256 of each file by its path. A temporary file that went
        meanwhile is in neither.

    Raises:
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it.
    """
    layout = line.layout
    paths = [f"{layout.root}/{file.path}" for file in files]
    hashes = (await line.call("digest", {"paths": paths}))["sha256"]
    items = [
        RemoteFile(
            path=file.path,
            size_bytes=file.size_bytes,
            mode=file.mode,
            mtime_ns=file.mtime_ns,
            sha256=hashes[path],
        )
        for file, path in zip(files, paths, strict=True)
        if hashes[path] is not None
    ]
    done = await download(line, layout.root, items, into, report)
    return done, {item.path: item.sha256 for item in items} | done.changed
