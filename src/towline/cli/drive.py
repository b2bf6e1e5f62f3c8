"""Drive runs from this process until they end or the user detaches.

Ctrl-C, SIGTERM and a closed terminal leave the run to a background driver. The background driver
is started first, and takes the lease once this process lets go of it or dies.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

from towline import errors
from towline.cli.background import in_background
from towline.cli.common import opened
from towline.cli.render import PlainView, View, show_run, view_for
from towline.cli.tell import tell_end, tell_open
from towline.cli.text import Out
from towline.core.instance import RunId
from towline.core.run import RunRecord, RunState

if TYPE_CHECKING:
    from towline.api import Towline

DETACHED = 130
_HOLDS_WITHIN_S = 5.0
_HANDOVER_S = 20.0  # longer than a lease: a driver that died without a word is waited for
_POLL_S = 0.05
_LAST_WORD_S = 0.2
_DRIVEN_ELSEWHERE = (errors.LeaseHeld, errors.LeaseLost, errors.Fenced)
#: which of them there are depends on the system
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
#: those that came before there was a driver to heed them
_held: list[int] = []
_T = TypeVar("_T")


class Foreground:
    """This process as the driver of one or more runs."""

    def __init__(self, out: Out, towline: Towline) -> None:
        self._out = out
        self._towline = towline
        self._leave = asyncio.Event()
        self._is_left = False
        self._background: dict[RunId, subprocess.Popen[bytes]] = {}
        self._not_started: dict[RunId, errors.DriverNotStarted] = {}
        self._open: set[RunId] = set()  # runs whose driving has not ended
        self._views: dict[RunId, View] = {}

    async def drive(self, runs: dict[RunId, Callable[[], View]]) -> list[int]:
        """Drive all of them at once, each in a view of its own; the exit code of each."""
        self._open = set(runs)
        self._loop = asyncio.get_running_loop()
        with self._out.unblocked(), _caught(self._on_signal):
            return list(await asyncio.gather(*(self._one(*pair) for pair in runs.items())))

    def _on_signal(self) -> None:
        """Hand every run over; a second signal ends this process where it stands.

        Called where the signal found this process, not by the loop, which stands still while
        another program holds the journal.
        """
        if self._is_left:
            for view in self._views.values():
                view.close()  # gives the cursor back
            self._out.settle(_LAST_WORD_S)
            os._exit(DETACHED)
        self._is_left = True
        for run_id in self._open:
            try:
                self._background[run_id] = in_background(self._towline, run_id)
            except errors.DriverNotStarted as error:
                self._not_started[run_id] = error
        self._loop.call_soon_threadsafe(self._leave.set)

    async def _one(self, run_id: RunId, make_view: Callable[[], View]) -> int:
        try:
            after = last_event(self._towline, run_id)
        except errors.StoreError as unread:
            self._open.discard(run_id)
            return self._out.fail(unread)
        driving = asyncio.create_task(self._towline.drive(run_id))
        await self._towline.clock.sleep(0)  # by now the lease is taken, or refused
        if driving.done():
            self._open.discard(run_id)
            return self._told(run_id, driving.exception())
        showing = asyncio.create_task(self._show(run_id, make_view, driving.done, after))
        leaving = asyncio.create_task(self._leave.wait())
        try:
            await asyncio.wait({driving, leaving}, return_when=asyncio.FIRST_COMPLETED)
            driving.cancel()
            await asyncio.wait({driving, showing})
        finally:
            leaving.cancel()
            self._open.discard(run_id)
        if (bug := showing.exception()) is not None:
            self._out.fail(bug)  # it does not change how the run went
        error = None if driving.cancelled() else driving.exception()
        is_left = run_id in self._background or run_id in self._not_started
        if driving.cancelled() or (is_left and getattr(error, "resumable", False)):
            return await self._detached(run_id)
        return self._told(run_id, error)

    async def _show(
        self, run_id: RunId, make_view: Callable[[], View], is_over: Callable[[], bool], after: int
    ) -> None:
        view = self._views[run_id] = make_view()
        try:
            await show_run(self._out, self._towline, run_id, view, is_over, after=after)
        finally:
            del self._views[run_id]
            view.close()

    async def _detached(self, run_id: RunId) -> int:
        """Say that the background driver goes on, or that there is none."""
        try:
            if run_id in self._not_started:
                raise self._not_started[run_id]
            await wait_for_driver(self._towline, run_id, self._background[run_id])
            name = self._towline.store.run(run_id).name
        except errors.TowlineError as error:
            return self._out.fail(error)
        self._out.line(
            f"Detached. The run goes on in the background; `towline attach {name}` returns,"
            f" `towline stop {name}` ends it."
        )
        return DETACHED

    def _told(self, run_id: RunId, error: BaseException | None) -> int:
        """Say how the driving ended; one run's bug does not end the others."""
        code = 0 if error is None else self._out.fail(error)
        try:
            run = self._towline.store.run(run_id)
            if error is None:
                return tell_end(self._out, self._towline, run)
            if not isinstance(error, _DRIVEN_ELSEWHERE):
                tell_open(self._out, self._towline, run)
            if self._out.as_json:
                self._out.json(self._towline.status(run))
        except errors.StoreError as unread:
            return code or self._out.fail(unread)
        return code


def in_loop(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end in a loop; that it can't be tidied up then changes no result.

    Raises:
        RuntimeError: The work's own.
    """
    done: list[_T] = []

    async def kept() -> None:
        done.append(await work)

    try:
        asyncio.run(kept())
    except RuntimeError:  # "can't start new thread": asyncio starts one to end its threads
        if not done:
            raise
    return done[0]


def drive_here(out: Out, towline: Towline, run: RunRecord) -> int:
    """Drive one run in the foreground and show it; the exit code."""

    async def work() -> int:
        views = {run.id: lambda: view_for(out, towline, run)}
        return (await Foreground(out, towline).drive(views))[0]

    return in_loop(work())


def last_event(towline: Towline, run_id: RunId) -> int:
    """Number of the newest event; what was before it is not shown again."""
    return max((event.seq for event in towline.store.events(run_id)), default=0)


@contextmanager
def signals_held() -> Iterator[None]:
    """Remember signals until `Foreground` heeds them, so that no stored run is left without a driver."""
    _held.clear()
    with _handlers(lambda number: signal.signal(number, lambda *_: _held.append(number))):
        yield


@contextmanager
def _caught(handler: Callable[[], None]) -> Iterator[None]:
    """Call a handler when this process is asked to end, or was while it was held."""
    with _handlers(lambda number: signal.signal(number, lambda *_: handler())):
        if _held:
            handler()
        yield


@contextmanager
def _handlers(catch: Callable[[int], object]) -> Iterator[None]:
    """Set a handler for each signal that asks a process to end; afterwards the old ones."""
    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    before = {number: signal.getsignal(number) for number in numbers}
    for number in numbers:
        catch(number)
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


# -- in the background ----------------------------------------------------------------------------


async def wait_for_driver(
    towline: Towline, run_id: RunId, process: subprocess.Popen[bytes]
) -> None:
    """Wait until the background driver holds the lease, or has done all there was to do.

    Raises:
        DriverNotStarted: It does not start.
    """
    until = towline.clock.monotonic() + _HOLDS_WITHIN_S
    while towline.clock.monotonic() < until:
        run = towline.store.run(run_id)
        if run.state is not RunState.ACTIVE or towline.store.driver(run_id):
            process.returncode = 0  # it outlives us, and Python need not warn of that
            return
        if process.poll() is not None:
            break
        await towline.clock.sleep(_POLL_S)
    name = towline.store.run(run_id).name
    log = towline.home.run_files(run_id).driver_log
    raise errors.DriverNotStarted(
        f"the background driver of run {name} has not started; its output is in {log}",
        hint=f"`towline resume {name}` drives the run here",
    )


@click.command(hidden=True)
@click.argument("run_id")
@click.pass_obj
def drive(out: Out, run_id: str) -> int:
    """Drive a run without a terminal: what `--detach` and Ctrl-C start."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with opened(out, retries=False) as towline:
        run = towline.store.run(RunId(run_id))
        try:
            ended = in_loop(_drive_unseen(out, towline, run))
        except asyncio.CancelledError:
            out.line(f"asked to end; `towline resume {run.name}` takes the run up")
            return DETACHED
        return tell_end(out, towline, ended)


async def _drive_unseen(out: Out, towline: Towline, run: RunRecord) -> RunRecord:
    driving = asyncio.create_task(_drive_when_free(towline, run.id))
    after = last_event(towline, run.id)
    with out.unblocked(), _stoppable(driving):
        showing = asyncio.create_task(
            show_run(out, towline, run.id, PlainView(out), driving.done, after=after)
        )
        await asyncio.wait({driving, showing})
        if (bug := showing.exception()) is not None:
            out.fail(bug)  # it does not change how the run went
        return await driving


@contextmanager
def _stoppable(driving: asyncio.Task[RunRecord]) -> Iterator[None]:
    """Let SIGTERM end the driving, not the run."""
    loop = asyncio.get_running_loop()
    try:
        loop.add_signal_handler(signal.SIGTERM, driving.cancel)
        loop.add_signal_handler(signal.SIGINT, driving.cancel)
    except NotImplementedError:
        pass  # Windows: it is ended hard, and the lease expires
    yield


async def _drive_when_free(towline: Towline, run_id: RunId) -> RunRecord:
    """Take the run over from the process that started us, as soon as it lets go."""
    until = towline.clock.monotonic() + _HANDOVER_S
    while True:
        try:
            return await towline.drive(run_id)
        except errors.LeaseHeld:
            if towline.clock.monotonic() >= until:
                raise
        await towline.clock.sleep(_POLL_S)
