"""Rent one instance for an offer, and know whether there is one: the delicate half of `acquire`.

What a failed answer means is `core.answers`' to say. After an unknown one the account is listed
until its lists have settled; nothing is created again before that.
"""

from __future__ import annotations

import secrets
from pathlib import Path

from towline import errors
from towline.context import Context
from towline.core.answers import Verdict, judge
from towline.core.backoff import delays
from towline.core.instance import Instance, InstanceId, Offer, Order
from towline.core.offers import hour_usd
from towline.disk import read_text
from towline.home import write_private
from towline.ports import Provider

_POLL_S = (0.05, 3.0)
_LATER_S = (1.0, 30.0)


async def create(
    ctx: Context, provider: Provider, number: int, offer: Offer, order: Order
) -> InstanceId | None:
    """Ask until the answer is clear: the instance's id, or None for a refusal of this offer.

    Raises:
        ProviderError: A refusal of the whole account, or no clear answer and no instance; the
            ledger's row is closed then.
        TowlineError: The order itself is wrong; the row is closed then.
        AssertionError: Never.
    """  # noqa: DOC501 - a helper makes the ProviderError
    since = ctx.clock.monotonic()
    ctx.age.note(0.0)
    for pause_s in delays(*_LATER_S):
        try:
            instance = await provider.create(offer, order)
        except errors.ProviderError as error:
            verdict = judge(error)
            if await _found_after(ctx, provider, verdict, error):
                return _rented_id(ctx)
            late = ctx.clock.monotonic() - since > ctx.task.limits.boot_timeout
            if verdict is Verdict.LATER and not late:
                ctx.status(f"{provider.name} asks us to wait: {error.message}")
                wish_s = error.retry_after_s if isinstance(error, errors.RateLimited) else None
                await ctx.clock.sleep(pause_s if wish_s is None else min(wish_s, _LATER_S[1]))
                continue
            if verdict is not Verdict.UNKNOWN:  # after that `adopt` has closed the row
                ctx.journal.gone(number, f"never rented: {error.message}")
            if verdict is Verdict.REFUSED:
                ctx.note(f"{offer}: {error.message}; trying the next offer")
                return None
            raise _as_unrented(provider, verdict, error) from error
        except errors.TowlineError as error:  # the order itself is wrong: nothing was asked
            ctx.journal.gone(number, f"never rented: {error.message}")
            raise
        _record(ctx, number, instance, offer)
        ctx.note(f"rented {offer}: {instance.id}")
        return instance.id
    raise AssertionError  # the pauses have no end


def _as_unrented(
    provider: Provider, verdict: Verdict, error: errors.ProviderError
) -> errors.ProviderError:
    if verdict is not Verdict.UNKNOWN:
        return error
    return errors.ProviderUnavailable(
        f"{provider.name} did not create an instance: {error.message}",
        hint="nothing was rented; try again later",
    )


async def _found_after(
    ctx: Context, provider: Provider, verdict: Verdict, error: errors.ProviderError
) -> bool:
    """Whether a create that failed has made an instance all the same; it is adopted then.

    After an unknown answer the whole settle window is waited for; after a refusal the account is
    listed once, for a provider may err.
    """
    if verdict is Verdict.UNKNOWN:
        ctx.note(f"{provider.name} gave no clear answer ({error.message}); looking for the tag")
        return await adopt(ctx)
    return await _take_one(ctx, await _listed(ctx, provider))


async def adopt(ctx: Context) -> bool:
    """Look for our tag until the provider's lists have settled; adopt one, end any extras.

    Never creates blindly again: False only when nothing appeared in the whole window, and then
    the ledger's row is closed.
    """
    row = ctx.ledger_row()
    assert row is not None  # noqa: S101 - called with an open row only
    provider = await ctx.provider_of_row(row)
    until = ctx.clock.monotonic() + provider.features.settle_s
    pauses = delays(*_POLL_S)
    answered = False
    while True:
        listed = await _listed(ctx, provider)
        answered = listed is not None
        if await _take_one(ctx, listed):
            return True
        if ctx.clock.monotonic() >= until and answered:
            break
        await ctx.clock.sleep(next(pauses))
    ctx.journal.gone(row.number, f"{provider.name} listed no instance with tag {row.tag}")
    return False


async def _take_one(ctx: Context, listed: list[Instance] | None) -> bool:
    """Adopt the oldest instance of our tag that is not known as gone; end the others."""
    row = ctx.ledger_row()
    assert row is not None  # noqa: S101 - called with an open row only
    gone = {
        one.instance_id for one in ctx.journal.store.ledger(ctx.run.id) if one.gone_at is not None
    }
    ours = [one for one in listed or [] if one.tag == row.tag and one.id not in gone]
    if not ours:
        return False
    first, *extras = sorted(ours, key=lambda one: one.started_at or 0.0)
    _record(ctx, row.number, first, row.offer)
    ctx.journal.seen(row.number)
    ctx.note(f"found {first.id}, which carries this run's tag")
    for extra in extras:
        ctx.note(f"{extra.id} carries it too: terminating it")
        try:
            await ctx.provider_named(row.provider).terminate(extra.id)
        except errors.ProviderError as error:  # release looks for it again, and so does each sweep
            ctx.note(f"{extra.id} is still there: {error.message}")
    return True


async def _listed(ctx: Context, provider: Provider) -> list[Instance] | None:
    """The account's list; None when it could not be read."""
    try:
        return await provider.list_tagged()
    except errors.ProviderError as error:
        ctx.status(f"{provider.name} does not list its instances: {error.message}")
        return None


def _rented_id(ctx: Context) -> InstanceId:
    row = ctx.ledger_row()
    assert row is not None and row.instance_id is not None  # noqa: S101, PT018 - just adopted
    return row.instance_id


def _record(ctx: Context, number: int, instance: Instance, offer: Offer) -> None:
    price = hour_usd(offer, instance.price_usd_per_h)
    ctx.journal.rented(number, instance.id, instance.started_at or ctx.clock.now(), price)


def order_for(ctx: Context, provider: Provider, offer: Offer) -> Order:
    """What the instance must carry. The user's own machine knows the user's key."""
    if not provider.features.rented:
        return Order(tag=ctx.tag(), public_key="")
    host_key, host_public = (
        _pair(ctx, ctx.files.host_key, ctx.tag()) if provider.features.user_data else (None, None)
    )
    return Order(
        tag=ctx.tag(),
        public_key=_pair(ctx, ctx.files.private_key, f"{ctx.tag()}:{secrets.token_hex(24)}")[1],
        host_key=host_key,
        host_public_key=host_public,
        lifetime_s=ctx.task.limits.lifetime_s(offer.hour_usd),
        disk_gb=ctx.task.resources.disk_gb,
    )


def _pair(ctx: Context, path: Path, comment: str) -> tuple[str, str]:
    """A key pair of the run's own, fresh, in its files: (private, public)."""
    public = path.with_suffix(".pub")
    if not public.exists():
        private_text, public_text = ctx.new_key_pair(comment)
        write_private(path, private_text.encode())
        write_private(public, public_text.encode())
    return read_text(path), read_text(public)
