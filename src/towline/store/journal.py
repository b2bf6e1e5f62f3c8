"""Read and write runs: the queries, the lease, and the guarded writes of the one driver.

`Store` reads, creates runs and stores wishes. `Journal` is what the holder of a lease writes
through: each write checks the token first, so that a driver that lost its lease changes nothing
(rule 4). Every text passes the redactor (rule 7).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import secrets
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from towline.core.instance import InstanceId, Offer, RunId
from towline.core.redact import Redactor
from towline.core.renter import Renter
from towline.core.run import Attempt, Outcome, RunRecord, RunState, StepName, Wish
from towline.errors import JournalBusy, JournalUnusable, LeaseHeld, LeaseLost, RunNotFound
from towline.ports import Clock
from towline.store.database import Database
from towline.store.holder import is_alive, this_process

#: a driver that has not written for so long has lost its lease
LEASE_S = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One stored fact of a run."""

    seq: int
    at: float
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerRow:
    """One instance as the ledger holds it; ``instance_id`` None: intended, outcome unknown."""

    run_id: RunId
    number: int
    provider: str
    tag: str
    offer: Offer
    intent_at: float
    instance_id: InstanceId | None
    created_at: float | None
    price_usd_per_h: float
    gone_at: float | None
    proof: str | None
    renter: Renter | None = None  # None: an older towline rented it, or nobody had to
    seen_at: float | None = None  # when the provider first showed it
    tick: float | None = None  # this machine's monotonic time at intent, then at create's answer


class Store:
    """The journal of all runs of one TOWLINE_HOME."""

    def __init__(self, path: Path, redactor: Redactor, clock: Clock) -> None:
        self._db = Database(path)
        self._redactor = redactor
        self._clock = clock

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def create_run(self, run: RunRecord, claim: Callable[[str], str | None]) -> RunRecord:
        """Store a new run under a free name.

        Args:
            run: Its facts; ``results_dir`` is not read.
            claim: Told a name that no run has; makes and returns its results folder, or None when
                the name is taken there. `-2`, `-3`, ... are tried in turn.
        """
        with self._db.transaction():
            name, results_dir = self._free_name(run.name, claim)
            self._db.write(
                "INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
                " VALUES (?, ?, ?, ?, ?, ?, ?)",
                run.id,
                name,
                self._text(run.task),
                run.provider,
                results_dir,
                run.nonce,
                run.created_at,
            )
        return self.run(run.id)

    def run(self, run_id: RunId) -> RunRecord:
        """Read a run by its full id."""
        row = self._db.row("SELECT * FROM runs WHERE id = ?", run_id)
        if row is None:
            message = f"no run has the id {run_id}"
            raise RunNotFound(message, hint="`towline ls` lists the runs")
        return _run(row)

    def find(self, name_or_prefix: str | None) -> RunRecord:
        """Find a run by name or id prefix; None means the newest.

        Raises:
            RunNotFound: None or several match.
        """
        if name_or_prefix is None:
            rows = self._db.rows("SELECT * FROM runs ORDER BY created_at DESC, rowid DESC LIMIT 1")
            wanted = "there are no runs yet"
        else:
            rows = self._db.rows(
                "SELECT * FROM runs WHERE name = ?1 OR substr(id, 1, length(?1)) = ?1"
                " ORDER BY name = ?1 DESC",
                name_or_prefix,
            )
            wanted = f"no run is named {name_or_prefix!r} or has an id that begins so"
        if not rows:
            raise RunNotFound(
                wanted, hint="`towline ls` lists the runs; `towline train` starts one"
            )
        if len(rows) > 1 and rows[0]["name"] != name_or_prefix:
            names = ", ".join(row["id"] for row in rows[:5])
            raise RunNotFound(
                f"{name_or_prefix!r} fits several runs: {names}", hint="give more letters"
            )
        return _run(rows[0])

    def runs(self) -> list[RunRecord]:
        """All runs, the newest first."""
        return [
            _run(r)
            for r in self._db.rows("SELECT * FROM runs ORDER BY created_at DESC, rowid DESC")
        ]

    def attempts(self, run_id: RunId) -> list[Attempt]:
        """All attempts of a run in the order they began."""
        rows = self._db.rows("SELECT * FROM attempts WHERE run_id = ? ORDER BY rowid", run_id)
        return [
            Attempt(
                step=StepName(row["step"]),
                number=row["number"],
                started_at=row["started_at"],
                ended_at=row["ended_at"],
                outcome=Outcome(row["outcome"]) if row["outcome"] else None,
                result=json.loads(row["result_json"]),
            )
            for row in rows
        ]

    def events(self, run_id: RunId, after: int = 0, most: int = -1) -> list[Event]:
        """Events of a run with a number above ``after``; the first of them, or all."""
        rows = self._db.rows(
            "SELECT * FROM events WHERE run_id = ? AND seq > ? ORDER BY seq LIMIT ?",
            run_id,
            after,
            most,
        )
        return [
            Event(seq=r["seq"], at=r["at"], kind=r["kind"], data=json.loads(r["data_json"]))
            for r in rows
        ]

    def facts(self, run_id: RunId) -> dict[str, Any]:
        """All facts of a run by key."""
        rows = self._db.rows("SELECT key, value_json FROM facts WHERE run_id = ?", run_id)
        return {row["key"]: json.loads(row["value_json"]) for row in rows}

    def facts_with(self, prefix: str) -> dict[RunId, dict[str, Any]]:
        """Of every run the facts whose keys begin so."""
        rows = self._db.rows(
            "SELECT run_id, key, value_json FROM facts WHERE substr(key, 1, length(?1)) = ?1",
            prefix,
        )
        found: dict[RunId, dict[str, Any]] = {}
        for row in rows:
            found.setdefault(RunId(row["run_id"]), {})[row["key"]] = json.loads(row["value_json"])
        return found

    def ledger(self, run_id: RunId | None = None) -> list[LedgerRow]:
        """Instances of one run, or of all, in the order they were intended."""
        rows = self._db.rows(
            "SELECT * FROM instances WHERE ?1 IS NULL OR run_id = ?1 ORDER BY intent_at, number",
            run_id,
        )
        return [_ledger_row(row) for row in rows]

    def set_wish(self, run_id: RunId, wish: Wish) -> None:
        """Store what the user asks of an active run; abort outranks stop."""
        with self._db.transaction():
            self._db.write(
                "UPDATE runs SET wish = ? WHERE id = ? AND state = 'active'"
                " AND (wish IS NULL OR wish != 'abort')",
                str(wish),
                run_id,
            )

    def driver(self, run_id: RunId) -> str | None:
        """Say which live process drives the run, None when none does."""
        row = self._db.row("SELECT * FROM runs WHERE id = ?", run_id)
        if row is None or not self._is_held(row):
            return None
        holder = json.loads(row["lease_holder_json"])
        return f"process {holder['pid']} on {holder['host']}"

    def is_held_up(self) -> bool:
        """Whether another program holds the file now, so that no lease can be renewed."""
        try:
            with self._db.transaction(patient=False):
                return False
        except JournalBusy:
            return True

    def take_lease(self, run_id: RunId) -> Journal:
        """Become the one driver of a run, with a higher epoch than any before.

        Raises:
            LeaseHeld: A live process drives it.
            RunNotFound: There is no such run.
        """
        token = secrets.token_hex(16)
        holder = json.dumps(this_process())
        with self._db.transaction():
            row = self._db.row("SELECT * FROM runs WHERE id = ?", run_id)
            if row is None:
                raise RunNotFound(f"no run has the id {run_id}")
            if self._is_held(row):
                pid = json.loads(row["lease_holder_json"])["pid"]
                message = f"run {row['name']} is driven by process {pid}"
                hint = (
                    f"`towline attach {row['name']}` shows it, `towline stop {row['name']}` ends it"
                )
                raise LeaseHeld(message, hint=hint)
            self._db.write(
                "UPDATE runs SET lease_token = ?, lease_holder_json = ?, lease_expires_at = ?,"
                " epoch = epoch + 1 WHERE id = ?",
                token,
                holder,
                self._clock.now() + LEASE_S,
                run_id,
            )
        return Journal(self, self._db, run_id, token, self._redactor, self._clock)

    def close_ledger_row(self, row: LedgerRow, proof: str) -> None:
        """Record proof that an instance is gone, found after its run had ended."""
        with self._db.transaction():
            self._db.write(
                "UPDATE instances SET gone_at = ?, proof = ? WHERE run_id = ? AND number = ?",
                self._clock.now(),
                self._redactor.text(proof),
                row.run_id,
                row.number,
            )

    def _is_held(self, row: sqlite3.Row) -> bool:
        if row["lease_token"] is None or row["lease_expires_at"] <= self._clock.now():
            return False
        return is_alive(json.loads(row["lease_holder_json"]))

    def _free_name(self, name: str, claim: Callable[[str], str | None]) -> tuple[str, str]:
        taken = {row["name"] for row in self._db.rows("SELECT name FROM runs")}
        for number in itertools.count(1):
            free = name if number == 1 else f"{name}-{number}"
            if free not in taken and (results_dir := claim(free)) is not None:
                return free, results_dir
        raise AssertionError  # the count has no end

    def _text(self, value: Any) -> str:
        return json.dumps(self._redactor.value(value), separators=(",", ":"))


class Journal:
    """The lease holder's pen. Every method is one transaction that also renews the lease."""

    def __init__(
        self,
        store: Store,
        db: Database,
        run_id: RunId,
        token: str,
        redactor: Redactor,
        clock: Clock,
    ) -> None:
        self.store = store
        self.run_id = run_id
        self._db = db
        self._token = token
        self._redactor = redactor
        self._clock = clock

    def run(self) -> RunRecord:
        """Read the run as it is now, with any wish."""
        return self.store.run(self.run_id)

    def renew(self) -> None:
        """Heartbeat.

        Raises:
            LeaseLost: As every method here: another process has taken the run over.
        """
        with self._guarded():
            pass

    def release_lease(self) -> None:
        """Stop being the driver; where the journal can't be written now, the lease expires."""
        unwritable = contextlib.suppress(JournalBusy, JournalUnusable)
        with unwritable, self._db.transaction(patient=False):
            self._db.write(
                "UPDATE runs SET lease_token = NULL, lease_holder_json = NULL,"
                " lease_expires_at = NULL WHERE id = ? AND lease_token = ?",
                self.run_id,
                self._token,
            )

    def begin(self, step: StepName) -> int:
        """Record that a step's attempt starts; returns its number."""
        with self._guarded():
            row = self._db.row(
                "SELECT coalesce(max(number), 0) + 1 AS n FROM attempts WHERE run_id = ? AND step = ?",
                self.run_id,
                str(step),
            )
            number: int = row["n"] if row else 1
            self._db.write(
                "INSERT INTO attempts (run_id, step, number, started_at) VALUES (?, ?, ?, ?)",
                self.run_id,
                str(step),
                number,
                self._clock.now(),
            )
            self._event("step_started", {"step": step, "attempt": number})
        return number

    def finish(self, step: StepName, number: int, outcome: Outcome, result: dict[str, Any]) -> None:
        """Record how an attempt ended and what it found."""
        with self._guarded():
            self._db.write(
                "UPDATE attempts SET ended_at = ?, outcome = ?, result_json = ?"
                " WHERE run_id = ? AND step = ? AND number = ?",
                self._clock.now(),
                str(outcome),
                self._text(result),
                self.run_id,
                str(step),
                number,
            )
            self._event(f"step_{outcome}", {"step": step, "attempt": number, "result": result})

    def event(self, kind: str, /, **data: Any) -> None:
        """Record one event."""
        with self._guarded():
            self._event(kind, data)

    def fact(self, key: str, value: Any) -> None:
        """Set a fact."""
        with self._guarded():
            self._fact(key, value)

    def advance(self, facts: dict[str, Any], events: list[tuple[str, dict[str, Any]]]) -> None:
        """Set facts and record events together: a log's offset and what was read up to it."""
        with self._guarded():
            for key, value in facts.items():
                self._fact(key, value)
            for kind, data in events:
                self._event(kind, data)

    def fail(self, error: dict[str, Any]) -> None:
        """Record the run's first error; later ones are events only."""
        with self._guarded():
            self._db.write(
                "UPDATE runs SET error_json = ? WHERE id = ? AND error_json IS NULL",
                self._text(error),
                self.run_id,
            )
            self._event("error", error)

    def end(self, state: RunState) -> None:
        """Close the run."""
        with self._guarded():
            self._db.write(
                "UPDATE runs SET state = ?, ended_at = ? WHERE id = ?",
                str(state),
                self._clock.now(),
                self.run_id,
            )
            self._event("run_ended", {"state": str(state)})

    def intend(self, provider: str, tag: str, offer: Offer, renter: Renter | None = None) -> int:
        """Commit the intent to rent, before the provider is asked (rule 1); returns its number."""
        with self._guarded():
            row = self._db.row(
                "SELECT coalesce(max(number), 0) + 1 AS n FROM instances WHERE run_id = ?",
                self.run_id,
            )
            number: int = row["n"] if row else 1
            self._db.write(
                "INSERT INTO instances (run_id, number, provider, tag, offer_json, intent_at,"
                " price_usd_per_h, renter_json, tick) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                self.run_id,
                number,
                provider,
                tag,
                self._text(_offer_json(offer)),
                self._clock.now(),
                offer.hour_usd,
                None if renter is None else self._text(renter.data()),
                self._clock.monotonic(),
            )
        return number

    def renter(self, before: Renter, now: Renter) -> None:
        """Record that an account which rented for this run has another key now."""
        with self._guarded():
            self._db.write(
                "UPDATE instances SET renter_json = ? WHERE run_id = ? AND renter_json = ?",
                self._text(now.data()),
                self.run_id,
                self._text(before.data()),
            )

    def rented(self, number: int, instance_id: InstanceId, started_at: float, price: float) -> None:
        """Record what the provider made of an intent."""
        with self._guarded():
            self._db.write(
                "UPDATE instances SET instance_id = ?, created_at = ?, price_usd_per_h = ?, tick = ?"
                " WHERE run_id = ? AND number = ?",
                instance_id,
                started_at,
                price,
                self._clock.monotonic(),
                self.run_id,
                number,
            )

    def seen(self, number: int) -> None:
        """Record that the provider shows an instance; the first time counts."""
        with self._guarded():
            self._db.write(
                "UPDATE instances SET seen_at = coalesce(seen_at, ?)"
                " WHERE run_id = ? AND number = ?",
                self._clock.now(),
                self.run_id,
                number,
            )

    def gone(self, number: int, proof: str) -> None:
        """Record proof that an instance no longer bills."""
        with self._guarded():
            self._db.write(
                "UPDATE instances SET gone_at = ?, proof = ? WHERE run_id = ? AND number = ?",
                self._clock.now(),
                self._redactor.text(proof),
                self.run_id,
                number,
            )

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._db.transaction():
            changed = self._db.write(
                "UPDATE runs SET lease_expires_at = ? WHERE id = ? AND lease_token = ?",
                self._clock.now() + LEASE_S,
                self.run_id,
                self._token,
            )
            if changed == 0:
                message = f"another process has taken over run {self.run_id}"
                raise LeaseLost(message, hint=f"`towline attach {self.run_id}` shows it")
            yield

    def _event(self, kind: str, data: dict[str, Any]) -> None:
        self._db.write(
            "INSERT INTO events (run_id, at, kind, data_json) VALUES (?, ?, ?, ?)",
            self.run_id,
            self._clock.now(),
            kind,
            self._text(data),
        )

    def _fact(self, key: str, value: Any) -> None:
        self._db.write(
            "INSERT INTO facts (run_id, key, value_json) VALUES (?, ?, ?)"
            " ON CONFLICT (run_id, key) DO UPDATE SET value_json = excluded.value_json",
            self.run_id,
            key,
            self._text(value),
        )

    def _text(self, value: Any) -> str:
        return json.dumps(self._redactor.value(value), separators=(",", ":"))


def _run(row: sqlite3.Row) -> RunRecord:
    return RunRecord(
        id=RunId(row["id"]),
        name=row["name"],
        state=RunState(row["state"]),
        task=json.loads(row["task_json"]),
        provider=row["provider"],
        results_dir=row["results_dir"],
        created_at=row["created_at"],
        ended_at=row["ended_at"],
        wish=Wish(row["wish"]) if row["wish"] else None,
        error=json.loads(row["error_json"]) if row["error_json"] else None,
        epoch=row["epoch"],
        nonce=row["nonce"],
    )


def _offer_json(offer: Offer) -> dict[str, Any]:
    return {key: value for key, value in asdict(offer).items() if key != "address"}


def _ledger_row(row: sqlite3.Row) -> LedgerRow:
    return LedgerRow(
        run_id=RunId(row["run_id"]),
        number=row["number"],
        provider=row["provider"],
        tag=row["tag"],
        offer=Offer(**json.loads(row["offer_json"])),
        intent_at=row["intent_at"],
        instance_id=InstanceId(row["instance_id"]) if row["instance_id"] else None,
        created_at=row["created_at"],
        price_usd_per_h=row["price_usd_per_h"],
        gone_at=row["gone_at"],
        proof=row["proof"],
        renter=Renter(**json.loads(row["renter_json"])) if row["renter_json"] else None,
        seen_at=row["seen_at"],
        tick=row["tick"],
    )
