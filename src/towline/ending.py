"""Prove an instance gone, and remove what else was made for a run.

Gone is what neither a read nor the account's list knows: a wrong address answers 404 to every
question, and a list may be of yesterday.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from towline import errors
from towline.core.backoff import delays
from towline.ports import Clock, Memo, Provider

if TYPE_CHECKING:
    from towline.core.instance import InstanceId, Leftover
    from towline.store.journal import LedgerRow

#: how long a provider may take from "terminate" to "gone" before we say so loudly
_GONE_WITHIN_S = 180.0
#: and from "remove" to "gone" for keys, addresses and the like
_TIDY_WITHIN_S = 60.0


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
            if await _end_all(provider, ids):
                return f"{provider.name} says {', '.join(ids)} is gone"
        except (errors.ProviderError, errors.RemoteError) as error:
            trouble = error.message
            if not error.retryable and not isinstance(error, errors.ProviderReplyError):
                break
        if clock.monotonic() >= deadline:
            break
        await clock.sleep(pause_s)
    raise _unconfirmed(provider, row, trouble)


async def _end_all(provider: Provider, ids: list[InstanceId]) -> bool:
    for instance_id in ids:
        await provider.terminate(instance_id)
    return all([await is_absent(provider, instance_id) for instance_id in ids])


async def is_absent(provider: Provider, instance_id: InstanceId) -> bool:
    """Whether neither a read nor the list knows an instance.

    Raises:
        ProviderError: No answer; nothing may be concluded.
    """
    if await provider.get(instance_id) is not None:
        return False
    return all(one.id != instance_id for one in await provider.list_tagged())


@dataclass(frozen=True, slots=True)
class Tidied:
    """What `tidy` did; ``trouble`` says why something may still be there, None when nothing is."""

    removed: list[Leftover]
    left: list[Leftover]
    trouble: str | None


async def tidy(provider: Provider, tag: str, memo: Memo, clock: Clock) -> Tidied:
    """Remove the keys, addresses and the like of one tag, and look until none is listed."""
    deadline = clock.monotonic() + _TIDY_WITHIN_S
    asked: dict[str, Leftover] = {}
    left: list[Leftover] = []
    trouble: str | None = None
    for pause_s in delays(0.05, 5.0):
        try:
            left = [one for one in await provider.leftovers({tag: memo}) if one.tag == tag]
            trouble = f"{provider.name} still lists it" if left else None
            for one in left:
                asked[one.id] = one
                await provider.remove(one)
        except (errors.ProviderError, errors.CredentialsError) as error:
            trouble = error.message
            if not error.retryable:
                break
        if trouble is None or clock.monotonic() >= deadline:
            break
        await clock.sleep(pause_s)
    kept = {one.id for one in left}
    return Tidied([one for one in asked.values() if one.id not in kept], left, trouble)


async def _find(provider: Provider, row: LedgerRow) -> list[InstanceId]:
    if row.instance_id is not None:
        return [] if await is_absent(provider, row.instance_id) else [row.instance_id]
    return [found.id for found in await provider.list_tagged() if found.tag == row.tag]


async def _settled_proof(provider: Provider, row: LedgerRow, clock: Clock) -> str:
    """Proof for what isn't there; an instance whose create call was lost may still appear."""
    if row.instance_id is not None:
        return f"{provider.name} does not know {row.instance_id} any more"
    until = row.intent_at + provider.features.settle_s
    pauses = delays(0.25, 5.0)
    while clock.now() < until:
        await clock.sleep(min(next(pauses), until - clock.now()))
        if ids := await _find(provider, row):
            for instance_id in ids:
                await provider.terminate(instance_id)
            raise errors.ProviderUnavailable(f"{provider.name} made {', '.join(ids)} late")
    return f"{provider.name} listed no instance with tag {row.tag}"


def _unconfirmed(provider: Provider, row: LedgerRow, why: str) -> errors.ReleaseUnconfirmed:
    what = row.instance_id or f"the instance with tag {row.tag}"
    message = f"{what} at {provider.name} is not proven gone and may still bill: {why}"
    return errors.ReleaseUnconfirmed(message, hint=by_hand(provider))


def by_hand(provider: Provider) -> str:
    """What to do about something that could not be ended."""
    link = provider.features.console_url
    return "`towline gc` tries again" + (f"; or end it by hand at {link}" if link else "")
