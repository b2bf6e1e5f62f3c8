"""The only loop: next step, look, act, record; under a lease, until the run is over.

While a step works, a watch beside it renews the lease and reads the user's wishes. A wish cancels
the step; what comes next is again `next_step`'s to say.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline import errors, receipt
from towline.context import Context
from towline.core.run import Outcome, RunRecord, StepName, Wish, final_state, next_step
from towline.plan import STEPS
from towline.store.journal import LEASE_S

_WATCH_EVERY_S = 0.3
_RENEW_EVERY_S = LEASE_S / 4


class _Wished(Exception):
    """The user's wish ended the step."""


async def drive(ctx: Context) -> RunRecord:
    """Drive a run to its end; returns it as it then is.

    Raises:
        TowlineError: With `resumable`, the run stays active and can be taken up again; the
            instance stays up. Any other error of a step is recorded, what can be saved is brought
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
        body = error_json(error, name)
        if error.resumable or _would_lose_the_model(error, name):
            ctx.journal.event("error", **body)
            raise
        ctx.journal.fail(body)
        ctx.journal.finish(name, number, Outcome.FAILED, {"error": error.message})
    except Exception as bug:
        if name in (StepName.GATHER, StepName.RELEASE):
            raise  # the model is not safe, or nothing is left to try: the run stays active
        # rule 6, money first: what can be saved is brought home and the instance is released
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


def _would_lose_the_model(error: errors.TowlineError, name: StepName) -> bool:
    """Whether to hold on: a failing way home is no reason to end the instance with the model.

    The guard there ends it after `gather_grace`, so that it does not bill for ever.
    """
    lost = (errors.RemoteError, errors.TransferError)
    return name is StepName.GATHER and isinstance(error, lost)


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
    return await step.act(ctx) if done is None else done


async def _watch(ctx: Context, name: StepName) -> None:
    """Renew the lease, follow the user's wishes; never returns."""
    renewed = ctx.clock.monotonic()
    while True:
        await ctx.clock.sleep(_WATCH_EVERY_S)
        if ctx.clock.monotonic() - renewed >= _RENEW_EVERY_S:
            ctx.journal.renew()
            renewed = ctx.clock.monotonic()
        wish = ctx.journal.run().wish
        if wish is not ctx.run.wish and _ends(wish, name):
            raise _Wished


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
