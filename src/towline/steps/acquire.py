"""acquire: rent one instance that carries our tag, and never two; wait until it has an address.

Intent is on disk before a provider is asked. The offers of all accounts are tried in order, the
best first; nothing is tried past an instance that could not be ended.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from towline import errors
from towline.context import Context, end_instance
from towline.core.answers import Verdict, judge
from towline.core.backoff import delays
from towline.core.instance import Address, Instance, InstanceId, InstanceStatus, Offer
from towline.core.offers import Outlook, hour_usd, rank
from towline.core.units import seconds_text, usd_text
from towline.ending import age_s, is_absent
from towline.market import ask
from towline.ownership import renter_of
from towline.ports import Provider
from towline.renting import adopt, create, order_for
from towline.store.journal import LedgerRow

_POLL_S = (0.05, 3.0)
_PROBE_S = 2.0
_REFUSALS = 5  # of an address, in a row: one may have come too early
_PRICE_SLACK = 1.01  # what rounding explains
_SILENCES = (errors.ProviderUnavailable, errors.ProviderReplyError, errors.RateLimited)


async def look(ctx: Context) -> dict[str, Any] | None:
    """An instance of ours that was rented before: taken up, or ended when it is dead."""
    row = ctx.ledger_row()
    if row is None:
        return None
    if row.instance_id is None and not await adopt(ctx):
        return None
    row = ctx.ledger_row()
    if row is None or row.instance_id is None:
        return None
    return await _await_address(ctx, row)


async def act(ctx: Context) -> dict[str, Any]:
    """Try the offers of all the run's accounts in order until one is up.

    Raises:
        NoCapacity: No offer fits, or none could be had.
        ProviderError: The only account that was left refused for another reason.
    """
    offers = await _offers(ctx)
    waiting, again = deque(offers), list[Offer]()
    trouble: errors.ProviderError | None = None
    while waiting:
        offer = waiting.popleft()
        found = await _try(ctx, offer)
        if isinstance(found, dict):
            return found
        trouble = found or trouble
        if found is not None and judge(found) is Verdict.ACCOUNT:
            waiting = deque(other for other in waiting if other.provider != offer.provider)
        elif found is not None and offer not in again:
            again.append(offer)  # nothing was made: it may be asked for once more
            waiting.appendleft(offer)
    raise trouble or _nothing(ctx, len(offers))


async def _try(ctx: Context, offer: Offer) -> dict[str, Any] | errors.ProviderError | None:
    """Try one offer: the step's result, a trouble that is not the offer's, or None for the next.

    Raises:
        ProviderError: Something may be rented: nothing else is tried, release sees to it.
    """
    ctx.status(f"renting {offer}")
    try:
        return await _rent(ctx, offer)
    except errors.ProviderError as error:
        if ctx.ledger_row() is not None:
            raise
        ctx.note(f"{offer}: {error.message}")
        return error


async def _offers(ctx: Context) -> list[Offer]:
    """What can be tried, the best first.

    Raises:
        ProviderError: No account answered.
    """
    need = ctx.task.resources
    market = await ask(ctx.run.providers, ctx.provider_named, need)
    for failure in market.failures.values():
        if len(market.failures) == len(ctx.run.providers):
            raise failure
    for note in market.notes():
        ctx.note(note)
    return rank(market.offers, need.max_price_per_hour, _outlook(ctx))


def _outlook(ctx: Context) -> Outlook:
    duration = ctx.task.limits.max_duration
    plain = Outlook(upload_bytes=ctx.run.task.get("bytes", 0))
    return plain if duration is None else replace(plain, training_s=float(duration))


def _nothing(ctx: Context, tried: int) -> errors.NoCapacity:
    message = f"none of {tried} offers could be had" if tried else "no offer that fits the task"
    hint = "try another region or GPU, a higher max_price_per_hour, or later; nothing was rented"
    return errors.NoCapacity(f"{', '.join(ctx.run.providers)}: {message}", hint=hint)


async def _rent(ctx: Context, offer: Offer) -> dict[str, Any] | None:
    """Rent one offer and wait for its address; None when it could not be had.

    Raises:
        ProviderError: A refusal of the whole account, or no clear answer and no instance.
        ReleaseUnconfirmed: It did not come up and can't be ended: nothing else is tried.
    """
    provider = ctx.provider_named(offer.provider)
    order = order_for(ctx, provider, offer)
    renter = await renter_of(provider)
    # rule 1: intent before effect
    number = ctx.journal.intend(provider.name, order.tag, offer, renter)
    if await create(ctx, provider, number, offer, order) is None:
        return None
    row = ctx.ledger_row()
    assert row is not None  # noqa: S101 - create has written its id
    return await _await_address(ctx, row)


# -- until it is up -------------------------------------------------------------------------------


async def _await_address(ctx: Context, row: LedgerRow) -> dict[str, Any] | None:
    """Wait until the instance is active, has an address and listens; end it when it does not."""
    limit_s, since = ctx.task.limits.boot_timeout, ctx.clock.monotonic() - age_s(row, ctx.clock)
    reason = f"no address within {seconds_text(limit_s)}"
    provider, instance_id = await ctx.provider_of_row(row), _id_of(row)
    refusals, is_known = 0, row.seen_at is not None
    for pause_s in delays(*_POLL_S):
        instance = await _read(ctx, provider, instance_id)
        if instance is not None and not is_known:
            ctx.journal.seen(row.number)
            is_known = True
        failed = await _why_dead(ctx, provider, instance_id, instance, since)
        if failed is None and instance is not None and instance.status is InstanceStatus.ACTIVE:
            failed = _overpriced(ctx, instance, row.offer)
            if failed is None and instance.address is None:
                refused = await _attach(ctx, provider, instance)
                refusals = 0 if refused is None else refusals + 1
                failed = refused if refusals >= _REFUSALS else None
            elif failed is None and await _listens(ctx, provider, instance):
                return _result(ctx, provider, instance, row.offer)
        elif failed is None:
            ctx.status(f"{instance_id} is {instance.status if instance else 'not listed yet'}")
        if failed is not None or ctx.clock.monotonic() - since > limit_s:
            reason = failed or reason
            break
        await ctx.clock.sleep(pause_s)
    ctx.note(f"{instance_id}: {reason}; terminating it and trying the next offer")
    await _end(ctx, f"{instance_id}: {reason}")
    return None


def _id_of(row: LedgerRow) -> InstanceId:
    assert row.instance_id is not None  # noqa: S101 - asked for one that was rented
    return row.instance_id


async def _end(ctx: Context, why: str) -> None:
    """End the instance before the next offer is tried.

    Raises:
        ProviderError: It is not proven gone: never past that. Release tries again, for as long as
            it takes.
    """
    row = ctx.ledger_row()
    try:
        if row is not None:
            await end_instance(ctx, row)
    except errors.ReleaseUnconfirmed as unproven:
        raise errors.ProviderError(f"{why}; {unproven.message}", hint=unproven.hint) from unproven


async def _read(ctx: Context, provider: Provider, instance_id: InstanceId) -> Instance | None:
    """Read the instance; silence of the API is not its death."""
    while True:
        try:
            return await provider.get(instance_id)
        except _SILENCES as silent:
            ctx.status(f"{provider.name} does not answer: {silent.message}")
            await ctx.clock.sleep(_POLL_S[1])


async def _why_dead(
    ctx: Context,
    provider: Provider,
    instance_id: InstanceId,
    instance: Instance | None,
    since: float,
) -> str | None:
    """Why the instance will not come up, None while it may.

    One that was made a moment ago may not be known yet, and one answer may be of yesterday.
    """
    if instance is not None:
        dead = instance.status in (InstanceStatus.DEAD, InstanceStatus.TERMINATING)
        return (instance.detail or "it died") if dead else None
    if ctx.clock.monotonic() - since < provider.features.settle_s:
        return None
    try:
        return "it disappeared" if await is_absent(provider, instance_id) else None
    except _SILENCES:
        return None


def _overpriced(ctx: Context, instance: Instance, offer: Offer) -> str | None:
    """Why it can't be kept at the price it turned out to have; None when it can."""
    ceiling = ctx.task.resources.max_price_per_hour
    price = hour_usd(offer, instance.price_usd_per_h)
    if price <= offer.hour_usd * _PRICE_SLACK:
        return None
    found = f"it costs {usd_text(price)}/h, not {usd_text(offer.hour_usd)}"
    if ceiling is not None and price > ceiling:
        return f"{found}, which is over max_price_per_hour"
    ctx.status(found)
    return None


async def _attach(ctx: Context, provider: Provider, instance: Instance) -> str | None:
    """Give it an address; why that can't be done, None while it may."""
    ctx.status(f"{instance.id} is active, and waits for an address")
    try:
        await provider.attach_address(instance, ctx.memo(provider.name))
    except _SILENCES as silent:
        ctx.status(f"{provider.name} does not answer: {silent.message}")
    except errors.ProviderError as refused:
        return f"it gets no address: {refused.message}"
    return None


async def _listens(ctx: Context, provider: Provider, instance: Instance) -> bool:
    """Whether its SSH port accepts; a cloud reports an address minutes before that.

    On this machine and on the user's own the port is `connect`'s to wait for.
    """
    assert instance.address is not None  # noqa: S101 - asked for one that has it
    if provider.features.sole_owner or not provider.features.rented:
        return True
    banner = await ctx.dialer.probe(instance.address, _PROBE_S)
    if not banner.accepts:
        ctx.status(f"{instance.address}: {banner.detail}")
    return banner.accepts


def _result(ctx: Context, provider: Provider, instance: Instance, offer: Offer) -> dict[str, Any]:
    price = hour_usd(offer, instance.price_usd_per_h)
    if price > offer.hour_usd * _PRICE_SLACK:
        ctx.note(f"it costs {usd_text(price)}/h; the offer said {usd_text(offer.hour_usd)}")
    return {
        "provider": provider.name,
        "instance_id": instance.id,
        "type": instance.type or offer.type,
        "gpu": offer.gpu,
        "gpus": offer.gpus,
        "vram_gb": offer.vram_gb,
        "price_usd_per_h": price,
        "address": _address(ctx, provider, instance).data(),
    }


def _address(ctx: Context, provider: Provider, instance: Instance) -> Address:
    """The address, with the host key that the run's user-data gave it."""
    address = instance.address
    assert address is not None  # noqa: S101 - asked for one that has it
    public = ctx.files.host_key.with_suffix(".pub")
    if address.host_key is None and provider.features.user_data and public.exists():
        return replace(address, host_key=public.read_text().strip())
    return address
