"""release: end the instance and prove that it is gone; then the keys, then the receipt."""

from __future__ import annotations

from typing import Any

from towline import errors
from towline.context import Context, end_instance
from towline.core.instance import Instance, Offer
from towline.core.run import StepName
from towline.core.task import Keep
from towline.core.units import seconds_text
from towline.ending import by_hand, tidy
from towline.ports import Provider

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
    for row in ctx.journal.store.ledger(ctx.run.id):
        if row.gone_at is None:
            ctx.status(f"terminating {row.instance_id or row.tag}")
            await end_instance(ctx, row)
    for name in dict.fromkeys(row.provider for row in ctx.journal.store.ledger(ctx.run.id)):
        await _clear(ctx, ctx.provider_named(name))
    for key in ctx.files.keys:
        key.unlink(missing_ok=True)
    rows = ctx.journal.store.ledger(ctx.run.id)
    proof = rows[-1].proof if rows else "nothing was rented"
    gone_at = max((row.gone_at for row in rows if row.gone_at), default=ctx.clock.now())
    ctx.note(f"gone: {proof}")
    return {"gone": True, "proof": proof, "at": gone_at}


async def _clear(ctx: Context, provider: Provider) -> None:
    """End what appeared under our tag without a row, and remove what was made beside instances.

    Raises:
        ReleaseUnconfirmed: An address or a volume may still bill. A key does not: it is told, and
            `gc` removes it.
    """
    for stray in await _strays(ctx, provider):
        offer = Offer(provider=provider.name, type=stray.type)
        number = ctx.journal.intend(provider.name, stray.tag, offer)
        ctx.journal.rented(
            number, stray.id, stray.started_at or ctx.clock.now(), stray.price_usd_per_h
        )
        row = ctx.ledger_row()
        assert row is not None  # noqa: S101 - it was written a line above
        await end_instance(ctx, row)
    done = await tidy(provider, ctx.tag(), ctx.memo(provider.name), ctx.clock)
    if done.removed:
        ctx.note(f"removed at {provider.name}: {', '.join(str(one) for one in done.removed)}")
    if done.trouble is None:
        return
    what = ", ".join(str(one) for one in done.left) or "keys and addresses of the run"
    message = f"{what} at {provider.name} may still be there: {done.trouble}"
    if any(one.kind != "key" for one in done.left):
        raise errors.ReleaseUnconfirmed(f"{message}; it may still bill", hint=by_hand(provider))
    ctx.note(f"{message}; {by_hand(provider)}")


async def _strays(ctx: Context, provider: Provider) -> list[Instance]:
    """Instances of this run's tag that the ledger does not know, or knows as gone.

    The ledger is proven empty by now, so an API that falls silent here hides no known instance;
    every later sweep lists the account again.
    """
    if not provider.features.rented:
        return []
    try:
        return [one for one in await provider.list_tagged() if one.tag == ctx.tag()]
    except errors.ProviderError as error:
        ctx.note(f"{provider.name} could not be asked once more: {error.message}")
        return []


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
