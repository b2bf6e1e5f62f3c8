"""acquire: rent one instance that carries our tag, and never two.

Intent is on disk before a provider is asked. What an answer means is `core.answers`' to say; after
an unknown one the account is listed until its lists have settled, and only then something else is
tried.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline import errors
from towline.context import Context, address_json, end_instance
from towline.core.answers import Verdict, judge
from towline.core.backoff import delays
from towline.core.instance import (
    Address,
    Instance,
    InstanceId,
    InstanceStatus,
    Offer,
    Order,
)
from towline.core.offers import Outlook, rank
from towline.core.units import seconds_text, usd_text
from towline.ending import is_absent
from towline.home import write_private
from towline.market import ask
from towline.ports import Provider

_POLL_S = (0.05, 3.0)
_LATER_S = (1.0, 30.0)
_PROBE_S = 2.0
_TRIES = 2  # of one offer, when no answer was clear and no instance appeared
_PRICE_SLACK = 1.01  # what rounding explains
_SILENCES = (errors.ProviderUnavailable, errors.ProviderReplyError, errors.RateLimited)


async def look(ctx: Context) -> dict[str, Any] | None:
    """An instance of ours that was rented before: taken up, or ended when it is dead."""
    row = ctx.ledger_row()
    if row is None:
        return None
    if row.instance_id is None and not await _adopt(ctx):
        return None
    row = ctx.ledger_row()
    if row is None or row.instance_id is None:
        return None
    return await _await_address(ctx, row.instance_id, row.offer, row.created_at or row.intent_at)


async def act(ctx: Context) -> dict[str, Any]:
    """Try the offers of all the run's accounts in order until one is up.

    Raises:
        NoCapacity: No offer fits, or none could be had.
        ProviderError: The only account that was left refused for another reason.
    """
    offers = await _offers(ctx)
    refusals: dict[str, errors.ProviderError] = {}  # by provider: it can't rent at all now
    unclear: list[errors.ProviderError] = []
    for offer in offers:
        for _ in range(_TRIES):
            if offer.provider in refusals:
                break
            ctx.status(f"renting {offer}")
            try:
                result = await _rent(ctx, offer)
            except errors.ProviderError as error:
                ctx.note(f"{offer}: {error.message}")
                if judge(error) is Verdict.ACCOUNT:
                    refusals[offer.provider] = error
                else:
                    unclear.append(error)  # and nothing was made: it may be asked for once more
                continue
            if result is not None:
                return result
            break
    if refusals and len(refusals) == len({offer.provider for offer in offers}):
        unclear.append(next(iter(refusals.values())))
    raise unclear[-1] if unclear else _nothing(ctx, len(offers))


async def _offers(ctx: Context) -> list[Offer]:
    """What can be tried, the best first.

    Raises:
        ProviderError: No account answered.
    """
    need = ctx.task.resources
    market = await ask({name: ctx.provider_named(name) for name in ctx.wanted()}, need)
    for name, failure in market.failures.items():
        if len(market.failures) == len(ctx.wanted()):
            raise failure
        ctx.note(f"{name} is left out: {failure.message}")
    return rank(market.offers, need.max_price_per_hour, _outlook(ctx))


def _outlook(ctx: Context) -> Outlook:
    duration = ctx.task.limits.max_duration
    plain = Outlook(upload_bytes=ctx.run.task.get("bytes", 0))
    return plain if duration is None else replace(plain, training_s=float(duration))


def _nothing(ctx: Context, tried: int) -> errors.NoCapacity:
    message = f"none of {tried} offers could be had" if tried else "no offer that fits the task"
    hint = "try another region or GPU, a higher max_price_per_hour, or later; nothing was rented"
    return errors.NoCapacity(f"{', '.join(ctx.wanted())}: {message}", hint=hint)


async def _rent(ctx: Context, offer: Offer) -> dict[str, Any] | None:
    """Rent one offer and wait for its address; None when it could not be had.

    Raises:
        ProviderError: A refusal of the whole account, or no clear answer and no instance.
        ReleaseUnconfirmed: It did not come up and can't be ended: nothing else is tried.
    """
    provider = ctx.provider_named(offer.provider)
    order = _order(ctx, provider, offer)
    number = ctx.journal.intend(provider.name, order.tag, offer)  # rule 1: intent before effect
    instance_id = await _create(ctx, provider, number, offer, order)
    if instance_id is None:
        return None
    return await _await_address(ctx, instance_id, offer, ctx.clock.now())


async def _create(
    ctx: Context, provider: Provider, number: int, offer: Offer, order: Order
) -> InstanceId | None:
    """Ask until the answer is clear: the instance's id, or None for a refusal of this offer.

    Raises:
        ProviderError: See `_rent`; the ledger's row is closed then.
        TowlineError: The order itself is wrong; the row is closed then.
        AssertionError: Never.
    """  # noqa: DOC501 - a helper makes the ProviderError
    since = ctx.clock.monotonic()
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
            if verdict is not Verdict.UNKNOWN:  # after that `_adopt` has closed the row
                ctx.journal.gone(number, f"never rented: {error.message}")
            if verdict is Verdict.REFUSED:
                ctx.note(f"{offer}: {error.message}; trying the next offer")
                return None
            raise _as_unrented(provider, verdict, error) from error
        except errors.TowlineError as error:  # the order itself is wrong: nothing was asked
            ctx.journal.gone(number, f"never rented: {error.message}")
            raise
        _record(ctx, number, instance, offer)
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
        return await _adopt(ctx)
    return await _take_one(ctx, await _listed(ctx, provider))


async def _adopt(ctx: Context) -> bool:
    """Look for our tag until the provider's lists have settled; adopt one, end any extras.

    Never creates blindly again: False only when nothing appeared in the whole window, and then
    the ledger's row is closed.
    """
    row = ctx.ledger_row()
    assert row is not None  # noqa: S101 - called with an open row only
    provider = ctx.provider_named(row.provider)
    until = max(row.intent_at, ctx.clock.now()) + provider.features.settle_s
    pauses = delays(*_POLL_S)
    answered = False
    while True:
        listed = await _listed(ctx, provider)
        answered = listed is not None
        if await _take_one(ctx, listed):
            return True
        if ctx.clock.now() >= until and answered:
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
    ctx.note(f"found {first.id}, which carries this run's tag")
    for extra in extras:
        ctx.note(f"{extra.id} carries it too: terminating it")
        await ctx.provider_named(row.provider).terminate(extra.id)
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
    price = instance.price_usd_per_h or offer.price_usd_per_h
    ctx.journal.rented(number, instance.id, instance.started_at or ctx.clock.now(), price)


# -- until it is up -------------------------------------------------------------------------------


async def _await_address(
    ctx: Context, instance_id: InstanceId, offer: Offer, since: float
) -> dict[str, Any] | None:
    """Wait until the instance is active, has an address and listens; end it when it does not."""
    limit_s = ctx.task.limits.boot_timeout
    reason = f"no address within {seconds_text(limit_s)}"
    provider = ctx.provider_named(offer.provider)
    for pause_s in delays(*_POLL_S):
        instance = await _read(ctx, provider, instance_id)
        failed = await _why_dead(ctx, provider, instance_id, instance, since)
        if failed is None and instance is not None and instance.status is InstanceStatus.ACTIVE:
            failed = _overpriced(ctx, instance, offer)
            if failed is None and instance.address is None:
                failed = await _attach(ctx, provider, instance)
            elif failed is None and await _listens(ctx, provider, instance):
                return _result(ctx, provider, instance, offer)
        elif failed is None:
            ctx.status(f"{instance_id} is {instance.status if instance else 'not listed yet'}")
        if failed is not None or ctx.clock.now() - since > limit_s:
            reason = failed or reason
            break
        await ctx.clock.sleep(pause_s)
    ctx.note(f"{instance_id}: {reason}; terminating it and trying the next offer")
    row = ctx.ledger_row()
    if row is not None:
        await end_instance(ctx, row)  # never past a failed terminate
    return None


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
    if ctx.clock.now() - since < provider.features.settle_s:
        return None
    try:
        return "it disappeared" if await is_absent(provider, instance_id) else None
    except _SILENCES:
        return None


def _overpriced(ctx: Context, instance: Instance, offer: Offer) -> str | None:
    """Why it can't be kept at the price it turned out to have; None when it can."""
    ceiling = ctx.task.resources.max_price_per_hour
    if instance.price_usd_per_h <= max(offer.price_usd_per_h, 0.0) * _PRICE_SLACK:
        return None
    found = (
        f"it costs {usd_text(instance.price_usd_per_h)}/h, not {usd_text(offer.price_usd_per_h)}"
    )
    if ceiling is not None and instance.price_usd_per_h > ceiling:
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
    price = instance.price_usd_per_h or offer.price_usd_per_h
    if price > offer.price_usd_per_h * _PRICE_SLACK:
        ctx.note(f"it costs {usd_text(price)}/h; the offer said {usd_text(offer.price_usd_per_h)}")
    return {
        "provider": provider.name,
        "instance_id": instance.id,
        "type": instance.type or offer.type,
        "gpu": offer.gpu,
        "gpus": offer.gpus,
        "price_usd_per_h": price,
        "address": address_json(replace(instance, address=_address(ctx, provider, instance))),
    }


def _address(ctx: Context, provider: Provider, instance: Instance) -> Address:
    """The address, with the host key that the run's user-data gave it."""
    address = instance.address
    assert address is not None  # noqa: S101 - asked for one that has it
    public = ctx.files.host_key.with_suffix(".pub")
    if address.host_key is None and provider.features.user_data and public.exists():
        return replace(address, host_key=public.read_text().strip())
    return address


# -- the order ------------------------------------------------------------------------------------


def _order(ctx: Context, provider: Provider, offer: Offer) -> Order:
    """What the instance must carry. The user's own machine knows the user's key."""
    if not provider.features.rented:
        return Order(tag=ctx.tag(), public_key="")
    limits = ctx.task.limits
    lifetime_s = limits.lifetime_s(offer.price_usd_per_h)
    host_key, host_public = (
        _pair(ctx, ctx.files.host_key, ctx.tag()) if provider.features.user_data else (None, None)
    )
    return Order(
        tag=ctx.tag(),
        public_key=_pair(ctx, ctx.files.private_key, f"{ctx.tag()}:{secrets.token_hex(24)}")[1],
        host_key=host_key,
        host_public_key=host_public,
        lifetime_s=None
        if lifetime_s is None
        else lifetime_s + limits.boot_timeout + limits.ssh_timeout,
        disk_gb=ctx.task.resources.disk_gb,
    )


def _pair(ctx: Context, path: Path, comment: str) -> tuple[str, str]:
    """A key pair of the run's own, fresh, in its files: (private, public)."""
    public = path.with_suffix(".pub")
    if not public.exists():
        private_text, public_text = ctx.new_key_pair(comment)
        write_private(path, private_text.encode())
        write_private(public, public_text.encode())
    return path.read_text(), public.read_text()
