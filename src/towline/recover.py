"""After a crash: which runs wait for a driver, and which instances nobody claims."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core.instance import Instance, InstanceId, Offer, parse_tag
from towline.core.run import RunRecord, RunState, StepName, next_step
from towline.ending import prove_gone
from towline.ports import Clock, Provider
from towline.store.journal import LedgerRow, Store


def undriven(store: Store) -> list[RunRecord]:
    """Active runs that no live process drives, the oldest first."""
    runs = [run for run in reversed(store.runs()) if run.state is RunState.ACTIVE]
    return [run for run in runs if store.driver(run.id) is None]


def unreleased(store: Store) -> list[RunRecord]:
    """Undriven runs of which nothing is left to do but to prove the instance gone.

    One whose instance is kept for the user is not among them: `resume` sees to it.
    """
    return [
        run
        for run in undriven(store)
        if next_step(run, store.attempts(run.id)) is StepName.RELEASE
        and "kept_until" not in store.facts(run.id)
    ]


async def sweep(
    store: Store, providers: Mapping[str, Provider], clock: Clock, *, dry_run: bool
) -> dict[str, Any]:
    """List every account for our tag and end what no active run claims.

    Level-triggered: nothing of the past is trusted but the journal. The account is listed before
    the journal is read, so that an instance rented meanwhile is seen with its claim.

    Returns:
        {"orphans": [...], "claimed": [...], "unreachable": [...], "ended": [...], "failed": [...]}
    """
    found: dict[str, Any] = {
        key: [] for key in ("orphans", "claimed", "unreachable", "ended", "failed")
    }
    for name, provider in providers.items():
        try:
            listed = await provider.list_tagged()
        except (errors.ProviderError, errors.RemoteError) as error:
            found["unreachable"].append({"provider": name, "error": error.message})
            continue
        for instance in listed:
            claim = _claim(store, provider, instance)
            if claim is not None:
                found[claim].append(_row(instance))
            if claim == "orphans" and not dry_run:
                await _end(provider, store, instance, clock, found)
    return found


def _claim(store: Store, provider: Provider, instance: Instance) -> str | None:
    """Say whose an instance is; None for a tag that is not ours to judge."""
    run_id = parse_tag(instance.tag)
    if run_id is None:
        return None
    try:
        run = store.run(run_id)
    except errors.RunNotFound:
        # another laptop's, unless the provider only ever lists what this journal made
        return "orphans" if provider.features.sole_owner else None
    return "claimed" if run.state is RunState.ACTIVE else "orphans"


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
        intent_at=0.0,
        instance_id=InstanceId(instance.id),
        created_at=instance.started_at,
        price_usd_per_h=instance.price_usd_per_h,
        gone_at=None,
        proof=None,
    )


def _row(instance: Instance) -> dict[str, Any]:
    return {
        "provider": instance.provider,
        "kind": "instance",
        "id": instance.id,
        "tag": instance.tag,
        "since": instance.started_at,
        "price_usd_per_hour": instance.price_usd_per_h,
    }
