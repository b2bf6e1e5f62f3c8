"""gather: find the model, bring it home whole, and the outputs and the log with it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from towline import collect, errors
from towline.context import Context
from towline.core import metrics
from towline.core.artifact import Artifact, FoundFile, is_output, places_text, rank_models
from towline.core.manifest import shown
from towline.core.run import StepName
from towline.core.side_files import SIDE_NAMES
from towline.core.units import count_text, size_text
from towline.line import Line

#: names in the results folder that are towline's own
_OWN_NAMES = ("receipt.json", "training.log", "metrics.csv", "output", "code")
_SHOWN_FILES = 12


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: files already home are recognised by size and hash and not fetched again."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Bring everything home; the model last, so that its absence costs nothing else.

    Raises:
        ArtifactMissing: The training succeeded but left no model; outputs and log are home.
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it; it waits on the instance.
    """  # noqa: DOC501 - a helper makes the exception
    results = Path(ctx.run.results_dir)
    line = await ctx.line()
    files = await collect.survey(line, ctx.result(StepName.EXECUTE)["started_at"])
    artifacts = rank_models(files, ctx.task.artifacts.model)
    model = artifacts[0] if artifacts else None
    inside = {file.path for file in model.files} if model else set()
    outputs = [
        file
        for file in files
        if is_output(file.path, ctx.task.artifacts.outputs) and file.path not in inside
    ]
    result: dict[str, Any] = {"transfers": [], "candidates": [one.row() for one in artifacts]}
    _save_logs(ctx, results)
    if outputs:
        done, _hashes = await collect.fetch(line, outputs, results, ctx.moved)
        result["transfers"].append(asdict(done))
        ctx.note(f"{count_text(len(outputs), 'output file')} in {results}")
    if model is not None:
        result |= await _bring_model(ctx, line, model, results)
        result["transfers"].append(result.pop("transfer"))
    elif _succeeded(ctx):
        raise _missing(ctx, files)
    return result


async def _bring_model(ctx: Context, line: Line, model: Artifact, results: Path) -> dict[str, Any]:
    """Download the model next to the receipt, under its own name."""
    staging = results / ".incoming"
    done, hashes = await collect.fetch(line, model.files, staging, ctx.moved)
    name = model.path.rpartition("/")[2]
    target = results / (f"model-{name}" if name in _OWN_NAMES else name)
    _put_in_place(staging / model.path, target)
    shutil.rmtree(staging, ignore_errors=True)
    sha256 = next(iter(hashes.values())) if len(hashes) == 1 else _tree_sha256(hashes)
    ctx.note(f"model: {target} ({size_text(model.size_bytes)}, SHA-256 {sha256[:12]}... verified)")
    return {
        "transfer": asdict(done),
        "model": {
            "path": str(target),
            "remote_path": model.path,
            "sha256": sha256,
            "size_bytes": model.size_bytes,
        },
    }


def _put_in_place(source: Path, target: Path) -> None:
    try:
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        source.replace(target)
    except OSError as error:
        message = f"the model can't be put at {target}: {error.strerror}"
        raise errors.LocalWriteError(
            message, hint="make room there, then `towline resume`"
        ) from error


def _tree_sha256(hashes: dict[str, str]) -> str:
    """One hash for a folder: SHA-256 over `sha256  path` lines sorted by path, as sha256sum."""
    lines = "".join(f"{digest}  {path}\n" for path, digest in sorted(hashes.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def _save_logs(ctx: Context, results: Path) -> None:
    """Copy the log and write metrics.csv; both have passed the redactor already."""
    try:
        results.mkdir(parents=True, exist_ok=True)
        if ctx.files.log.exists():
            shutil.copyfile(ctx.files.log, results / "training.log")
        (results / "metrics.csv").write_text(metrics_csv(ctx), "utf-8", newline="")
    except OSError as error:
        message = f"results can't be written to {results}: {error.strerror}"
        hint = "make it writable or make room; the model waits on the instance for `towline resume`"
        raise errors.LocalWriteError(message, hint=hint) from error


def metrics_csv(ctx: Context) -> str:
    """All reported metrics: time, epoch, step, then one column a metric."""
    events = [e for e in ctx.journal.store.events(ctx.run.id) if e.kind == "progress"]
    return metrics.csv_text(metrics.rows([(e.at, e.data) for e in events], SIDE_NAMES))


def _succeeded(ctx: Context) -> bool:
    return ctx.run.error is None and ctx.run.wish is None


def _missing(ctx: Context, files: Sequence[FoundFile]) -> errors.ArtifactMissing:
    wanted = ctx.task.artifacts.model
    looked = f"artifacts.model {wanted!r}" if wanted else places_text()
    listed = ", ".join(shown(file.path) for file in files[:_SHOWN_FILES]) or "no new files at all"
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    message = (
        f"the training ended well but left no model (looked in {looked}); it wrote {listed}{more}"
    )
    hint = "save it under $TOWLINE_OUTPUT, or name it in the task file: `artifacts: {model: path}`"
    return errors.ArtifactMissing(message, hint=hint)
