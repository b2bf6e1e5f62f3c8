"""Bring the best and the last checkpoint home while the training runs.

So that an instance that is lost costs minutes and not the training. They lie in `checkpoints/` of the
results; an older one is replaced only by a newer one that arrived whole.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from pathlib import Path
from typing import Any

from towline import collect, errors
from towline.context import Context
from towline.core.artifact import Artifact
from towline.core.checkpoint import figures, home_name, wanted
from towline.core.manifest import shown
from towline.core.run import StepName
from towline.core.units import size_text
from towline.line import Line
from towline.transfer.fetch import fetch
from towline.transfer.meter import TransferProgress

FOLDER = "checkpoints"
_SOONER_S = 3.0  # after a look that met a file which was just being written
_LEAST_S = 1.0


class Checkpoints:
    """Beside the log: starts a pull every so often, and never holds the log up."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        self._every = ctx.task.artifacts.checkpoint_every
        self._due = self._next(self._every or 0.0)
        self._pull: asyncio.Task[None] | None = None
        self._told = ""

    def tick(self, line: Line) -> None:
        """Start a pull when one is due and none is under way."""
        if not self._every or (self._pull is not None and not self._pull.done()):
            return
        if self._ctx.clock.monotonic() >= self._due:
            self._due = self._next(self._every)
            self._pull = asyncio.create_task(self._safely(line))

    async def close(self) -> None:
        """End a pull that is under way; what it replaced stays, what it had begun goes."""
        if self._pull is not None:
            self._pull.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._pull

    def _next(self, seconds: float) -> float:
        return self._ctx.clock.monotonic() + max(_LEAST_S, seconds)

    async def _safely(self, line: Line) -> None:
        """Pull; whatever goes wrong is said once and tried again, for the training goes on."""
        try:
            if not await pull(self._ctx, line):
                self._due = min(self._due, self._next(_SOONER_S))
        except (errors.LeaseLost, errors.ConnectionLost, errors.InstanceLost):
            return  # the reading of the log meets it too, and deals with it
        except Exception as error:  # noqa: BLE001 - no checkpoint is worth the training
            if str(error) != self._told:
                self._told = str(error)
                self._ctx.note(f"a checkpoint could not be brought home: {error}; trying again")


async def pull(ctx: Context, line: Line) -> bool:
    """Bring home what is new of the best and the last checkpoint.

    Returns:
        False when one of them is being written this moment: it is worth to look again soon.
    """
    started_at = ctx.result(StepName.EXECUTE)["started_at"]
    found = await collect.find(line, started_at, ctx.task.artifacts.model)
    still = True
    for kind, one in wanted(found.search.ranked).items():
        record = _records(ctx).get(kind)
        if (
            record is not None
            and record["figures"] == figures(one)
            and Path(record["path"]).exists()
        ):
            continue
        whole = not one.moving and not (await collect.look_at(line, one)).damaged
        still = whole and await _bring(ctx, line, one, kind) and still
    return still


async def _bring(ctx: Context, line: Line, one: Artifact, kind: str) -> bool:
    """Fetch one checkpoint, and put it in place of the older one; False when it moved meanwhile."""
    folder = Path(ctx.run.results_dir) / FOLDER
    staging = folder / f".incoming-{kind}"
    epoch = (ctx.facts().get("progress") or {}).get("epoch")
    try:
        fetched = await fetch(line, one.files, staging, _unseen, as_read=False)
        if len(fetched.sha256) < len(one.files):
            return False  # it kept changing, or went
        if (await asyncio.to_thread(collect.check_at_home, one, staging)).damaged:
            return False
        records = _records(ctx)
        target = folder / home_name(one, kind, records)
        old = records.get(kind)
        _put(staging / (one.path if one.base is None else one.base), target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    at = ctx.clock.now()
    shown_as = {"path": str(target), "at": at, "epoch": epoch, "size_bytes": one.size_bytes}
    records[kind] = shown_as | {
        "name": target.name,
        "remote_path": one.path,
        "figures": figures(one),
    }
    facts = {"checkpoints": records, "checkpoint": shown_as}
    ctx.journal.advance(facts, [("checkpoint", shown_as | {"remote_path": one.path})])
    if old is None:
        ctx.note(f"checkpoint {shown(one.path)} is home: {target} ({size_text(one.size_bytes)})")
    elif old["name"] != target.name and all(old["name"] != r["name"] for r in records.values()):
        _remove(folder / old["name"])
    return True


def _put(source: Path, target: Path) -> None:
    """Rename into place; a folder of before goes only once the new one is there."""
    old = target.with_name(f".old-{target.name}")
    try:
        if target.is_dir() and not target.is_symlink():
            _remove(old)
            target.rename(old)
        source.replace(target)
    except OSError as error:
        message = f"the checkpoint can't be put at {target}: {error.strerror}"
        raise errors.LocalWriteError(message, hint="make room there") from error
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


async def reuse(ctx: Context, model: Artifact, staging: Path) -> None:
    """Copy a checkpoint that is home to where the model will land, so that the same bytes need not
    travel again; the download proves each file by its hash, and replaces what differs."""
    records = [one for one in _records(ctx).values() if one["remote_path"] == model.path]
    if records and records[0]["figures"] == figures(model):
        source = Path(records[0]["path"])
        target = staging / (model.path if model.base is None else model.base)
        with contextlib.suppress(OSError, shutil.Error):
            await asyncio.to_thread(_copy, source, target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copyfile(source, target)


def _records(ctx: Context) -> dict[str, dict[str, Any]]:
    return dict(ctx.facts().get("checkpoints") or {})


def _unseen(_progress: TransferProgress) -> None:
    """The transfer that is shown is the upload or the model's way home."""
