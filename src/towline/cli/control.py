"""Commands that take the line up again or end a run: `attach`, `resume`, `wait`, `stop`, `abort`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import click

from towline.cli.common import opened, run_argument, sweep, yes_option
from towline.cli.text import Out
from towline.core.run import RunState, Wish

if TYPE_CHECKING:
    from towline.api import Towline
    from towline.cli.render import View
    from towline.core.instance import RunId
    from towline.core.run import RunRecord

_LAST_LINES = 20
#: of several exit codes the one that matters most, first
_WORST = (6, 1, 5, 4, 3, 2, 11, 130, 0)


@click.command()
@run_argument
@click.pass_obj
def attach(out: Out, run: str | None) -> int:
    """Watch a run that is under way.

    Shows the steps so far and the log's last 20 lines, then what comes, until the run ends.
    Ctrl-C leaves the run alone.
    """
    from towline.cli.render import view_for  # noqa: PLC0415
    from towline.cli.tell import tell_end  # noqa: PLC0415

    with opened(out, retries=False) as towline:
        found = towline.store.find(run)
        if found.state is RunState.ACTIVE:
            view = view_for(out, towline, found, with_log=True)
            _watch(out, towline, found, view, f"`towline attach {found.name}` returns")
        return tell_end(out, towline, towline.ended(found.id))


@click.command()
@run_argument
@click.option("--all", "every", is_flag=True, help="All active runs that nobody drives.")
@click.pass_obj
def resume(out: Out, run: str | None, *, every: bool) -> int:
    """Drive a run whose driver is gone.

    It goes on where it was. Ctrl-C detaches: the run goes on in the background.
    """
    from towline.cli.drive import DETACHED, drive_here  # noqa: PLC0415

    if every:
        _refuse_name(run)
    with opened(out, retries=False) as towline:
        code = (
            _resume_all(out, towline)
            if every
            else drive_here(out, towline, towline.store.find(run))
        )
        if code != DETACHED:  # after: the line is taken up at once
            sweep(out, towline)
        return code


def _refuse_name(run: str | None) -> None:
    """`--all` and a name contradict each other."""
    if run is not None:
        raise click.UsageError("give a run or --all, not both")


def _resume_all(out: Out, towline: Towline) -> int:
    from towline.cli.drive import Foreground, in_loop  # noqa: PLC0415
    from towline.cli.render import PlainView  # noqa: PLC0415
    from towline.recover import undriven  # noqa: PLC0415

    runs = undriven(towline.store)
    if not runs:
        out.line("Nothing to resume: no active run is without a driver.")
        return 0

    async def work() -> list[int]:
        views: dict[RunId, Callable[[], View]] = {
            run.id: partial(PlainView, out, prefix=f"[{run.name}] ") for run in runs
        }
        return await Foreground(out, towline).drive(views)

    return min(in_loop(work()), key=_WORST.index)


@click.command()
@run_argument
@click.pass_obj
def wait(out: Out, run: str | None) -> int:
    """Wait until a run is over.

    Ends with the exit code that tells how the run went.
    """
    from towline.cli.tell import tell_end  # noqa: PLC0415

    with opened(out, retries=False) as towline:
        found = towline.store.find(run)
        ended = asyncio.run(towline.wait(found.id))
        return tell_end(out, towline, ended)


@click.command()
@run_argument
@click.pass_obj
def stop(out: Out, run: str | None) -> int:
    """End the training, bring home what there is, terminate."""
    with opened(out, retries=False) as towline:
        return _end(out, towline, towline.store.find(run), Wish.STOP)


@click.command()
@run_argument
@yes_option
@click.pass_obj
def abort(out: Out, run: str | None, *, yes: bool) -> int:
    """Terminate now and discard what is on the instance."""
    with opened(out, retries=False) as towline:
        found = towline.store.find(run)
        must_ask = not yes and found.state is RunState.ACTIVE and sys.stdin.isatty()
        question = f"End {found.name}'s instance now and discard what is on it?"
        if must_ask and not out.ask(question):
            out.line("Nothing was changed.")
            return 2
        return _end(out, towline, found, Wish.ABORT)


def _end(out: Out, towline: Towline, run: RunRecord, wish: Wish) -> int:
    """Store the wish; then watch the driver carry it out, or be the driver."""
    from towline.cli.drive import drive_here  # noqa: PLC0415
    from towline.cli.render import PlainView  # noqa: PLC0415
    from towline.cli.tell import tell_end  # noqa: PLC0415

    if towline.wish(run.id, wish):
        advice = f"the driver of run {run.name} goes on with the {wish}"
        _watch(out, towline, run, PlainView(out), advice)
        run = towline.store.run(run.id)
        if run.state is not RunState.ACTIVE:
            return _as_wished(towline, run, tell_end(out, towline, run))
    return _as_wished(towline, run, drive_here(out, towline, run))


def _as_wished(towline: Towline, run: RunRecord, code: int) -> int:
    """What the user asked for was done: 0, though there may be no model at home."""
    ended_so = (RunState.STOPPED, RunState.ABORTED)
    return 0 if towline.store.run(run.id).state in ended_so else code


# -- watching -------------------------------------------------------------------------------------


def _watch(out: Out, towline: Towline, run: RunRecord, view: View, advice: str) -> None:
    """Show a run that another process drives until it ends or loses its driver."""
    from towline.cli.render import PlainView, show_run  # noqa: PLC0415

    is_over = towline.watcher(run.id)
    after = 0
    if isinstance(view, PlainView):
        after = view.recap(towline.store.events(run.id))
    try:
        asyncio.run(show_run(out, towline, run.id, view, is_over, after=after))
    except KeyboardInterrupt:
        view.close()
        out.line(f"The run is left alone; {advice}.")
        raise click.exceptions.Exit(130) from None
    view.close()
