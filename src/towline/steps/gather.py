"""gather: find the model, bring it home whole, then the outputs; the log is home already."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from towline import checkpoints, collect, errors
from towline.context import Context
from towline.core import metrics
from towline.core.artifact import Artifact, places_text
from towline.core.companions import companions
from towline.core.manifest import shown
from towline.core.run import StepName
from towline.core.side_files import SIDE_NAMES
from towline.core.units import count_text, size_text
from towline.line import Line
from towline.transfer.fetch import fetch, fetch_many
from towline.transfer.listing import Chosen, Listing

#: names in the results folder that are towline's own
MODEL_FILES = "model-files"
_OWN_NAMES = (
    "receipt.json", "training.log", "metrics.csv", "output", "code", "checkpoints", MODEL_FILES,
)  # fmt: skip
_SHOWN_FILES = 12
_MOST_CANDIDATES = 500
_LOG_END_BYTES = 1 << 20
_SAVED_TO = re.compile(
    r"(?:results|model|weights|checkpoint)s? (?:is |was |were )?(?:saved|saving|logged) (?:to|in|at|as)"
    r"[\s'\":=]*(?:\x1b\[[\d;]*m)*(/[^\s'\"\x1b]+)",
    re.IGNORECASE,
)


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: files already home are recognised by size and hash and not fetched again."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Bring everything home: the model first, for no other file may keep it waiting.

    Raises:
        ArtifactMissing: The training succeeded but left no model, or a damaged one; outputs, log
            and what there is of the model are home.
        RemoteUnreadable: No model was found, or not the best, and something can't be read there.
        ChecksumMismatch: A file kept arriving different from what the instance has.
        LocalWriteError: This machine can't take it; it waits on the instance.
    """  # noqa: DOC501 - a helper makes the exception
    results = Path(ctx.run.results_dir)
    line = await ctx.line()
    clock_back_s = (ctx.facts().get("training") or {}).get("clock_back_s", 0.0)
    started_at = ctx.result(StepName.EXECUTE)["started_at"] - clock_back_s

    def waiting(path: str) -> None:
        ctx.status(f"{shown(path)} is still written to; waiting for it")

    found = await collect.find(line, started_at, ctx.task.artifacts.model, waiting)
    rows = found.rows(_MOST_CANDIDATES)
    ctx.journal.fact("candidates", rows)  # also when the step fails: the receipt lists them
    model = found.model or next(iter(found.damaged), None)
    result: dict[str, Any] = {"transfers": [], "candidates": rows}
    await asyncio.to_thread(_copy_log, ctx, results)
    _write_metrics(ctx, results)
    _say_damage(ctx, found)
    if model is not None:
        result |= await _bring_model(ctx, line, found, model, results)
    listing = found.listing
    if ctx.task.artifacts.model is not None:
        listing = await collect.survey(line, started_at)
    result["transfers"] += await _bring_outputs(ctx, line, _outputs(ctx, found, model, listing))
    if model is not None:
        beside, moved = await _bring_companions(ctx, line, found, model, listing)
        result["transfers"] += moved
        if "model" in result:
            result["model"]["beside"] = beside
    _say_unread(ctx, found, listing)
    if found.model is None and _succeeded(ctx):
        raise _missing(ctx, found, listing)
    return result


def _outputs(
    ctx: Context, found: collect.Found, model: Artifact | None, listing: Listing
) -> Chosen:
    """What comes home beside the model: the task's outputs, and damaged candidates before it."""
    damaged = {file.path for one in found.damaged for file in one.files}
    inside = {file.path for file in model.files} if model else set[str]()
    return Chosen(listing, ctx.task.artifacts.outputs, damaged, inside)


async def _bring_outputs(ctx: Context, line: Line, outputs: Chosen) -> list[dict[str, Any]]:
    """Download the outputs; what of them keeps changing holds nothing up."""
    results = Path(ctx.run.results_dir)
    fetched = await fetch_many(line, outputs, results, ctx.moved)
    for note in fetched.notes():
        ctx.note(note)
    if not fetched.done.files:
        return []
    ctx.note(f"{count_text(fetched.done.files, 'output file')} in {results}")
    return [fetched.row()]


def _say_unread(ctx: Context, found: collect.Found, listing: Listing) -> None:
    """Say what could not be looked into; with no model, or not the best, that ends nothing.

    Raises:
        RemoteUnreadable: The model may be in there.
    """
    unread = [f"{shown(path)} ({why})" for path, why in listing.unread]
    if unread:
        more = listing.unread_count - _SHOWN_FILES
        said = ", ".join(unread[:_SHOWN_FILES]) + (f" and {more} more" if more > 0 else "")
        ctx.note(f"WARNING: towline could not look into {said}")
    else:
        said = ", ".join(shown(path) for path in found.unread_before[:_SHOWN_FILES])
    if (unread and found.model is None) or found.unread_before:
        message = f"the model may be in what towline can't read on the instance: {said}"
        raise errors.RemoteUnreadable(message)


def _say_damage(ctx: Context, found: collect.Found) -> None:
    """A damaged best model is said loudly, whatever is taken in its place."""
    for one in found.damaged[:_SHOWN_FILES]:
        ctx.note(f"WARNING: {shown(one.path)} is {found.checks[one.path]}")
    if found.damaged and found.model is not None:
        ctx.note(f"WARNING: {shown(found.model.path)} is taken as the model in its place")


async def _bring_model(
    ctx: Context, line: Line, found: collect.Found, model: Artifact, results: Path
) -> dict[str, Any]:
    """Download the model next to the receipt, under its own name."""
    staging = results / ".incoming"
    await checkpoints.reuse(ctx, model, staging)
    fetched = await fetch(line, model.files, staging, ctx.moved, copy=True)
    if lost := fetched.unread or fetched.gone:
        message = f"{shown(lost[0])} of the model can't be read on the instance"
        raise errors.RemoteUnreadable(message)
    for note in fetched.notes():
        ctx.note(note)
    hashes = fetched.sha256
    check = await asyncio.to_thread(collect.check_at_home, model, staging)
    if check.damaged and model is found.model:
        message = f"{shown(model.path)} changed while it was fetched, and arrived {check}"
        raise errors.ChecksumMismatch(message, hint="`towline resume` fetches it again")
    name = model.path.rpartition("/")[2]
    target = results / (f"model-{name}" if name in _OWN_NAMES or name[0] == "." else name)
    _put_in_place(staging / (model.path if model.base is None else model.base), target)
    shutil.rmtree(staging, ignore_errors=True)
    sha256 = next(iter(hashes.values())) if model.base is None else _tree_sha256(hashes)
    if check.damaged:
        return {"transfers": [fetched.row()]}  # home, and no model all the same
    ctx.note(
        f"model: {target} ({size_text(model.size_bytes)}, SHA-256 {sha256[:12]}... verified;"
        f" {model.why})"
    )
    return {
        "transfers": [fetched.row()],
        "model": {
            "path": str(target),
            "remote_path": model.path,
            "sha256": sha256,
            "size_bytes": model.size_bytes,
            "why": model.why,
            "check": str(check),
            "as_read": fetched.as_read,
        },
    }


async def _bring_companions(
    ctx: Context, line: Line, found: collect.Found, model: Artifact, listing: Listing
) -> tuple[str | None, list[dict[str, Any]]]:
    """Put settings, labels, results and plots of the model into one folder next to it.

    Returns:
        The folder, None when there is nothing to put there; and what was moved.

    Raises:
        LocalWriteError: This machine can't take them.
    """
    results = Path(ctx.run.results_dir)
    wanted = await asyncio.to_thread(companions, model, listing, found.search.ranked)
    if not wanted:
        return None, []
    staging, ready = results / ".incoming-side", results / ".incoming-model-files"
    shutil.rmtree(ready, ignore_errors=True)
    outputs = _outputs(ctx, found, model, listing)
    at_home = {file.path for file in wanted.values() if file.path in outputs}
    away = [file for file in wanted.values() if file.path not in at_home]
    moved = []
    if away:
        moved.append((await fetch(line, away, staging, ctx.moved)).row())
    try:
        for name, file in wanted.items():
            source = (results if file.path in at_home else staging) / file.path
            if source.is_file():  # else it went meanwhile
                (ready / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, ready / name)
    except OSError as error:
        message = f"the model's files can't be written to {results}: {error.strerror}"
        raise errors.LocalWriteError(message, hint="make room, then `towline resume`") from error
    _put_in_place(ready, results / MODEL_FILES)
    shutil.rmtree(staging, ignore_errors=True)
    return str(results / MODEL_FILES), moved


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


def _copy_log(ctx: Context, results: Path) -> None:
    """Copy the log, which has passed the redactor already."""
    with _writing(results):
        results.mkdir(parents=True, exist_ok=True)
        if ctx.files.log.exists():
            shutil.copyfile(ctx.files.log, results / "training.log")


def _write_metrics(ctx: Context, results: Path) -> None:
    with _writing(results):
        (results / "metrics.csv").write_text(metrics_csv(ctx), "utf-8", newline="")


@contextlib.contextmanager
def _writing(results: Path) -> Iterator[None]:
    try:
        yield
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


def _missing(ctx: Context, found: collect.Found, files: Listing) -> errors.ArtifactMissing:
    if found.damaged:
        return _only_damaged(ctx, found)
    wanted = ctx.task.artifacts.model
    looked = f"artifacts.model {wanted!r}" if wanted else places_text()
    first = sorted(file.path for file in itertools.islice(files, _SHOWN_FILES))
    listed = ", ".join(map(shown, first)) or "no new files at all"
    more = f" and {len(files) - _SHOWN_FILES} more" if len(files) > _SHOWN_FILES else ""
    message = (
        f"the training ended well but left no model (looked in {looked}); it wrote {listed}{more}"
    )
    if left := found.search.left_out:
        said = ", ".join(f"{shown(one.path)} ({one.why})" for one in left[:_SHOWN_FILES])
        message += f"; not taken for the model: {said}"
    if elsewhere := _saved_elsewhere(ctx):
        message += (
            f"; its log says that it saved to {elsewhere}, which is outside of the run's folder"
        )
    hint = "save it under $TOWLINE_OUTPUT, or name it in the task file: `artifacts: {model: path}`"
    return errors.ArtifactMissing(message, hint=hint)


def _saved_elsewhere(ctx: Context) -> str | None:
    """The last absolute path outside of the run's folder that the log says was saved to."""
    try:
        with ctx.files.log.open("rb") as log:
            log.seek(max(0, log.seek(0, 2) - _LOG_END_BYTES))
            text = log.read().decode("utf-8", "replace")
    except OSError:
        return None
    paths = [path.rstrip(".,;:'\")") for path in _SAVED_TO.findall(text)]
    return next((path for path in reversed(paths) if f"/{ctx.run.id}/" not in path), None)


def _only_damaged(ctx: Context, found: collect.Found) -> errors.ArtifactMissing:
    said = "; ".join(
        f"{shown(one.path)} is {found.checks[one.path]}" for one in found.damaged[:_SHOWN_FILES]
    )
    message = f"the training ended well but every model it left is damaged: {said}"
    hint = (
        f"what there is of it is in {ctx.run.results_dir}; did the disk fill up, or was the save cut"
        " short? wait for the save to end before the script ends"
    )
    return errors.ArtifactMissing(message, hint=hint)
