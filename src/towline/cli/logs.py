"""`towline logs`: what the training printed, from the local log file."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from towline.cli.common import duration_option, json_option, opened, run_argument
from towline.cli.text import Out

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import RunRecord

_FOLLOW_S = 0.05
_CHUNK_LINES = 2000
_LONGEST_LINE = 65536


@click.command()
@run_argument
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.option("--tail", type=click.IntRange(0), metavar="N", help="The last N lines only.")
@duration_option("--since", help="What came in the last T only, such as 10m.")
@json_option
@click.pass_obj
def logs(out: Out, run: str | None, *, follow: bool, tail: int | None, since: float | None) -> None:
    """Print what the training printed.

    Secrets are hidden, and of a progress bar the last frame is shown.
    """
    with opened(out) as towline:
        found = towline.store.find(run)
        begin = _log_offset(out, towline, found, tail, since)
        asyncio.run(_print_log(out, towline, found, begin, follow=follow))


async def _print_log(
    out: Out, towline: Towline, run: RunRecord, begin: int, *, follow: bool
) -> None:
    from towline.cli.render import LogTail  # noqa: PLC0415

    tail = LogTail(towline.files(run).log, begin)
    is_over = towline.watcher(run.id) if follow else lambda: True
    while not out.is_closed:
        over = is_over()
        lines = tail.read()
        if over and tail.rest:
            lines.append(tail.rest)
        for at in range(0, len(lines), _CHUNK_LINES):
            _print_lines(out, lines[at : at + _CHUNK_LINES])
        if over:
            break
        await towline.clock.sleep(_FOLLOW_S)
    if follow and not out.is_closed:
        towline.ended(run.id)


def _print_lines(out: Out, lines: list[str]) -> None:
    if out.as_json:
        for line in lines:
            out.json({"text": line})
    else:
        out.lines(lines)


def _log_offset(
    out: Out, towline: Towline, run: RunRecord, tail: int | None, since: float | None
) -> int:
    """Where printing begins, by --tail and --since; the later of the two."""
    from towline.cli.render import offset_of_last  # noqa: PLC0415

    files = towline.files(run)
    begin = 0 if tail is None else offset_of_last(files.log, tail)
    if since is None:
        return begin
    if not files.log_times.exists():
        out.line("The times of this log's lines are not known, so --since has no effect.")
        return begin
    return max(
        begin, _line_start(files.log, _offset_at(files.log_times, towline.clock.now() - since))
    )


def _line_start(log: Path, offset: int) -> int:
    """Where the line begins that an offset lies in."""
    start = max(0, offset - _LONGEST_LINE)
    with log.open("rb") as file:
        file.seek(start)
        return start + file.read(offset - start).rfind(b"\n") + 1


def _offset_at(times: Path, moment: float) -> int:
    """How long the log was at a moment."""
    size = 0
    for line in times.read_text("utf-8").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a driver died while it wrote this
        if row["at"] > moment:
            break
        size = row["size_bytes"]
    return size
