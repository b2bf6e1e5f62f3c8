"""What many commands share: the argument RUN, the options, an opened home."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towline.cli.text import Out
from towline.errors import DriverNotStarted

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import RunRecord

_F = TypeVar("_F", bound=Callable[..., Any])

run_argument = click.argument("run", required=False, metavar="[RUN]")
#: `main` has told `Out` already, so that errors in the other options are JSON too
json_option = click.option("--json", is_flag=True, expose_value=False, help="Print JSON.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Answer yes to every question.")


@contextmanager
def opened(out: Out, *, retries: bool = True) -> Iterator[Towline]:
    """Open the default home; its redactor becomes the screen's.

    With `retries` an instance that could not be proven gone is tried again, in the background: by
    every command but those that see to releases themselves.
    """
    from towline.api import Towline  # noqa: PLC0415 - `--help` needs none of it

    towline = Towline()
    out.redactor = towline.redactor
    out.take_logs()
    try:
        if retries:
            _retry_releases(out, towline)
        yield towline
    finally:
        towline.close()


def _retry_releases(out: Out, towline: Towline) -> None:
    """Start a background driver for each run of which only the proof of its end is missing."""
    from towline import recover  # noqa: PLC0415 - `--help` needs none of it

    for run in recover.due(towline.store, towline.clock):
        from towline.cli.background import in_background  # noqa: PLC0415 - rarely needed

        then = "its end is tried again in the background; `towline gc` does it here"
        try:
            in_background(towline, run.id).returncode = 0  # it outlives us; no warning is needed
        except DriverNotStarted as error:
            then = f"`towline gc` ends it; {error.message}"
        rows = towline.store.ledger(run.id)
        what = "the instance" if any(row.gone_at is None for row in rows) else "what was left"
        out.warn(f"{what} of run {run.name} is not proven gone and may still bill", then)


def sweep(out: Out, towline: Towline) -> None:
    """End what earlier runs left at any account; say only what matters."""
    found = asyncio.run(towline.accounts.sweep_in_passing())
    for row in found["ended"]:
        out.line(f"Ended what an earlier run had left: {row['kind']} {row['id']}: {row['proof']}")
    for row in found["failed"]:
        message = f"{row['kind']} {row['id']} at {row['provider']}: {row['error']}"
        out.warn(message, row["hint"])
    for row in found["unreachable"]:
        out.warn(f"{row['provider']}: {row['error']}", row["hint"])


def results_text(run: RunRecord) -> str:
    """The run's results folder as it is shortest to type."""
    return path_text(run.results_dir)


def path_text(path: str) -> str:
    """Show a path below the current folder as a relative one."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


def terminal_width(out: Out) -> int | None:
    """Columns of the terminal; None where lines may be of any length."""
    if not out.is_terminal:
        return None
    import shutil  # noqa: PLC0415

    return shutil.get_terminal_size().columns


class _Duration(click.ParamType[float]):
    """Seconds, written as in the task file."""

    name = "T"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a duration."""
        from towline.core.units import Duration  # noqa: PLC0415

        try:
            return float(Duration.parse(value))
        except ValueError as error:
            self.fail(str(error), param, ctx)


def duration_option(name: str, help: str) -> Callable[[_F], _F]:  # noqa: A002 - click's own word
    """An option that takes 90s, 10m, 6h or 2d."""
    return click.option(name, type=_Duration(), metavar="T", help=help)
