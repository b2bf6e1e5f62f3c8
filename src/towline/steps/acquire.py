"""acquire: rent one instance that carries our tag, and never two."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from towline import errors
from towline.context import Context, address_json, end_instance
from towline.core.backoff import delays
from towline.core.instance import Instance, InstanceId, InstanceStatus, Offer, Order, tag_for
from towline.core.offers import rank
from towline.core.units import seconds_text
from towline.home import write_private

_POLL_S = (0.05, 3.0)


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
    """Try the offers in order until one is up.

    Raises:
        NoCapacity: No offer fits, or none could be had.
        ProviderError: The provider refused for another reason.
    """
    need = ctx.task.resources
    offers = rank(await ctx.provider.offers(need), need.max_price_per_hour)
    public_key = _key_pair(ctx)
    for offer in offers:
        ctx.status(f"renting {offer}")
        result = await _rent(ctx, offer, public_key)
        if result is not None:
            return result
    message = f"none of {len(offers)} offers could be had" if offers else "no offer fits the task"
    hint = "try another region or GPU, a higher max_price_per_hour, or later; nothing was rented"
    raise errors.NoCapacity(f"{ctx.provider.name}: {message}", hint=hint)


async def _rent(ctx: Context, offer: Offer, public_key: str) -> dict[str, Any] | None:
    """Rent one offer and wait for its address; None when it could not be had."""
    tag = tag_for(ctx.run.id)
    number = ctx.journal.intend(ctx.provider.name, tag, offer)  # rule 1: intent before effect
    try:
        with _definite_refusals(ctx, number):
            instance = await ctx.provider.create(offer, Order(tag=tag, public_key=public_key))
            _record(ctx, number, instance, offer)
            found = instance.id
    except errors.NoCapacity as refused:
        ctx.note(f"{offer}: {refused.message}; trying the next offer")
        return None
    except (errors.ProviderUnavailable, errors.ProviderReplyError) as unknown:
        ctx.note(
            f"{ctx.provider.name} gave no clear answer ({unknown.message}); looking for the tag"
        )
        if not await _adopt(ctx):
            raise errors.ProviderUnavailable(
                f"{ctx.provider.name} did not create an instance: {unknown.message}",
                hint="nothing was rented; try again later",
            ) from unknown
        row = ctx.ledger_row()
        assert row is not None and row.instance_id is not None  # noqa: S101, PT018 - just adopted
        found = row.instance_id
    return await _await_address(ctx, found, offer, ctx.clock.now())


@contextmanager
def _definite_refusals(ctx: Context, number: int) -> Iterator[None]:
    """Close the ledger row when the provider says plainly that it rented nothing."""
    try:
        yield
    except (errors.ProviderUnavailable, errors.ProviderReplyError):
        raise  # unknown outcome: the row stays open
    except errors.ProviderError as refused:
        ctx.journal.gone(number, f"never rented: {refused.message}")
        raise


async def _adopt(ctx: Context) -> bool:
    """Look for our tag until the provider's lists have settled; adopt one, end any extras.

    Never creates blindly again: False only when nothing appeared in the whole window.
    """
    row = ctx.ledger_row()
    assert row is not None  # noqa: S101 - called with an open row only
    until = max(row.intent_at, ctx.clock.now()) + ctx.provider.features.settle_s
    pauses = delays(*_POLL_S)
    while True:
        found = [one for one in await _listed(ctx) if one.tag == row.tag]
        if found:
            first, *extras = sorted(found, key=lambda one: one.started_at or 0.0)
            for extra in extras:
                await ctx.provider.terminate(extra.id)
            _record(ctx, row.number, first, row.offer)
            ctx.note(f"found {first.id}, which carries this run's tag")
            return True
        if ctx.clock.now() >= until:
            ctx.journal.gone(
                row.number, f"{ctx.provider.name} listed no instance with tag {row.tag}"
            )
            return False
        await ctx.clock.sleep(next(pauses))


async def _listed(ctx: Context) -> list[Instance]:
    try:
        return await ctx.provider.list_tagged()
    except errors.ProviderUnavailable as silent:
        ctx.status(f"{ctx.provider.name} does not answer: {silent.message}")
        return []


def _record(ctx: Context, number: int, instance: Instance, offer: Offer) -> None:
    price = instance.price_usd_per_h or offer.price_usd_per_h
    ctx.journal.rented(number, instance.id, instance.started_at or ctx.clock.now(), price)


async def _await_address(
    ctx: Context, instance_id: InstanceId, offer: Offer, since: float
) -> dict[str, Any] | None:
    """Wait until the instance is active and has an address; end it when it does not get there."""
    limit_s = ctx.task.limits.boot_timeout
    reason = f"no address within {seconds_text(limit_s)}"
    pauses = delays(*_POLL_S)
    while True:
        instance = await _read(ctx, instance_id)
        if isinstance(instance, Instance) and instance.status is InstanceStatus.ACTIVE:
            if instance.address is not None:
                return _result(ctx, instance, offer)
        elif instance is None or instance.status is InstanceStatus.DEAD:
            reason = (instance.detail or "it died") if instance else "it disappeared"
            break
        else:
            ctx.status(f"{instance_id} is {instance.status}")
        if ctx.clock.now() - since > limit_s:
            break
        await ctx.clock.sleep(next(pauses))
    row = ctx.ledger_row()
    ctx.note(f"{instance_id}: {reason}; terminating it and trying the next offer")
    if row is not None:
        await end_instance(ctx, row)  # never past a failed terminate
    return None


async def _read(ctx: Context, instance_id: InstanceId) -> Instance | None:
    """Read the instance; silence of the API is not its death."""
    while True:
        try:
            return await ctx.provider.get(instance_id)
        except errors.ProviderUnavailable as silent:
            ctx.status(f"{ctx.provider.name} does not answer: {silent.message}")
            await ctx.clock.sleep(_POLL_S[1])


def _result(ctx: Context, instance: Instance, offer: Offer) -> dict[str, Any]:
    return {
        "provider": ctx.provider.name,
        "instance_id": instance.id,
        "type": instance.type or offer.type,
        "gpu": offer.gpu,
        "price_usd_per_h": instance.price_usd_per_h or offer.price_usd_per_h,
        "address": address_json(instance),
    }


def _key_pair(ctx: Context) -> str:
    """The run's own key pair, fresh; the public half. The user's own machine knows the user's."""
    if not ctx.provider.features.rented:
        return ""
    public = ctx.files.private_key.with_suffix(".pub")
    if not public.exists():
        private_text, public_text = ctx.new_key_pair(tag_for(ctx.run.id))
        write_private(ctx.files.private_key, private_text.encode())
        write_private(public, public_text.encode())
    return public.read_text()
