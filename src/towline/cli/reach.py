"""Commands that reach instances: `fetch`, `ssh`, `gc`."""

from __future__ import annotations

import asyncio
import itertools
import signal
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from towline import errors
from towline.cli.common import json_option, opened, path_text, results_text, run_argument
from towline.cli.text import Out
from towline.core.run import Outcome, RunState, StepName

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.artifact import FoundFile
    from towline.core.run import RunRecord
    from towline.transfer.meter import TransferProgress

_SHOWN_FILES = 12
_SIGNALLED = 255  # what ssh itself says of a command that a signal ended
_SHELL_CHARACTERS = set(" \t\n|&;<>()$`*?~'\"")


@click.command()
@run_argument
@click.argument("pattern", required=False)
@click.pass_obj
def fetch(out: Out, run: str | None, pattern: str | None) -> None:
    """Download files from a run's live instance.

    They go into the run's results folder. PATTERN is a glob such as "output/**/*.pt"; without it the task's outputs are fetched.
    """
    with opened(out) as towline:
        found = towline.store.find(run)
        _require_active(found)
        patterns = [pattern] if pattern else _outputs(found)
        asyncio.run(_fetch(out, towline, found, patterns))


def _require_active(run: RunRecord) -> None:
    """An ended run has no instance."""
    if run.state is not RunState.ACTIVE:
        raise errors.RunEnded(
            f"run {run.name} has ended, and its instance is gone",
            hint=f"what came home is in {results_text(run)}",
        )


def _outputs(run: RunRecord) -> list[str]:
    from towline.taskfile import as_stored  # noqa: PLC0415 - 60 ms

    return as_stored(run.task["spec"], "the stored task")[0].artifacts.outputs


async def _fetch(out: Out, towline: Towline, run: RunRecord, patterns: list[str]) -> None:
    """Bring matching files home."""
    from towline import collect  # noqa: PLC0415
    from towline.core.artifact import is_output  # noqa: PLC0415
    from towline.core.units import count_text, size_text  # noqa: PLC0415
    from towline.transfer.fetch import fetch_many  # noqa: PLC0415

    started_at = _started_at(towline, run)
    async with towline.visit(run) as line:
        files = await collect.survey(line, started_at)
        wanted = [file for file in files if is_output(file.path, patterns)]
        _require_some(wanted, files, patterns)
        out.line(f"Downloading {count_text(len(wanted), 'file')} to {results_text(run)} ...")
        fetched = await fetch_many(line, wanted, Path(run.results_dir), _unseen)
    left = {*fetched.gone, *fetched.unread}
    for path in sorted(file.path for file in wanted if file.path not in left):
        out.line(f"  {path_text(str(Path(run.results_dir) / path))}")
    for path, why in files.unread:
        out.warn(f"towline could not look into {path_text(path)}: {why}", None)
    for note in fetched.notes():
        out.warn(note, None)
    size, count = size_text(fetched.done.bytes), count_text(fetched.done.files, "file")
    out.line(f"{count}, {size}, each verified by its SHA-256")


def _require_some(wanted: list[FoundFile], files: Iterable[FoundFile], patterns: list[str]) -> None:
    """A fetch of nothing is a mistake in the pattern, or comes too early."""
    if not wanted:
        first = sorted(file.path for file in itertools.islice(files, _SHOWN_FILES))
        seen = ", ".join(first) or "nothing yet"
        raise errors.SpecError(
            f"no file fits {', '.join(patterns)}", hint=f"the training has written: {seen}"
        )


def _unseen(_progress: TransferProgress) -> None:
    """Nothing is recorded of a fetch: the run's driver owns the journal."""


def _started_at(towline: Towline, run: RunRecord) -> float:
    """When the training started, by the instance's clock."""
    for attempt in reversed(towline.store.attempts(run.id)):
        if attempt.step is StepName.EXECUTE and attempt.outcome is Outcome.DONE:
            return float(attempt.result["started_at"])
    raise errors.RunEnded(
        f"the training of run {run.name} has not started, so there is nothing to fetch",
        hint=f"`towline status {run.name}` shows how far it is",
    )


# -- ssh ------------------------------------------------------------------------------------------


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@run_argument
@click.argument("command", nargs=-1, type=click.UNPROCESSED, metavar="[CMD]...")
@click.pass_obj
def ssh(out: Out, run: str | None, command: tuple[str, ...]) -> int:
    """Open a shell on a run's instance, or run a command there.

    What CMD prints is shown redacted. A shell is the system's own ssh: nothing hides secrets in it.
    """
    with opened(out) as towline:
        found = towline.store.find(run)
        command = command[1:] if command[:1] == ("--",) else command
        if command:
            return asyncio.run(_remote(out, towline, found, list(command)))
        return _shell(towline.ssh_argv(found))


async def _remote(out: Out, towline: Towline, run: RunRecord, command: list[str]) -> int:
    if len(command) == 1 and _SHELL_CHARACTERS & set(command[0]):
        command = ["sh", "-c", command[0]]  # one word with a space in it was meant for a shell
    async with towline.visit(run) as line:
        done = await (await line.dial_once()).run(command)
    out.raw(done.stdout)
    out.raw(done.stderr, to_error=True)
    return done.exit_status if done.exit_status >= 0 else _SIGNALLED


def _shell(argv: list[str]) -> int:
    """Hand the terminal to the system's ssh."""
    # Ctrl-C is for the far side; unlike SIG_IGN, a handler of ours is not handed on to ssh
    before = signal.signal(signal.SIGINT, lambda *_: None)
    try:
        return subprocess.run(argv, check=False).returncode
    except FileNotFoundError as error:
        raise errors.SpecError(
            "there is no `ssh` on this machine",
            hint="install OpenSSH's client, or give a command: `towline ssh RUN CMD`",
        ) from error
    finally:
        signal.signal(signal.SIGINT, before)


# -- gc -------------------------------------------------------------------------------------------


#: what is said of each row, by the list that it is in
_GC_TEXTS = {
    "claimed": "in use: {what} at {provider} ({tag})",
    "orphans": "orphan: {what} at {provider} ({tag}), {price}",
    "foreign": "not of this TOWLINE_HOME, left alone: {what} at {provider} ({tag}), {price}",
    "ended": "ended: {what}: {proof}",
    "failed": "NOT ENDED: {what}: {error}{then}",
    "unreachable": "no answer from {provider}: {error}{then}",
}


@click.command()
@click.option("--dry-run", is_flag=True, help="Only list them.")
@json_option
@click.pass_obj
def gc(out: Out, *, dry_run: bool) -> int:
    """End instances with our tag that no active run claims.

    Looks into every account in use. Exit code 6 when one could not be ended or can't be seen, 4 when only a provider did not answer.
    """
    with opened(out, retries=False) as towline:
        found = asyncio.run(towline.gc(dry_run=dry_run))
    shown = ("orphans", "claimed", "unreachable") if dry_run else tuple(found)
    if out.as_json:
        out.document({key: found[key] for key in shown})
    else:
        out.lines(_gc_lines(found, dry_run=dry_run))
    if found["failed"] or any(one["instances"] for one in found["unreachable"]):
        return errors.ReleaseUnconfirmed.exit_code
    return errors.ProviderUnavailable.exit_code if found["unreachable"] else 0


def _gc_lines(found: dict[str, Any], *, dry_run: bool) -> Iterator[str]:
    for key, text in _GC_TEXTS.items():
        for row in found.get(key, ()) if key != "orphans" or dry_run else ():
            hint = f"; {row['hint']}" if row.get("hint") else ""
            facts = {"what": _named(row), "price": _cost_text(row), "then": hint}
            yield text.format_map(row | facts)
    if any(one["instances"] for one in found["unreachable"]):
        return
    if not found["orphans"] and not found["failed"]:
        yield "no orphans" if not found["unreachable"] else "no orphans where there was an answer"
    elif dry_run:
        yield "`towline gc` ends the orphans"


def _named(row: dict[str, Any]) -> str:
    """An instance by its id, other things with what they are."""
    name, kind = row.get("id") or row.get("tag", ""), row.get("kind", "instance")
    return str(name) if kind == "instance" else f"{kind} {name}"


def _cost_text(row: dict[str, Any]) -> str:
    price = row.get("price_usd_per_hour")
    if price is None or (not price and row["provider"] != "local"):
        return "price not known"
    return f"${price:.2f} an hour" if price else "free"
