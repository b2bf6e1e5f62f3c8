"""Prove an instance gone: ask, ask again, and believe the provider's own list only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from towline import errors
from towline.core.backoff import delays
from towline.ports import Clock, Provider

if TYPE_CHECKING:
    from towline.core.instance import InstanceId
    from towline.store.journal import LedgerRow

#: how long a provider may take from "terminate" to "gone" before we say so loudly
_GONE_WITHIN_S = 180.0


async def prove_gone(provider: Provider, row: LedgerRow, clock: Clock) -> str:
    """Terminate what a ledger row stands for; return the proof that nothing of it bills.

    A row without an instance id (the create call's answer was lost) is looked up by its tag.

    Raises:
        ReleaseUnconfirmed: No proof within three minutes; the row stays open.
    """  # noqa: DOC501 - a helper makes the exception
    deadline = clock.monotonic() + _GONE_WITHIN_S
    trouble = "the provider still lists it"
    for pause_s in delays(0.05, 5.0):
        try:
            ids = await _find(provider, row)
            if not ids:
                return await _settled_proof(provider, row, clock)
            for instance_id in ids:
                await provider.terminate(instance_id)
            if all([await provider.get(instance_id) is None for instance_id in ids]):
                return f"{provider.name} says {', '.join(ids)} is gone"
        except (errors.ProviderError, errors.RemoteError) as error:
            trouble = error.message
            if not error.retryable:
                break
        if clock.monotonic() >= deadline:
            break
        await clock.sleep(pause_s)
    raise _unconfirmed(provider, row, trouble)


async def _find(provider: Provider, row: LedgerRow) -> list[InstanceId]:
    if row.instance_id is not None:
        return [row.instance_id] if await provider.get(row.instance_id) is not None else []
    return [found.id for found in await provider.list_tagged() if found.tag == row.tag]


async def _settled_proof(provider: Provider, row: LedgerRow, clock: Clock) -> str:
    """Proof for what isn't there; an instance whose create call was lost may still appear."""
    if row.instance_id is not None:
        return f"{provider.name} does not know {row.instance_id} any more"
    until = row.intent_at + provider.features.settle_s
    while clock.now() < until:
        await clock.sleep(min(0.5, until - clock.now()))
        if ids := await _find(provider, row):
            for instance_id in ids:
                await provider.terminate(instance_id)
            raise errors.ProviderUnavailable(f"{provider.name} made {', '.join(ids)} late")
    return f"{provider.name} listed no instance with tag {row.tag}"


def _unconfirmed(provider: Provider, row: LedgerRow, why: str) -> errors.ReleaseUnconfirmed:
    what = row.instance_id or f"the instance with tag {row.tag}"
    message = f"{what} at {provider.name} is not proven gone and may still bill: {why}"
    link = provider.features.console_url
    hint = "`towline gc` tries again" + (f"; or end it by hand at {link}" if link else "")
    return errors.ReleaseUnconfirmed(message, hint=hint)
