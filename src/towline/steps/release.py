"""release: end the instance and prove that it is gone; then the keys, then the receipt."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

from towline import errors
from towline.context import Context, end_instance
from towline.core.instance import Instance, Leftover, Offer
from towline.core.kept import Kept
from towline.core.run import StepName
from towline.core.task import Keep
from towline.core.units import Duration, seconds_text
from towline.ending import by_hand, tidy
from towline.ports import Provider
from towline.store.journal import LedgerRow

_POLL_S = 0.5
_GUARD_S = 30.0  # for telling it, the way there included


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: `act` begins with the provider's own word on each instance."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """End every instance of the run that the ledger does not hold proof for.

    Raises:
        ReleaseUnconfirmed: One may still bill, or something that was made beside it.
    """
    await _keep(ctx)
    await ctx.hang_up()
    for row in ctx.journal.store.ledger(ctx.run.id):
        if row.gone_at is None:
            ctx.status(f"terminating {row.instance_id or row.tag}")
            await end_instance(ctx, row)
    for row in {row.provider: row for row in ctx.journal.store.ledger(ctx.run.id)}.values():
        await _clear(ctx, await ctx.provider_of_row(row), row)
    for key in ctx.files.keys:
        key.unlink(missing_ok=True)
    rows = ctx.journal.store.ledger(ctx.run.id)
    proof = rows[-1].proof if rows else "nothing was rented"
    gone_at = max((row.gone_at for row in rows if row.gone_at), default=ctx.clock.now())
    ctx.note(f"gone: {proof}")
    return {"gone": True, "proof": proof, "at": gone_at}


async def _clear(ctx: Context, provider: Provider, row: LedgerRow) -> None:
    """End what appeared under our tag without a row, and remove what was made beside instances.

    Args:
        ctx: The run's.
        provider: As the account that rented.
        row: One of the ledger's for this provider.

    Raises:
        ReleaseUnconfirmed: An address or a volume may still bill. A key does not: it is told, and
            `gc` removes it.
    """
    for stray in await _strays(ctx, provider):
        offer = Offer(provider=provider.name, type=stray.type)
        number = ctx.journal.intend(provider.name, stray.tag, offer, row.renter)
        ctx.journal.rented(
            number, stray.id, stray.started_at or ctx.clock.now(), stray.price_usd_per_h
        )
        open_row = ctx.ledger_row()
        assert open_row is not None  # noqa: S101 - it was written a line above
        await end_instance(ctx, open_row)
    done = await tidy(provider, ctx.tag(), ctx.memo(provider.name), ctx.clock)
    if done.removed:
        ctx.note(f"removed at {provider.name}: {', '.join(str(one) for one in done.removed)}")
    if done.trouble is None:
        return
    message = f"{_named(done.left, provider)} at {provider.name} may still be there: {done.trouble}"
    if done.bills:
        message += "; the instance is gone, but this may still bill"
        raise errors.ReleaseUnconfirmed(message, hint=by_hand(provider))
    ctx.note(f"{message}; {by_hand(provider)}")


def _named(left: list[Leftover], provider: Provider) -> str:
    """What may still be there: what was listed, else all that there may be."""
    if left:
        return ", ".join(str(one) for one in left)
    kinds = provider.features.leftovers or ("key", "address", "volume")
    return " and ".join(_plural(kind) for kind in kinds) + " of the run"


def _plural(kind: str) -> str:
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


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
    started = ctx.result(StepName.EXECUTE)
    nothing = ctx.ledger_row() is None or not started
    if not isinstance(policy, Keep) or ctx.run.wish is not None or nothing:
        return
    kept = Kept.of(ctx.facts())
    if kept is None:
        kept = Kept(at=ctx.clock.now(), tick=ctx.clock.monotonic(), keep_s=float(policy.keep))
        ctx.journal.advance(kept.facts(), [])
        ctx.note(
            f"the instance is kept for {seconds_text(policy.keep)};"
            f" `towline stop {ctx.run.name}` ends it now"
        )
    if kept.left_s(ctx.clock) > 0:
        await _tell_guard(ctx, kept)
    while (left_s := kept.left_s(ctx.clock)) > 0 and ctx.journal.run().wish is None:
        if ctx.is_paid_up():
            ctx.note(
                "max_cost ends the instance before the time for which it was to be kept is over"
            )
            return
        ctx.status(f"instance kept, {seconds_text(left_s)} left")
        await ctx.clock.sleep(_POLL_S)


async def _tell_guard(ctx: Context, kept: Kept) -> None:
    """Let the guard there wait as long as we do; then, as ever, it ends what nobody comes for.

    A guard that can't be told ends the instance before its time, which costs nothing.

    Raises:
        Fenced: A newer driver keeps it.
    """
    wait_s = kept.left_s(ctx.clock) + ctx.task.limits.gather_grace
    limits = replace(ctx.task.limits, gather_grace=Duration(wait_s))
    try:
        async with asyncio.timeout(_GUARD_S):
            await ctx.arm(await ctx.line(), limits)
    except errors.Fenced:
        raise
    except (TimeoutError, errors.RemoteError, errors.TransferError, errors.InstanceLost) as error:
        ctx.note(f"the guard on the instance does not know that it is kept: {error}")
