"""What many commands share: the argument RUN, the options, an opened home."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towline.cli.text import Out

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.core.run import RunRecord

_F = TypeVar("_F", bound=Callable[..., Any])

run_argument = click.argument("run", required=False, metavar="[RUN]")
#: `main` has told `Out` already, so that errors in the other options are JSON too
json_option = click.option("--json", is_flag=True, expose_value=False, help="Print JSON.")
yes_option = click.option("-y", "--yes", is_flag=True, help="Answer yes to every question.")


@contextmanager
def opened(out: Out) -> Iterator[Towline]:
    """Open the default home; its redactor becomes the screen's."""
    from towline.api import Towline  # noqa: PLC0415 - `--help` needs none of it

    towline = Towline()
    out.redactor = towline.redactor
    out.take_logs()
    try:
        yield towline
    finally:
        towline.close()


def results_text(run: RunRecord) -> str:
    """The run's results folder as it is shortest to type."""
    return path_text(run.results_dir)


def path_text(path: str) -> str:
    """Show a path below the current folder as a relative one."""
    try:
        return str(Path(path).relative_to(Path.cwd()))
    except (ValueError, OSError):
        return path


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
