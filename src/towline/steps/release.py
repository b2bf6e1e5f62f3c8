"""release: end the instance and prove that it is gone; then the keys, then the receipt."""

from __future__ import annotations

from typing import Any

from towline.context import Context, end_instance
from towline.core.run import StepName
from towline.core.task import Keep
from towline.core.units import seconds_text

_POLL_S = 0.5


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: `act` begins with the provider's own word on each instance."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """End every instance of the run that the ledger does not hold proof for.

    Raises:
        ReleaseUnconfirmed: One may still bill.
    """
    await _keep(ctx)
    await ctx.hang_up()
    open_rows = [row for row in ctx.journal.store.ledger(ctx.run.id) if row.gone_at is None]
    for row in open_rows:
        ctx.status(f"terminating {row.instance_id or row.tag}")
        await end_instance(ctx, row)
    for key in (ctx.files.private_key, ctx.files.private_key.with_suffix(".pub")):
        key.unlink(missing_ok=True)
    rows = ctx.journal.store.ledger(ctx.run.id)
    proof = rows[-1].proof if rows else "nothing was rented"
    gone_at = max((row.gone_at for row in rows if row.gone_at), default=ctx.clock.now())
    ctx.note(f"gone: {proof}")
    return {"gone": True, "proof": proof, "at": gone_at}


async def _keep(ctx: Context) -> None:
    """Hold the instance as the task asks, until the time is over or the user ends it."""
    policy = ctx.task.on_success if ctx.run.error is None else ctx.task.on_failure
    row = ctx.ledger_row()
    started = ctx.result(StepName.EXECUTE)
    if not isinstance(policy, Keep) or ctx.run.wish is not None or row is None or not started:
        return
    until = ctx.facts().get("kept_until")
    if until is None:
        until = ctx.clock.now() + policy.keep
        ctx.journal.fact("kept_until", until)
        ctx.note(
            f"the instance is kept for {seconds_text(policy.keep)};"
            f" `towline stop {ctx.run.name}` ends it now"
        )
    while ctx.clock.now() < until and ctx.journal.run().wish is None:
        ctx.status(f"instance kept, {seconds_text(until - ctx.clock.now())} left")
        await ctx.clock.sleep(_POLL_S)
