"""Promise 1 in the journal: one driver at a time, guarded writes, and nothing secret on disk."""

import dataclasses
import json
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from importlib import resources
from pathlib import Path

import pytest

from tests.clock import FakeClock
from towline import errors
from towline.core.instance import InstanceId, Offer, run_id_from, tag_for
from towline.core.redact import Redactor
from towline.core.renter import Renter
from towline.core.run import Outcome, RunRecord, RunState, StepName, Wish
from towline.store.holder import this_process
from towline.store.journal import LEASE_S, Store

SECRET = "correct-horse-battery-staple-9431"
OFFER = Offer(provider="p", type="h100", price_usd_per_h=2.0, gpu="H100", payload={"id": "o-1"})


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def home(tmp_path, clock):
    """Opens any number of journals on the one file; closes them at the end."""
    opened = []

    class Home:
        path = tmp_path / "towline.db"

        def store(self, *, own_clock=clock):
            redactor = Redactor()
            redactor.add(SECRET)
            opened.append(Store(self.path, redactor, own_clock))
            return opened[-1]

    yield Home()
    for store in opened:
        store.close()


@pytest.fixture
def store(home):
    return home.store()


def record(seed=1, name="shapes", **facts):
    return RunRecord(
        id=run_id_from(bytes([seed]) * 8),
        name=name,
        state=RunState.ACTIVE,
        task=facts.pop("task", {"command": "python train.py"}),
        provider="local",
        results_dir="",
        created_at=facts.pop("created_at", 1000.0 + seed),
        nonce="n-0123",
        **facts,
    )


def created(store, seed=1, name="shapes", **facts):
    return store.create_run(record(seed, name, **facts), lambda free: f"/runs/{free}")


def contents(path):
    """Everything stored, for "nothing changed"."""
    import sqlite3

    db = sqlite3.connect(path)
    try:
        names = ("runs", "attempts", "instances", "events", "facts")
        return {name: db.execute(f"SELECT * FROM {name}").fetchall() for name in names}
    finally:
        db.close()


# -- runs -------------------------------------------------------------------------------------


def test_a_run_reads_back_as_it_was_stored(store):
    run = created(store)
    expected = dataclasses.replace(record(), results_dir="/runs/shapes")
    assert run == store.run(run.id) == expected


def test_a_taken_name_gets_the_next_number(store):
    names = [created(store, seed).name for seed in range(1, 4)]
    assert names == ["shapes", "shapes-2", "shapes-3"]


def test_a_name_taken_in_the_results_folder_is_passed_over(store):
    asked = []

    def claim(name):
        asked.append(name)
        return None if name in {"shapes", "shapes-2"} else f"/runs/{name}"

    run = store.create_run(record(), claim)
    assert (run.name, run.results_dir) == ("shapes-3", "/runs/shapes-3")
    assert asked == ["shapes", "shapes-2", "shapes-3"]


def test_a_claim_that_fails_stores_nothing(store):
    def claim(_name):
        raise PermissionError

    with pytest.raises(PermissionError):
        store.create_run(record(), claim)
    assert store.runs() == []
    created(store)


def test_runs_are_listed_newest_first(store):
    for seed, at in ((1, 50.0), (2, 70.0), (3, 60.0)):
        created(store, seed, f"r{seed}", created_at=at)
    assert [run.name for run in store.runs()] == ["r2", "r3", "r1"]
    assert store.find(None).name == "r2"


def test_a_run_is_found_by_name_or_by_the_beginning_of_its_id(store):
    one, other = created(store, 1, "one"), created(store, 2, "two")
    assert store.find("one") == one
    assert store.find(other.id) == other
    assert store.find(other.id[:4]) == other


def test_a_name_outranks_an_id_that_begins_so(store):
    one = created(store, 1, "one")
    named = created(store, 2, one.id[:3])
    assert store.find(one.id[:3]) == named


@pytest.mark.parametrize("wanted", ["none", "%", "_", "'; --", "\x00"])
def test_what_is_not_there_is_said_with_the_way_on(store, wanted):
    created(store)
    with pytest.raises(errors.RunNotFound) as caught:
        store.find(wanted)
    assert caught.value.exit_code == 2
    assert "towline ls" in caught.value.hint


def test_a_beginning_that_fits_several_runs_names_them(store):
    ids = [run_id_from(bytes([1, seed, 0, 0, 0, 0, 0, 0])) for seed in range(3)]
    for run_id in ids:
        one = dataclasses.replace(record(), id=run_id)
        store.create_run(one, lambda free: f"/runs/{free}")
    with pytest.raises(errors.RunNotFound, match="fits several") as caught:
        store.find("b")
    assert ids[0] in str(caught.value)


def test_no_run_at_all_is_said(store):
    with pytest.raises(errors.RunNotFound, match="no runs yet"):
        store.find(None)
    with pytest.raises(errors.RunNotFound):
        store.run(record().id)
    with pytest.raises(errors.RunNotFound):
        store.take_lease(record().id)


# -- wishes -----------------------------------------------------------------------------------


def test_abort_outranks_stop(store):
    run = created(store)
    store.set_wish(run.id, Wish.STOP)
    assert store.run(run.id).wish is Wish.STOP
    store.set_wish(run.id, Wish.ABORT)
    store.set_wish(run.id, Wish.STOP)
    assert store.run(run.id).wish is Wish.ABORT


def test_a_run_that_ended_takes_no_wish(store):
    run = created(store)
    store.take_lease(run.id).end(RunState.SUCCEEDED)
    store.set_wish(run.id, Wish.ABORT)
    assert store.run(run.id).wish is None


# -- the lease --------------------------------------------------------------------------------


def test_a_live_driver_keeps_others_out(home, store):
    run = created(store)
    store.take_lease(run.id)
    assert str(os.getpid()) in store.driver(run.id)
    with pytest.raises(errors.LeaseHeld) as caught:
        home.store().take_lease(run.id)
    assert caught.value.exit_code == 11
    assert "attach" in caught.value.hint


def test_a_lease_given_back_is_free_at_once(home, store):
    run = created(store)
    journal = store.take_lease(run.id)
    journal.release_lease()
    assert store.driver(run.id) is None
    home.store().take_lease(run.id)


def test_the_epoch_grows_with_every_driver(store):
    run = created(store)
    epochs = []
    for _ in range(4):
        journal = store.take_lease(run.id)
        epochs.append(journal.run().epoch)
        journal.release_lease()
    assert epochs == [1, 2, 3, 4]


def test_every_write_renews_the_lease(store, clock):
    run = created(store)
    journal = store.take_lease(run.id)
    for write in (journal.renew, lambda: journal.fact("k", 1), lambda: journal.event("e")):
        clock.advance(LEASE_S * 0.9)
        write()
    assert store.driver(run.id) is not None
    clock.advance(LEASE_S)
    assert store.driver(run.id) is None


HOLDER = """
    import os, signal, sys
    from pathlib import Path
    sys.path.insert(0, sys.argv[3])
    from tests.clock import FakeClock
    from towline.core.redact import Redactor
    from towline.store.journal import Store
    journal = Store(Path(sys.argv[1]), Redactor(), FakeClock()).take_lease(sys.argv[2])
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(home, store, request):
    """A real process that holds the lease of a run, under a clock that stands still."""
    run = created(store)
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLDER), home.path, run.id, request.config.rootpath],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert process.stdout.readline() == b"held\n"
        yield run, process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def test_the_lease_of_another_live_process_is_held(store, holder):
    run, process = holder
    assert str(process.pid) in store.driver(run.id)
    with pytest.raises(errors.LeaseHeld, match=str(process.pid)):
        store.take_lease(run.id)


@pytest.mark.parametrize("reaped", [True, False])
def test_the_lease_of_a_killed_process_is_free_at_once(store, holder, reaped):
    run, process = holder
    process.send_signal(signal.SIGKILL)
    if reaped:
        process.wait()
    else:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # a zombie holds nothing
    assert store.driver(run.id) is None
    assert store.take_lease(run.id).run().epoch == 2


def test_the_lease_of_a_stopped_process_is_held_until_it_expires(store, holder, clock):
    run, process = holder
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    with pytest.raises(errors.LeaseHeld):
        store.take_lease(run.id)
    clock.advance(LEASE_S - 0.1)
    with pytest.raises(errors.LeaseHeld):
        store.take_lease(run.id)
    clock.advance(0.2)
    assert store.take_lease(run.id).run().epoch == 2


def set_holder(store, holder):
    with store._db.transaction():
        store._db.write("UPDATE runs SET lease_holder_json = ?", json.dumps(holder))


def test_a_process_id_used_again_by_another_program_holds_nothing(store):
    run = created(store)
    store.take_lease(run.id)
    set_holder(store, this_process() | {"started": time.time() - 500_000})
    assert store.driver(run.id) is None


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's boot id")
def test_two_hosts_with_the_same_name_and_network_card_are_two_machines(monkeypatch):
    monkeypatch.setattr("uuid.getnode", lambda: 0x0242AC110002)  # Docker's first container's
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert boot in this_process()["machine"]


def test_the_lease_of_another_machine_is_held_until_it_expires(store, clock):
    run = created(store)
    store.take_lease(run.id)
    set_holder(store, {"machine": "another", "host": "other", "pid": 1, "started": 1.0})
    assert store.driver(run.id) == "process 1 on other"
    clock.advance(LEASE_S + 1)
    assert store.driver(run.id) is None


RACER = """
    import sys
    from pathlib import Path
    from towline import errors
    from towline.clock import RealClock
    from towline.core.redact import Redactor
    from towline.store.journal import Store
    store = Store(Path(sys.argv[1]), Redactor(), RealClock())
    print("ready", flush=True)
    sys.stdin.readline()
    try:
        store.take_lease(sys.argv[2])
        print("driver", flush=True)
    except errors.LeaseHeld:
        print("held", flush=True)
    sys.stdin.readline()
"""


def test_of_many_processes_exactly_one_becomes_the_driver(home, store):
    run = created(store)
    argv = [sys.executable, "-c", textwrap.dedent(RACER), home.path, run.id]
    racers = [
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(5)
    ]
    try:
        assert [racer.stdout.readline() for racer in racers] == [b"ready\n"] * 5
        for racer in racers:
            racer.stdin.write(b"go\n")
            racer.stdin.flush()
        said = sorted(racer.stdout.readline() for racer in racers)
        assert said == [b"driver\n"] + [b"held\n"] * 4
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
            racer.stdin.close()
            racer.stdout.close()
    assert store.run(run.id).epoch == 1


# -- guarded writes -----------------------------------------------------------------------------

RENTER = Renter(provider="p", key="0123abcd", place={"base_url": "http://x"}, account="7")
WRITES = {
    "renew": lambda j: j.renew(),
    "begin": lambda j: j.begin(StepName.CONNECT),
    "finish": lambda j: j.finish(StepName.ACQUIRE, 1, Outcome.DONE, {"a": 1}),
    "event": lambda j: j.event("note", text="late"),
    "fact": lambda j: j.fact("log", {"offset": 9}),
    "advance": lambda j: j.advance({"log": {"offset": 9}}, [("progress", {"epoch": 1})]),
    "fail": lambda j: j.fail({"kind": "K", "message": "late"}),
    "end": lambda j: j.end(RunState.SUCCEEDED),
    "intend": lambda j: j.intend("p", "tag", OFFER),
    "rented": lambda j: j.rented(1, InstanceId("i-2"), 5.0, 1.0),
    "gone": lambda j: j.gone(1, "late"),
    "seen": lambda j: j.seen(1),
    "renter": lambda j: j.renter(RENTER, RENTER),
}


def test_every_write_of_a_driver_is_tried_here():
    from towline.store.journal import Journal

    public = {name for name in vars(Journal) if not name.startswith("_")}
    assert public - {"run", "release_lease"} == set(WRITES)


@pytest.mark.parametrize("name", WRITES)
def test_a_driver_that_lost_its_lease_changes_nothing(home, store, clock, name):
    run = created(store)
    slept = store.take_lease(run.id)
    slept.begin(StepName.ACQUIRE)
    slept.intend("p", tag_for(run.id), OFFER)
    clock.advance(LEASE_S + 1)
    new = home.store().take_lease(run.id)
    before = contents(home.path)
    with pytest.raises(errors.LeaseLost) as caught:
        WRITES[name](slept)
    assert caught.value.exit_code == 11
    slept.release_lease()
    assert contents(home.path) == before
    WRITES[name](new)


@pytest.mark.parametrize("name", WRITES)
def test_a_driver_that_gave_its_lease_back_changes_nothing(home, store, name):
    run = created(store)
    journal = store.take_lease(run.id)
    journal.release_lease()
    before = contents(home.path)
    with pytest.raises(errors.LeaseLost):
        WRITES[name](journal)
    assert contents(home.path) == before


def test_a_lease_that_ran_out_but_was_not_taken_goes_on(store, clock):
    run = created(store)
    journal = store.take_lease(run.id)
    clock.advance(LEASE_S * 100)  # the laptop slept, and nobody came
    journal.renew()
    assert store.driver(run.id) is not None


def test_a_lease_is_of_one_run_only(store):
    one, other = created(store, 1, "one"), created(store, 2, "two")
    store.take_lease(one.id).event("mine")
    journal = store.take_lease(other.id)
    journal.fact("k", 1)
    assert store.facts(one.id) == {}
    assert store.facts(other.id) == {"k": 1}
    assert [event.kind for event in store.events(other.id)] == []


# -- what a driver writes -----------------------------------------------------------------------


@pytest.fixture
def journal(store):
    return store.take_lease(created(store).id)


def test_attempts_are_numbered_within_their_step(journal, store):
    assert [journal.begin(StepName.ACQUIRE) for _ in range(3)] == [1, 2, 3]
    assert journal.begin(StepName.CONNECT) == 1
    journal.finish(StepName.ACQUIRE, 3, Outcome.DONE, {"instance_id": "i-1"})
    found = store.attempts(journal.run_id)
    assert [(a.step, a.number, a.outcome) for a in found] == [
        (StepName.ACQUIRE, 1, None),
        (StepName.ACQUIRE, 2, None),
        (StepName.ACQUIRE, 3, Outcome.DONE),
        (StepName.CONNECT, 1, None),
    ]
    assert found[2].result == {"instance_id": "i-1"}
    assert found[2].ended_at is not None


def test_events_are_numbered_and_read_from_any_number(journal, store, clock):
    for n in range(3):
        journal.event("note", text=str(n))
        clock.advance(1)
    events = store.events(journal.run_id)
    assert [event.data["text"] for event in events] == ["0", "1", "2"]
    assert [event.at for event in events] == [events[0].at + n for n in range(3)]
    assert store.events(journal.run_id, after=events[1].seq) == events[2:]


def test_facts_and_events_of_one_advance_come_together(journal, store):
    class Broken:
        pass

    with pytest.raises(TypeError):
        journal.advance(
            {"log": {"offset": 5}}, [("progress", {"epoch": 1}), ("bad", {"x": Broken()})]
        )
    assert store.facts(journal.run_id) == {}
    assert store.events(journal.run_id) == []
    journal.advance({"log": {"offset": 5}, "a": None}, [("progress", {"epoch": 1})])
    journal.advance({"log": {"offset": 7}}, [])
    assert store.facts(journal.run_id) == {"log": {"offset": 7}, "a": None}
    assert len(store.events(journal.run_id)) == 1


def test_the_first_error_is_the_runs_error(journal, store):
    journal.fail({"kind": "TrainingFailed", "message": "first"})
    journal.fail({"kind": "ReleaseUnconfirmed", "message": "second"})
    assert store.run(journal.run_id).error["message"] == "first"
    said = [event.data["message"] for event in store.events(journal.run_id)]
    assert said == ["first", "second"]


def test_the_end_is_stored_with_its_time(journal, store, clock):
    journal.end(RunState.FAILED)
    run = store.run(journal.run_id)
    assert (run.state, run.ended_at) == (RunState.FAILED, clock.now())


def test_the_ledger_tells_intended_from_rented_from_gone(journal, store, clock):
    tag = tag_for(journal.run_id)
    assert journal.intend("p", tag, OFFER) == 1
    intended = store.ledger(journal.run_id)[0]
    assert (intended.instance_id, intended.created_at, intended.gone_at) == (None, None, None)
    assert (intended.offer, intended.tag, intended.price_usd_per_h) == (OFFER, tag, 2.0)
    journal.rented(1, InstanceId("i-1"), 77.0, 1.5)
    rented = store.ledger(journal.run_id)[0]
    assert (rented.instance_id, rented.created_at, rented.price_usd_per_h) == ("i-1", 77.0, 1.5)
    journal.gone(1, "p does not know i-1 any more")
    gone = store.ledger(journal.run_id)[0]
    assert (gone.gone_at, gone.proof) == (clock.now(), "p does not know i-1 any more")
    clock.advance(1)
    assert journal.intend("p", tag, OFFER) == 2
    assert [row.number for row in store.ledger()] == [1, 2]


def test_the_ledgers_price_is_that_of_the_whole_hour(journal, store):
    journal.intend("p", "tag", dataclasses.replace(OFFER, storage_usd_per_h=0.5))
    assert store.ledger(journal.run_id)[0].price_usd_per_h == 2.5


def test_the_intent_is_on_disk_before_the_call_returns(home, journal):
    journal.intend("p", "tag", OFFER)
    assert len(contents(home.path)["instances"]) == 1


def test_a_ledger_row_can_be_closed_after_the_run_ended(journal, store):
    journal.intend("p", "t", OFFER)
    journal.end(RunState.FAILED)
    journal.release_lease()
    store.close_ledger_row(store.ledger()[0], "gone")
    assert store.ledger()[0].proof == "gone"


# -- secrets --------------------------------------------------------------------------------------


def test_no_secret_reaches_the_file_by_any_way(home, store):
    text = f"password {SECRET} in words"
    nested = {"a": [text, {"b": text}], "c": (text,)}
    run = created(store, task={"command": f"train --key {SECRET}", "env": nested})
    journal = store.take_lease(run.id)
    journal.begin(StepName.ACQUIRE)
    journal.finish(StepName.ACQUIRE, 1, Outcome.DONE, nested)
    journal.event("note", text=text, more=nested)
    journal.fact("status", nested)
    journal.advance({"x": text}, [("progress", nested)])
    journal.fail({"kind": "K", "message": text, "hint": text})
    journal.intend("p", tag_for(run.id), dataclasses.replace(OFFER, payload={"k": text}))
    journal.gone(1, text)
    store.close_ledger_row(store.ledger()[0], text)
    wal = home.path.with_name(home.path.name + "-wal")
    assert wal.stat().st_size > 0
    raw = home.path.read_bytes() + wal.read_bytes()
    assert SECRET.encode() not in raw
    store.close()
    assert SECRET.encode() not in home.path.read_bytes()
    assert b"***REDACTED***" in raw


def test_the_ledger_remembers_who_rented_and_when_it_was_first_seen(home, store, clock):
    run = created(store)
    journal = store.take_lease(run.id)
    journal.intend("p", tag_for(run.id), OFFER, RENTER)
    journal.intend("p", tag_for(run.id), OFFER)
    first, second = home.store().ledger()
    assert (first.renter, first.seen_at) == (RENTER, None)
    assert (second.renter, second.seen_at) == (None, None)
    journal.seen(1)
    seen_at = clock.now()
    clock.advance(5)
    journal.seen(1)
    assert [row.seen_at for row in home.store().ledger()] == [seen_at, None]


def test_an_account_with_a_new_key_is_remembered_by_it(store):
    run = created(store)
    journal = store.take_lease(run.id)
    other = dataclasses.replace(RENTER, account="8")
    for renter in (RENTER, other, RENTER):
        journal.intend("p", tag_for(run.id), OFFER, renter)
    new = dataclasses.replace(RENTER, key="ffffffff")
    journal.renter(store.ledger()[0].renter, new)
    assert [row.renter for row in store.ledger()] == [new, other, new]


def test_a_journal_of_before_opens_and_its_rows_name_no_account(tmp_path, clock):
    """What acquire had brought up the provider had shown; of the other nothing is known."""
    path = tmp_path / "towline.db"
    old = sqlite3.connect(path)
    old.executescript(
        resources.files("towline.store").joinpath("schema/0001_initial.sql").read_text()
    )
    old.executescript(
        "INSERT INTO runs (id, name, task_json, provider, results_dir, nonce, created_at)"
        " VALUES ('a', 'a', '{}', 'p', '', '', 1), ('b', 'b', '{}', 'p', '', '', 1);"
        "INSERT INTO instances (run_id, number, provider, tag, offer_json, intent_at, instance_id,"
        " created_at) SELECT id, 1, 'p', 't', '{\"provider\":\"p\",\"type\":\"x\"}', 1, 'i', 2"
        " FROM runs;"
        "INSERT INTO attempts (run_id, step, number, started_at, outcome)"
        " VALUES ('a', 'acquire', 1, 1, 'done'), ('b', 'acquire', 1, 1, NULL);"
        "PRAGMA user_version = 1;"
    )
    old.close()
    store = Store(path, Redactor(), clock)
    try:
        rows = {row.run_id: row for row in store.ledger()}
    finally:
        store.close()
    assert (rows["a"].seen_at, rows["b"].seen_at) == (2.0, None)
    assert [row.renter for row in rows.values()] == [None, None]
    assert [row.tick for row in rows.values()] == [None, None]
