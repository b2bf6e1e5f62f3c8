"""After a crash: which runs wait for a driver, and which instances nobody claims."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from towline import errors
from towline.context import MEMO
from towline.core.instance import Instance, InstanceId, Leftover, Offer, parse_tag, tag_for
from towline.core.kept import Kept
from towline.core.run import RunRecord, RunState, StepName, next_step
from towline.ending import by_hand, prove_gone
from towline.ownership import require_renter
from towline.ports import Clock, Memo, Provider
from towline.store.journal import LedgerRow, Store


def undriven(store: Store) -> list[RunRecord]:
    """Active runs that no live process drives, the oldest first."""
    runs = [run for run in reversed(store.runs()) if run.state is RunState.ACTIVE]
    return [run for run in runs if store.driver(run.id) is None]


def unreleased(store: Store, clock: Clock) -> list[RunRecord]:
    """Undriven runs of which nothing is left to do but to prove the instance gone.

    One whose instance is kept for the user is among them once its time is over.
    """
    return [
        run
        for run in undriven(store)
        if next_step(run, store.attempts(run.id)) is StepName.RELEASE
        and (run.wish is not None or _left_s(store, run, clock) <= 0)
    ]


def _left_s(store: Store, run: RunRecord, clock: Clock) -> float:
    """For how long the run's instance is still to be kept."""
    kept = Kept.of(store.facts(run.id))
    return 0.0 if kept is None else kept.left_s(clock)


#: a release that failed is tried again by later commands, but not by each of a burst
_RETRY_RELEASE_S = 30.0
_ANSWER_S = 60.0  # for one account's list; ending what is found takes as long as it takes
KEYS = ("orphans", "claimed", "foreign", "unreachable", "ended", "failed")


def due(store: Store, clock: Clock) -> list[RunRecord]:
    """Of the unreleased runs those that nobody tried to release of late."""
    return [run for run in unreleased(store, clock) if not _tried_of_late(store, run, clock.now())]


def _tried_of_late(store: Store, run: RunRecord, now: float) -> bool:
    """Whether a release began a moment ago; one that kept the instance for the user was no try."""
    since = max(now - _RETRY_RELEASE_S, store.facts(run.id).get("kept_until") or 0.0)
    return any(
        one.step is StepName.RELEASE and since <= one.started_at <= now
        for one in store.attempts(run.id)
    )


async def sweep(
    store: Store, providers: Mapping[str, Provider], clock: Clock, *, dry_run: bool
) -> dict[str, Any]:
    """List every account for our tag and end what no active run claims.

    Level-triggered: nothing of the past is trusted but the journal. The account is listed before
    the journal is read, so that an instance rented meanwhile is seen with its claim. What carries
    a tag of a run that this journal does not know is another laptop's, and only reported.

    Returns:
        {"orphans": [...], "claimed": [...], "foreign": [...], "unreachable": [...],
        "ended": [...], "failed": [...]}
    """
    found: dict[str, Any] = {key: [] for key in KEYS}
    swept = [_sweep_one(store, pair, clock, found, dry_run=dry_run) for pair in providers.items()]
    await asyncio.gather(*swept)
    return found


async def _sweep_one(
    store: Store,
    named: tuple[str, Provider],
    clock: Clock,
    found: dict[str, Any],
    *,
    dry_run: bool,
) -> None:
    name, provider = named
    try:
        async with asyncio.timeout(_ANSWER_S):
            listed = await provider.list_tagged()
            leftovers = await provider.leftovers(_memos(store, provider))
            hidden = await _hidden(store, provider, {one.id for one in listed})
    except TimeoutError:
        message = f"{name} gave no answer within {_ANSWER_S:.0f} s"
        found["unreachable"].append(unreachable(store, name, errors.ProviderUnavailable(message)))
        return
    except errors.TowlineError as error:
        found["unreachable"].append(unreachable(store, name, error))
        return
    found["unreachable"] += hidden
    for instance in listed:
        if _file(store, provider, found, instance) and not dry_run:
            await _end(provider, store, instance, clock, found)
    for leftover in leftovers:
        if _file(store, provider, found, leftover) and not dry_run:
            await _remove(provider, leftover, found)


def unreachable(store: Store, name: str, error: errors.TowlineError) -> dict[str, Any]:
    """An account that could not be read, and how many instances that nobody drives it hides."""
    rows = _open_rows(store, name)
    return {"provider": name, "error": error.message, "hint": error.hint, "instances": len(rows)}


async def _hidden(
    store: Store, provider: Provider, listed: set[InstanceId]
) -> list[dict[str, Any]]:
    """What the ledger holds of other accounts at this provider: not to be seen with this key."""
    by_renter: dict[str, list[errors.OtherAccount]] = {}
    for row in _open_rows(store, provider.name):
        try:
            if row.instance_id not in listed:
                await require_renter(provider, row)
        except errors.OtherAccount as error:
            by_renter.setdefault(str(row.renter), []).append(error)
    return [
        {
            "provider": provider.name,
            "error": _hidden_text(provider.name, [one.message for one in refusals]),
            "hint": refusals[0].hint,
            "instances": len(refusals),
        }
        for refusals in by_renter.values()
    ]


def _hidden_text(name: str, messages: list[str]) -> str:
    if len(messages) == 1:
        return messages[0]
    return f"{len(messages)} instances of another account at {name} can't be seen: {messages[0]}"


def _open_rows(store: Store, name: str) -> list[LedgerRow]:
    """Instances at a provider without proof of their end, of runs that no live process drives."""
    waiting = {run.id for run in store.runs() if store.driver(run.id) is None}
    rows = (row for row in store.ledger() if row.provider == name and row.gone_at is None)
    return [row for row in rows if row.run_id in waiting]


def _file(
    store: Store, provider: Provider, found: dict[str, Any], thing: Instance | Leftover
) -> bool:
    """Put a thing in the list where it belongs; whether it is nobody's."""
    claim = _claim(store, provider, thing.tag, thing.id if isinstance(thing, Instance) else None)
    if claim is not None:
        found[claim].append(_row(thing))
    return claim == "orphans"


def _memos(store: Store, provider: Provider) -> dict[str, Memo]:
    """By tag, what the provider must not forget of any run."""
    return {
        tag_for(run_id): _ReadMemo(facts.get(MEMO + provider.name, {}))
        for run_id, facts in store.facts_with(MEMO).items()
    }


@dataclass(frozen=True, slots=True)
class _ReadMemo:
    """What a run's journal holds for a provider; runs that ended write no more."""

    value: dict[str, Any]

    def read(self) -> dict[str, Any]:
        """What was written last."""
        return self.value

    def write(self, value: dict[str, Any]) -> None:
        """Refuse: only a run's driver writes.

        Raises:
            InvalidTransition: Always.
        """
        raise errors.InvalidTransition(f"a sweep wrote a memo: {value}")


def _claim(
    store: Store, provider: Provider, tag: str, instance_id: InstanceId | None
) -> str | None:
    """Say whose something is; None for a tag that is not ours to judge.

    An active run claims the instance that its ledger names, and any while its ledger waits for
    an answer: a second one under its tag, which came late, is nobody's.
    """
    run_id = parse_tag(tag)
    if run_id is None:
        return None
    try:
        run = store.run(run_id)
    except errors.RunNotFound:
        # another laptop's, unless the provider only ever lists what this journal made
        return "orphans" if provider.features.sole_owner else "foreign"
    if run.state is not RunState.ACTIVE:
        return "orphans"
    rows = [row for row in store.ledger(run_id) if row.provider == provider.name]
    ids = {row.instance_id for row in rows if row.gone_at is None}
    return "claimed" if instance_id is None or {instance_id, None} & ids else "orphans"


async def _end(
    provider: Provider, store: Store, instance: Instance, clock: Clock, found: dict[str, Any]
) -> None:
    row = _ledger_row(store, instance)
    try:
        proof = await prove_gone(provider, row, clock)
    except errors.ReleaseUnconfirmed as error:
        found["failed"].append({**_row(instance), "error": error.message, "hint": error.hint})
        return
    if row.number:
        store.close_ledger_row(row, proof)
    found["ended"].append({**_row(instance), "proof": proof})


async def _remove(provider: Provider, leftover: Leftover, found: dict[str, Any]) -> None:
    try:
        await provider.remove(leftover)
    except errors.TowlineError as error:
        row = {**_row(leftover), "error": error.message, "hint": by_hand(provider)}
        found["failed"].append(row)
        return
    found["ended"].append({**_row(leftover), "proof": f"{provider.name} removed it"})


def _ledger_row(store: Store, instance: Instance) -> LedgerRow:
    """The instance's row in the ledger, or a stand-in for one that the journal never knew."""
    run_id = parse_tag(instance.tag)
    assert run_id is not None  # noqa: S101 - `_claim` has read it
    for row in store.ledger(run_id):
        if row.instance_id == instance.id:
            return row
    return LedgerRow(
        run_id=run_id,
        number=0,
        provider=instance.provider,
        tag=instance.tag,
        offer=Offer(provider=instance.provider, type=instance.type),
        intent_at=instance.started_at or 0.0,
        instance_id=InstanceId(instance.id),
        created_at=instance.started_at,
        price_usd_per_h=instance.price_usd_per_h,
        gone_at=None,
        proof=None,
        seen_at=instance.started_at or 0.0,  # the list has just shown it
    )


def _row(thing: Instance | Leftover) -> dict[str, Any]:
    kind, since = (
        ("instance", thing.started_at) if isinstance(thing, Instance) else (thing.kind, thing.since)
    )
    return {
        "provider": thing.provider,
        "kind": kind,
        "id": thing.id,
        "tag": thing.tag,
        "since": since,
        "price_usd_per_hour": thing.price_usd_per_h,
    }


def unproven(store: Store, run: RunRecord) -> list[dict[str, Any]]:
    """What waits for proof, as `gc` shows it; where all have it, the newest stands for what lies
    beside."""
    rows = store.ledger(run.id)
    return [_open_row(row) for row in rows if row.gone_at is None] or [
        _open_row(row) for row in rows[-1:]
    ]


def _open_row(row: LedgerRow) -> dict[str, Any]:
    """What the ledger has no proof for, as `gc` shows it: an instance, or what it has left."""
    is_gone = row.gone_at is not None
    return {
        "provider": row.provider,
        "kind": "leftover" if is_gone else "instance",
        "id": None if is_gone else row.instance_id,
        "tag": row.tag,
        "since": row.created_at,
        "price_usd_per_hour": row.price_usd_per_h,
    }
