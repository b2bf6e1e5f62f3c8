"""Find what a training wrote on its instance, and which of it is the model.

Shared by the step `gather`, by checkpoints while training, and by `towline fetch`, which looks at a
live instance.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from towline.core.artifact import Artifact, FoundFile, Search, search
from towline.core.formats import looseness, missing_shards
from towline.core.sieve import sieve
from towline.core.units import count_text
from towline.line import Line
from towline.onboard import codecs, integrity, wire
from towline.transfer.listing import Listing

#: the first look at what still moves is short: most trainings have long ended their last save
_FIRST_LOOK_S = 0.1
_LOOK_S = 0.7
_MOST_LOOKS = 300
_MOST_SURVEYS = 5
#: a file that is held open and does not change for so many looks is taken as it is
_STILL_LOOKS = 8
#: candidates that are looked into at a time
_BATCH = 40
_MOST_FILES = 400  # of one candidate
_GLOB = re.compile(r"[*?\[]")
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

    listing: Listing  # all files, or those that an explicit name may mean
    search: Search
    checks: dict[str, Check]
    unread: list[str]  # candidates that can't be read

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

    @property
    def unread_before(self) -> list[str]:
        """Candidates that would come before the model, if they could be read."""
        return [one.path for one in self.damaged if one.path in self.unread]

    def rows(self, limit: int) -> list[dict[str, Any]]:
        """Lines of the receipt; `check` is null for what was not looked into."""
        rows = self.search.rows(limit)
        return [row | {"check": self._said(row["path"])} for row in rows]

    def _said(self, path: str) -> str | None:
        return str(self.checks[path]) if path in self.checks else None

    def _is_damaged(self, one: Artifact) -> bool:
        return one.path in self.checks and self.checks[one.path].damaged


async def survey(
    line: Line, started_at: float, explicit: str | None = None, *, hints: bool = False
) -> Listing:
    """List the files written since the training started, all of them.

    What was uploaded is older, or lies in the dataset, which is not looked at.

    Args:
        line: To the instance.
        started_at: The instance's own time of the start, in UTC seconds.
        explicit: A path or glob: only what it may mean is looked for, by its name.
        hints: Read what trainers' own files say of their best checkpoint.

    Raises:
        TransferError: The list is not whole.
        CommandFailed: The instance lists what can't lie there.
    """
    layout = line.layout
    request = {"roots": [layout.output, layout.code], "hints": hints, "codecs": codecs.available()}
    if explicit is not None:
        request |= _by_name(layout.root, explicit)

    async def once() -> Listing:
        listing = Listing(int(started_at * 1e9))
        async with line.talk("survey", request) as talk:
            async for kind, payload in talk.frames():
                if kind == wire.ROWS:
                    listing.add(payload)
            result = json.loads(payload)
        await asyncio.to_thread(listing.close, result)
        return listing

    return await line.persist(once)


def _by_name(root: str, explicit: str) -> dict[str, list[str]]:
    """Where a path or glob leads, below the run's folder or the command's working folder."""
    parts = explicit.removeprefix("./").rstrip("/").split("/")
    fixed = list(itertools.takewhile(lambda part: not _GLOB.search(part), parts))
    if {"", ".", ".."} & set(fixed):
        return {"roots": []}  # it leads nowhere in the run's folder
    if not fixed:
        return {"roots": [f"{root}/output", f"{root}/code"]}
    tops = [fixed] if fixed[0] in ("output", "code") else []
    tops.append(["code", *fixed])
    paths = ["/".join([root, *top]) for top in tops]
    if len(fixed) < len(parts):
        return {"roots": paths}
    return {
        "roots": paths,  # it may be a folder
        "names": paths,
        "flat": [path.rpartition("/")[0] for path in paths],  # or one of several that are one model
    }


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
        explicit: The task's `artifacts.model`: it is looked for by its name, and nothing else is.
        waiting: Told the path of a candidate that is still written to; without it nothing is
            waited for.
    """
    since_ns = int((started_at - _SLACK_S) * 1e9)
    surveys = 0
    while True:
        surveys += 1
        listing = await survey(line, started_at, explicit, hints=True)
        files = await asyncio.to_thread(sieve, listing, explicit)
        found = await asyncio.to_thread(search, files, explicit, since_ns=since_ns)
        found, waited = await _settle(line, found, waiting)
        moving = any(one.moving for one in found.ranked[:_BATCH])
        if not waited or moving or surveys >= _MOST_SURVEYS:
            break  # else once more: what was saved meanwhile may have made new files
    found, checks, unread = await _look_into(line, found, any_text=explicit is not None)
    return Found(listing=listing, search=found, checks=checks, unread=unread)


async def _settle(
    line: Line, found: Search, waiting: Callable[[str], None] | None
) -> tuple[Search, bool]:
    """See which of the best candidates still move, and wait for them; says whether it waited."""
    found = await _look(line, found, _FIRST_LOOK_S)
    waited, still = False, 0
    for _look_again in range(_MOST_LOOKS if waiting else 0):
        moving = [one for one in found.ranked[:_BATCH] if one.moving and not _is_text(one)]
        if waiting is None or not moving or still >= _STILL_LOOKS:
            break
        waiting(moving[0].path)
        waited, before = True, _figures(found)
        found = await _look(line, found, _LOOK_S)
        still = still + 1 if _figures(found) == before else 0
    return found, waited


async def _look(line: Line, found: Search, settle_s: float) -> Search:
    """The same candidates, the best with their figures of now; what went is left out."""
    root = line.layout.root
    first = found.ranked[:_BATCH]
    paths = [f"{root}/{file.path}" for one in first for file in one.files[:_MOST_FILES]]
    answer = (await line.call("look", {"paths": paths, "settle_s": settle_s}))["files"]

    def fresh(file: FoundFile) -> FoundFile:
        size, mtime_ns, moving = answer[f"{root}/{file.path}"]
        return replace(file, size_bytes=size, mtime_ns=mtime_ns, moving=moving)

    there = [
        replace(one, files=tuple(map(fresh, one.files[:_MOST_FILES])) + one.files[_MOST_FILES:])
        for one in first
        if all(f"{root}/{file.path}" in answer for file in one.files[:_MOST_FILES])
    ]
    return replace(found, ranked=there + found.ranked[_BATCH:])


def _figures(found: Search) -> list[tuple[str, int, int]]:
    return [(one.path, one.size_bytes, one.mtime_ns) for one in found.ranked[:_BATCH]]


async def _look_into(
    line: Line, found: Search, *, any_text: bool
) -> tuple[Search, dict[str, Check], list[str]]:
    """Check candidates, the best first, until one is whole; leave out what was uploaded.

    Returns:
        What is left, the checks by path, and the paths of candidates that can't be read.
    """
    checks: dict[str, Check] = {}
    unread: list[str] = []
    while True:
        batch = [one for one in found.ranked if one.path not in checks][:_BATCH]
        if not batch:
            return found, checks, unread
        reasons, more = await _examine(line, batch, checks)
        unread += more
        found = found.without(reasons)
        if not any_text:
            texts = [one.path for one in batch if _is_text(one)]
            found = found.dropping([p for p in texts if checks[p].format not in integrity.BOOSTERS])
        if any(one.path in checks and not checks[one.path].damaged for one in found.ranked):
            return found, checks, unread


async def _examine(
    line: Line, batch: Sequence[Artifact], checks: dict[str, Check]
) -> tuple[dict[str, str], list[str]]:
    """Look into some candidates; returns those that are none, with the reason, and the unread."""
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
    unread = set(answer["unread"])
    return reasons, [one.path for one in batch if unread & set(paths[one.path])]


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
