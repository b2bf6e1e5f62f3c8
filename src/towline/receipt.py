"""What people and scripts are shown of a run: `status --json` and `receipt.json`.

Both shapes are promises: absent values are null, keys never vanish.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline.core import standing
from towline.core.run import Attempt, Outcome, RunRecord, RunState, StepName, next_step

if TYPE_CHECKING:
    from towline.store.journal import LedgerRow, Store

_S_PER_H = 3600.0


def status(store: Store, run: RunRecord, now: float) -> dict[str, Any]:
    """The object of `status --json`."""
    attempts = store.attempts(run.id)
    facts = store.facts(run.id)
    ledger = store.ledger(run.id)
    progress = _progress(run, facts, attempts, now)
    return {
        "id": run.id,
        "name": run.name,
        "state": run.state,
        "step": _step(run, attempts),
        "provider": ledger[-1].provider if ledger else run.provider,
        "instance": _instance(ledger, attempts),
        "progress": progress,
        "cost": _cost(run, ledger, progress["eta_s"], now),
        "machine": _machine(facts),
        "stalled": facts.get("stalled"),
        "transfer": _transfer(facts),
        "model": _model(attempts),
        "checkpoint": _checkpoint(facts),
        "error": _error(run),
        "created_at": run.created_at,
        "ended_at": run.ended_at,
    }


def receipt(store: Store, run: RunRecord, now: float) -> dict[str, Any]:
    """The object of `receipt.json`."""
    attempts = store.attempts(run.id)
    ledger = store.ledger(run.id)
    delivered = _result(attempts, StepName.DELIVER)
    gathered = _result(attempts, StepName.GATHER)
    released = _result(attempts, StepName.RELEASE)
    facts = store.facts(run.id)
    training = facts.get("training") or {}
    transfers = delivered.get("transfers", []) + gathered.get("transfers", [])
    keys = ("direction", "files", "bytes", "sent_bytes", "seconds", "connections")
    as_read = [path for one in transfers for path in one.get("as_read") or ()]
    return {
        "run": {"id": run.id, "name": run.name, "state": run.state},
        "steps": _steps(attempts, ledger, now),
        "transfers": [{key: one.get(key) for key in keys} for one in transfers],
        "as_read": as_read,
        "model": _model(attempts) | _model_found(gathered, facts),
        "checkpoint": _checkpoint(facts),
        "instance": _receipt_instance(attempts, ledger),
        "release": {key: released.get(key) for key in ("gone", "proof", "at")},
        "cost_usd": round(spent_usd(ledger, now), 4),
        "dataset_sha256": delivered.get("dataset_sha256"),
        "code_sha256": delivered.get("code_sha256"),
        "exit_code": training.get("exit_code"),
        "reason": run.error["message"] if run.error else (run.wish or None),
    }


def write(path: Path, store: Store, run: RunRecord, now: float) -> None:
    """Write receipt.json whole or not at all.

    Raises:
        OSError: It can't be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(json.dumps(receipt(store, run, now), indent=2) + "\n", "utf-8")
    temporary.replace(path)


def spent_usd(ledger: list[LedgerRow], now: float) -> float:
    """Money spent on a run's instances up to now."""
    return sum(_hours(row, row.created_at or now, now) * row.price_usd_per_h for row in ledger)


def _hours(row: LedgerRow, start: float, end: float) -> float:
    """Hours of start..end in which the instance existed."""
    lived_until = min(end, row.gone_at or end)
    return max(0.0, lived_until - max(start, row.created_at or lived_until)) / _S_PER_H


def _result(attempts: list[Attempt], step: StepName) -> dict[str, Any]:
    done = [a.result for a in attempts if a.step is step and a.outcome is Outcome.DONE]
    return done[-1] if done else {}


def _step(run: RunRecord, attempts: list[Attempt]) -> str | None:
    if run.state is RunState.ACTIVE:
        return next_step(run, attempts)
    return attempts[-1].step if attempts else None


def _instance(ledger: list[LedgerRow], attempts: list[Attempt]) -> dict[str, Any]:
    row = ledger[-1] if ledger else None
    address = _result(attempts, StepName.ACQUIRE).get("address")
    shown = f"{address['user']}@{address['host']}:{address['port']}" if address else None
    if row is None:
        return {"id": None, "address": None, "price_usd_per_hour": None, "state": None}
    state = "gone" if row.gone_at else ("rented" if row.instance_id else "intended")
    return {
        "id": row.instance_id,
        "address": shown,
        "price_usd_per_hour": row.price_usd_per_h,
        "state": state,
    }


def _progress(
    run: RunRecord, facts: dict[str, Any], attempts: list[Attempt], now: float
) -> dict[str, Any]:
    said = facts.get("progress") or {}
    if said.get("fraction") is None:
        said = {**said, "fraction": standing.share(said)}
    started = _result(attempts, StepName.EXECUTE).get("started_at")
    is_training = "training" not in facts and run.state is RunState.ACTIVE
    keys = ("epoch", "total_epochs", "step", "total_steps", "fraction")
    return {key: said.get(key) for key in keys} | {
        "eta_s": standing.eta_s(said, started, now) if is_training else None,
        "metrics": said.get("metrics") or {},
    }


def _machine(facts: dict[str, Any]) -> dict[str, Any]:
    """The newest sample of the instance."""
    sample = facts.get("machine") or {}
    keys = ("at", "cpu", "cpus", "memory_bytes", "memory_total_bytes", "disk_free_bytes",
            "disk_total_bytes", "shm_free_bytes", "gpus")  # fmt: skip
    return {key: sample.get(key) for key in keys}


def _cost(
    run: RunRecord, ledger: list[LedgerRow], eta_s: float | None, now: float
) -> dict[str, Any]:
    spent = spent_usd(ledger, now)
    price = ledger[-1].price_usd_per_h if ledger else 0.0
    projected = spent if run.ended_at else None
    if eta_s is not None:
        projected = spent + price * eta_s / _S_PER_H
    limits = run.task["spec"].get("limits")
    cap = limits.get("max_cost") if isinstance(limits, dict) else None
    return {
        "spent_usd": round(spent, 4),
        "projected_usd": None if projected is None else round(projected, 4),
        "cap_usd": cap if isinstance(cap, int | float) else None,  # another version's may differ
    }


def _transfer(facts: dict[str, Any]) -> dict[str, Any]:
    now = facts.get("transfer") or {}
    keys = ("direction", "bytes", "total_bytes", "rate_bytes_per_s", "files", "total_files", "eta_s",
            "connections", "ratio")  # fmt: skip
    return {key: now.get(key) for key in keys}


def _model(attempts: list[Attempt]) -> dict[str, Any]:
    model = _result(attempts, StepName.GATHER).get("model") or {}
    return {key: model.get(key) for key in ("path", "sha256", "size_bytes")}


def _model_found(gathered: dict[str, Any], facts: dict[str, Any]) -> dict[str, Any]:
    """Why the model is the model; the candidates also of a search that found none."""
    model = gathered.get("model") or {}
    said = {key: model.get(key) for key in ("remote_path", "why", "check", "beside")}
    return said | {"candidates": facts.get("candidates") or gathered.get("candidates") or []}


def _checkpoint(facts: dict[str, Any]) -> dict[str, Any]:
    """The newest checkpoint that came home while the training ran."""
    newest = facts.get("checkpoint") or {}
    return {key: newest.get(key) for key in ("path", "at", "epoch", "size_bytes")}


def _error(run: RunRecord) -> dict[str, Any]:
    error = run.error or {}
    return {key: error.get(key) for key in ("kind", "message", "hint")}


def _steps(attempts: list[Attempt], ledger: list[LedgerRow], now: float) -> list[dict[str, Any]]:
    rows = []
    for step in StepName:
        own = [attempt for attempt in attempts if attempt.step is step]
        if not own:
            continue
        start = own[0].started_at
        end = own[-1].ended_at or now
        cost = sum(_hours(row, start, end) * row.price_usd_per_h for row in ledger)
        rows.append({
            "step": step,
            "started_at": start,
            "seconds": round(end - start, 3),
            "attempts": len(own),
            "cost_usd": round(cost, 4),
        })
    return rows


def _receipt_instance(attempts: list[Attempt], ledger: list[LedgerRow]) -> dict[str, Any]:
    row = ledger[-1] if ledger else None
    gpus = _result(attempts, StepName.CONNECT).get("gpus") or [{}]
    return {
        "provider": row.provider if row else None,
        "id": row.instance_id if row else None,
        "type": row.offer.type if row else None,
        "gpu": gpus[0].get("name") or (row.offer.gpu if row else None),
        "driver": gpus[0].get("driver"),
        "price_usd_per_hour": row.price_usd_per_h if row else None,
    }
