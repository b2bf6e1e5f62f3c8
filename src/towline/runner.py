"""The only loop: next step, look, act, record; under a lease, until the run is over.

While a step works, a watch beside it renews the lease and reads the user's wishes. A wish cancels
the step; what comes next is again `next_step`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from towline import errors, receipt
from towline.context import Context
from towline.core.run import Outcome, RunRecord, StepName, Wish, final_state, next_step
from towline.plan import STEPS
from towline.store.journal import LEASE_S

_WATCH_EVERY_S = 0.3
_RENEW_EVERY_S = LEASE_S / 4


#: rule 8: once a training may run, these alone end it: the instance's own word, the provider's
#: proof that it is gone, a limit. Before the start any error does: nothing is lost.
_ENDS: dict[StepName, tuple[type[errors.TowlineError], ...]] = {
    StepName.EXECUTE: (errors.NotStarted, errors.LimitReached, errors.InstanceLost),
    StepName.FOLLOW: (errors.TrainingFailed, errors.LimitReached, errors.InstanceLost),
    StepName.GATHER: (errors.ArtifactMissing, errors.LimitReached, errors.InstanceLost),
    StepName.RELEASE: (),
}


class _Wished(Exception):
    """The user's wish ended the step."""


async def drive(ctx: Context) -> RunRecord:
    """Drive a run to its end; returns it as it then is.

    Raises:
        TowlineError: With `resumable`, the run stays active and can be taken up again; the
            instance stays up. An error that ends the run is recorded, what can be saved is brought
            home, the instance is released, and the run ends as failed: it is not raised.
        LeaseLost: Another process drives the run now.
    """
    bugs: list[Exception] = []
    try:
        while (name := next_step(ctx.run, ctx.attempts())) is not None:
            bugs += await _take_step(ctx, name)
            ctx.run = ctx.journal.run()
        state = final_state(ctx.run, ctx.attempts())
        # before the run is closed: a crash in between leaves it to `resume`
        _write_receipt(ctx, replace(ctx.run, state=state))
        ctx.journal.end(state)
        if bugs:
            raise bugs[0]  # shown with its traceback, now that nothing bills any more
        return ctx.journal.run()
    finally:
        await ctx.hang_up()
        with contextlib.suppress(errors.StoreError):  # then it expires by itself
            ctx.journal.release_lease()


async def _take_step(ctx: Context, name: StepName) -> list[Exception]:
    """Take one step; returns the bug of ours that ended it, if one did."""
    number = ctx.journal.begin(name)
    try:
        result = await _watched(ctx, name)
    except _Wished:
        ctx.journal.finish(name, number, Outcome.FAILED, {"stopped": "by the user's wish"})
    except (errors.LeaseLost, errors.Fenced):
        raise  # nothing of ours counts any more
    except errors.TowlineError as error:
        if not _is_end(ctx, name, error):
            _hold(ctx, name, error)
        ctx.journal.fail(error_json(error, name))
        ctx.journal.finish(name, number, Outcome.FAILED, {"error": error.message})
    except Exception as bug:
        if name in _ENDS:
            raise  # no bug of ours is a training's end: the run stays active
        # rule 6, money first: nothing was started, so the instance is released
        message = f"towline failed inside: {bug!r}"
        ctx.journal.fail(
            {"kind": type(bug).__name__, "message": message, "hint": "please report this bug",
             "exit_code": 1, "step": name}
        )  # fmt: skip
        ctx.journal.finish(name, number, Outcome.FAILED, {"error": message})
        return [bug]
    else:
        ctx.journal.finish(name, number, Outcome.DONE, result)
    return []


def _is_end(ctx: Context, name: StepName, error: errors.TowlineError) -> bool:
    """Whether what a step failed with ends the run.

    Without a key in this shell nothing could be released either: another shell has it.
    """
    no_key = isinstance(error, errors.CredentialsError) and ctx.ledger_row() is not None
    ends = _ENDS.get(name, errors.TowlineError)
    return isinstance(error, ends) and not error.resumable and not no_key


def _hold(ctx: Context, name: StepName, error: errors.TowlineError) -> NoReturn:
    """Leave the run as it is, to be taken up again: what failed is no reason to end anything.

    The guard on the instance ends it when nobody comes back, so that it does not bill for ever.

    Raises:
        TowlineError: The error itself, where it says that the run can be taken up.
        ReleaseUnconfirmed: It may still bill.
        RunHeld: Something goes on over there, or waits.
    """
    if not isinstance(error, errors.StoreError):  # which could not be written down either
        ctx.journal.event("error", **error_json(error, name))
    if error.resumable:
        raise error
    if name is StepName.RELEASE:
        message = f"the instance is not proven gone and may still bill: {error.message}"
        raise errors.ReleaseUnconfirmed(message, hint=error.hint) from error
    goes_on = "what runs on the instance goes on"
    if name is StepName.GATHER:
        goes_on = "the instance keeps what there is"
    again = f"`towline resume {ctx.run.name}` takes the run up"
    hint = f"{error.hint}; then {again}" if error.hint else again
    raise errors.RunHeld(f"{error.message}; {goes_on}", hint=hint) from error


async def _watched(ctx: Context, name: StepName) -> dict[str, Any]:
    """Run the step with the watch beside it; whichever ends first ends the other."""
    step = asyncio.create_task(_look_then_act(ctx, name))
    watch = asyncio.create_task(_watch(ctx, name))
    try:
        await asyncio.wait({step, watch}, return_when=asyncio.FIRST_COMPLETED)
        if watch.done() and not step.done():
            watch.result()  # raises what ended it
        return await step
    finally:
        for task in (step, watch):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await step  # its own failure was raised above, or it was cancelled
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await watch


async def _look_then_act(ctx: Context, name: StepName) -> dict[str, Any]:
    step = STEPS[name]
    done = await step.look(ctx)
    if done is not None:
        return done
    if name is StepName.EXECUTE and (ctx.run.wish or ctx.run.error):
        raise _Wished  # it was only to be known whether a training runs: none does
    return await step.act(ctx)


async def _watch(ctx: Context, name: StepName) -> None:
    """Renew the lease, follow the user's wishes, see to the limits; never returns.

    Raises:
        _Wished: The user wants another end.
        LimitReached: Also where the instance can't be reached, or its model is not home yet.
    """
    began = renewed = ctx.clock.monotonic()
    while True:
        await ctx.clock.sleep(_WATCH_EVERY_S)
        if ctx.clock.monotonic() - renewed >= _RENEW_EVERY_S:
            ctx.journal.renew()
            renewed = ctx.clock.monotonic()
        wish = ctx.journal.run().wish
        if wish is not ctx.run.wish and _ends(wish, name):
            raise _Wished
        if name is not StepName.RELEASE and ctx.is_paid_up(began):
            message = "max_cost is used up, with the part of it that is kept for the way home"
            raise errors.LimitReached(message)


def _ends(wish: Wish | None, name: StepName) -> bool:
    """Say whether a new wish cuts this step short."""
    if wish is None:
        return False
    if name is StepName.RELEASE:
        return False  # it reads the wish itself; being ended is what it does
    # stop lets a start come to its end: what may run already is then gathered like any other
    return wish is Wish.ABORT or name not in (StepName.EXECUTE, StepName.GATHER)


def error_json(error: errors.TowlineError, step: StepName | None = None) -> dict[str, Any]:
    """An error as the journal and `--json` show it."""
    return {
        "kind": error.kind,
        "message": error.message,
        "hint": error.hint,
        "exit_code": error.exit_code,
        "step": step,
    }


def _write_receipt(ctx: Context, run: RunRecord) -> None:
    path = Path(ctx.run.results_dir) / "receipt.json"
    try:
        receipt.write(path, ctx.journal.store, run, ctx.clock.now())
    except OSError as error:
        ctx.note(
            f"the receipt can't be written to {path}: {error.strerror};"
            f" `towline receipt {ctx.run.name}` shows it"
        )
