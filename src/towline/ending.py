"""Prove an instance gone, and remove what else was made for a run.

Gone is what was asked to end and is then known to neither a read nor the account's list, at a time
when both would know it if it were there. The caller has made sure that the account is the one that
rented; see `ownership`.
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

#: how long a provider may take from "terminate" to "gone" before we say so loudly; what a list may
#: lack for `Features.settle_s` has that long on top
_GONE_WITHIN_S = 180.0
#: and from "remove" to "gone" for keys, addresses and the like
_TIDY_WITHIN_S = 60.0
_PAUSES_S = (0.05, 5.0)
#: a key is refused when it is refused so often in a row
_REFUSALS = 3
_BILLED = ("address", "volume")


async def prove_gone(provider: Provider, row: LedgerRow, clock: Clock) -> str:
    """Terminate what a ledger row stands for; return the proof that nothing of it bills.

    A row without an instance id (the create call's answer was lost) is looked up by its tag.

    Raises:
        ReleaseUnconfirmed: No proof within the limit; the row stays open.
    """  # noqa: DOC501 - a helper makes the exception
    deadline = clock.monotonic() + _GONE_WITHIN_S + provider.features.settle_s
    ending, trouble, refusals = _Ending(provider, row, clock), "", 0
    for pause_s in delays(*_PAUSES_S):
        wait_s = pause_s
        try:
            if (proof := await ending.go_on()) is not None:
                return proof
            trouble, refusals, wait_s = ending.trouble(), 0, ending.wait_s(pause_s)
        except (errors.ProviderError, errors.RemoteError) as error:
            trouble = error.message
            refusals += isinstance(error, errors.ProviderAuthError)
        if refusals >= _REFUSALS or clock.monotonic() >= deadline:
            break
        await clock.sleep(wait_s)
    raise _unconfirmed(provider, row, trouble)


def age_s(row: LedgerRow, clock: Clock) -> float:
    """How long ago a row's instance was asked for, at least.

    A wall clock may jump and the other begins anew with each boot; no jump makes the lesser of
    both too large, and neither is below 0.
    """
    ages = [clock.now() - row.intent_at]
    if row.tick is not None:
        ages.append(clock.monotonic() - row.tick)
    return max(0.0, min(ages))


class _Ending:
    """One instance on its way out: what was asked, and what was seen of it."""

    def __init__(self, provider: Provider, row: LedgerRow, clock: Clock) -> None:
        self._provider, self._row, self._clock = provider, row, clock
        self._ids: set[InstanceId] = set() if row.instance_id is None else {row.instance_id}
        #: what a read and the list have both shown: they can't be late any more
        self._shown_by_both: set[InstanceId] = set()
        self._asked_at: float | None = None
        self._seen_at: float | None = None
        self._refusal: str | None = None
        self._settled_at = clock.monotonic() + provider.features.settle_s - age_s(row, clock)

    async def go_on(self) -> str | None:
        """Ask for the end once more and look; the proof once there is one.

        Raises:
            ProviderError: No clear answer.
        """
        if self._asked_at is None:
            await self._look()
        await self._terminate()
        if await self._look() or self._clock.monotonic() < self._believed_at():
            return None
        ids = ", ".join(sorted(self._ids))
        if not ids:
            return f"{self._provider.name} listed no instance with tag {self._row.tag}"
        if self._was_seen():
            return f"{self._provider.name} says {ids} is gone"
        return f"{self._provider.name} does not know {ids} any more"

    def trouble(self) -> str:
        """Why there is no proof yet."""
        name = self._provider.name
        return f"{name} refuses: {self._refusal}" if self._refusal else f"{name} still lists it"

    def wait_s(self, pause_s: float) -> float:
        """How long to wait before the next look: no longer than until silence is believed."""
        left_s = self._believed_at() - self._clock.monotonic()
        return min(pause_s, left_s) if left_s > 0 else pause_s

    async def _terminate(self) -> None:
        """Ask for the end; a plain refusal is remembered, for what is gone may be refused too."""
        refusal = None
        for instance_id in sorted(self._ids):
            try:
                await self._provider.terminate(instance_id)
            except (errors.ProviderAuthError, errors.ProviderReplyError):
                raise
            except errors.ProviderError as error:
                if error.retryable:
                    raise
                refusal = error.message
        self._refusal = refusal
        if self._asked_at is None:
            self._asked_at = self._clock.monotonic()

    async def _look(self) -> bool:
        """Ask for it by id and by list; whether either knows it."""
        listed = {one.id: one.tag for one in await self._provider.list_tagged()}
        if self._row.instance_id is None:
            self._ids |= {one for one, tag in listed.items() if tag == self._row.tag}
        read = {one: await self._provider.get(one) is not None for one in sorted(self._ids)}
        self._shown_by_both |= {one for one, known in read.items() if known and one in listed}
        seen = any(read.values()) or bool(self._ids & set(listed))
        if seen:
            self._seen_at = self._clock.monotonic()
        return seen

    def _believed_at(self) -> float:
        """From when on silence about it is proof.

        Until then a read or a list may be late: for as long as lists take to settle, counted from
        the create for one that was seen before, else from the later of terminate and sighting.
        """
        settle_s, asked_at = self._provider.features.settle_s, self._asked_at or 0.0
        if self._refusal is not None:
            return max(asked_at, self._seen_at or 0.0) + settle_s
        if self._ids and self._ids <= self._shown_by_both:
            return asked_at
        if self._row.seen_at is not None or not self._ids:
            return self._settled_at
        return max(asked_at, self._seen_at or 0.0) + settle_s

    def _was_seen(self) -> bool:
        return self._seen_at is not None or self._row.seen_at is not None


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
    """What `tidy` did; ``trouble`` says why something may still be there, None when nothing is.

    ``bills``: whether what may be there costs money.
    """

    removed: list[Leftover]
    left: list[Leftover]
    trouble: str | None
    bills: bool


async def tidy(provider: Provider, tag: str, memo: Memo, clock: Clock) -> Tidied:
    """Remove the keys, addresses and the like of one tag, and look until none is listed.

    Each is tried whatever becomes of the others, again and again within the limit: one may be in
    use until an instance that is on its way out has gone.
    """
    deadline = clock.monotonic() + _TIDY_WITHIN_S
    asked: dict[str, Leftover] = {}
    left: list[Leftover] | None = None
    trouble, refusals = None, 0
    for pause_s in delays(*_PAUSES_S):
        try:
            left = [one for one in await provider.leftovers({tag: memo}) if one.tag == tag]
            trouble = None
        except (errors.ProviderError, errors.CredentialsError) as error:
            left, trouble = None, error.message
            refusals += isinstance(error, errors.ProviderAuthError | errors.CredentialsError)
        for one in left or ():
            asked[one.id] = one
            refusal = await _removal(provider, one)
            trouble = trouble or refusal or f"{provider.name} still lists it"
        if trouble is None or refusals >= _REFUSALS or clock.monotonic() >= deadline:
            break
        await clock.sleep(pause_s)
    kept = {one.id for one in left or ()}
    removed = [] if left is None else [one for one in asked.values() if one.id not in kept]
    bills = any(one.kind in _BILLED for one in left) if left is not None else _may_bill(provider)
    return Tidied(removed, left or [], trouble, bills)


async def _removal(provider: Provider, leftover: Leftover) -> str | None:
    """Why a leftover could not be removed; None when the provider took the order."""
    try:
        await provider.remove(leftover)
    except (errors.ProviderError, errors.CredentialsError) as error:
        return error.message
    return None


def _may_bill(provider: Provider) -> bool:
    """Whether a provider keeps anything beside instances that costs money."""
    kinds = provider.features.leftovers
    return kinds is None or any(one in _BILLED for one in kinds)


def _unconfirmed(provider: Provider, row: LedgerRow, why: str) -> errors.ReleaseUnconfirmed:
    what = row.instance_id or f"the instance with tag {row.tag}"
    message = f"{what} at {provider.name} is not proven gone and may still bill: {why}"
    return errors.ReleaseUnconfirmed(message, hint=by_hand(provider))


def by_hand(provider: Provider) -> str:
    """What to do about something that could not be ended."""
    link = provider.features.console_url
    return "`towline gc` tries again" + (f"; or end it by hand at {link}" if link else "")
