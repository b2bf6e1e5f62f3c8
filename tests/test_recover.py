"""Promise 2 after any crash: what waits for a driver, and what nobody claims."""

import asyncio
import json
import subprocess
import sys

import pytest

from tests.clock import FakeClock
from tests.doubles import SILENT, FakeProvider, Forever
from towline import errors
from towline.core.instance import InstanceId, Leftover, Offer, run_id_from, tag_for
from towline.core.kept import Kept
from towline.core.redact import Redactor
from towline.core.renter import Renter
from towline.core.run import Outcome, RunRecord, RunState, StepName, Wish
from towline.recover import due, sweep, undriven, unreleased
from towline.store.holder import this_process
from towline.store.journal import Store

OFFER = Offer(provider="fake", type="small", price_usd_per_h=1.0)
KEYS = {"orphans", "claimed", "foreign", "unreachable", "ended", "failed"}
NOTHING = {key: [] for key in KEYS}


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def store(tmp_path, clock):
    opened = Store(tmp_path / "towline.db", Redactor(), clock)
    yield opened
    opened.close()


@pytest.fixture
def provider(clock):
    return FakeProvider(clock)


def created(store, seed):
    run = RunRecord(
        id=run_id_from(bytes([seed]) * 8),
        name=f"r{seed}",
        state=RunState.ACTIVE,
        task={},
        provider="fake",
        results_dir="",
        created_at=float(seed),
    )
    return store.create_run(run, lambda name: f"/runs/{name}")


def rented(store, provider, seed, *, state=None, renter=None):
    """A run with an instance; its driver is gone."""
    run = created(store, seed)
    journal = store.take_lease(run.id)
    number = journal.intend("fake", tag_for(run.id), OFFER, renter)
    made = provider.place(tag_for(run.id), f"i-{seed}")
    journal.rented(number, InstanceId(made.id), made.started_at, 1.0)
    if state is not None:
        journal.end(state)
    journal.release_lease()
    return run


def swept(store, provider, clock, *, dry_run=False):
    providers = provider if isinstance(provider, dict) else {"fake": provider}
    found = asyncio.run(sweep(store, providers, clock, dry_run=dry_run))
    assert set(found) == KEYS
    assert json.loads(json.dumps(found)) == found
    return found


def ids(rows):
    return [row["id"] for row in rows]


def test_undriven_runs_are_the_active_ones_nobody_drives_the_oldest_first(store):
    runs = [created(store, seed) for seed in range(1, 6)]
    store.take_lease(runs[1].id)
    ended = store.take_lease(runs[2].id)
    ended.end(RunState.SUCCEEDED)
    ended.release_lease()
    assert [run.name for run in undriven(store)] == ["r1", "r4", "r5"]


def test_a_run_whose_driver_died_is_undriven_at_once(store):
    run = created(store, 1)
    store.take_lease(run.id)
    assert undriven(store) == []
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead = json.dumps({**this_process(), "pid": ended.pid})
    with store._db.transaction():
        store._db.write("UPDATE runs SET lease_holder_json = ?", dead)
    assert [one.id for one in undriven(store)] == [run.id]


def test_unreleased_runs_are_those_with_nothing_left_but_release(store, clock):
    waiting, working, aborted = (created(store, seed) for seed in (1, 2, 3))
    for run in (waiting, working):
        journal = store.take_lease(run.id)
        for step in StepName:
            if step is StepName.RELEASE or (run is working and step is StepName.GATHER):
                break
            journal.finish(step, journal.begin(step), Outcome.DONE, {})
        journal.release_lease()
    journal = store.take_lease(aborted.id)
    journal.fail({"kind": "K", "message": "m"})
    journal.release_lease()
    assert [run.name for run in unreleased(store, clock)] == ["r1", "r3"]


def test_an_instance_of_an_active_run_is_claimed_and_left_alone(store, provider, clock):
    rented(store, provider, 1)
    found = swept(store, provider, clock)
    assert ids(found["claimed"]) == ["i-1"]
    assert found["orphans"] == found["ended"] == []
    assert list(provider.instances) == ["i-1"]


@pytest.mark.parametrize("state", [s for s in RunState if s is not RunState.ACTIVE])
def test_an_instance_of_a_run_that_ended_is_ended_and_its_row_closed(store, provider, clock, state):
    run = rented(store, provider, 1, state=state)
    found = swept(store, provider, clock)
    assert ids(found["orphans"]) == ids(found["ended"]) == ["i-1"]
    assert found["ended"][0]["proof"]
    assert provider.instances == {}
    row = store.ledger(run.id)[0]
    assert row.proof == found["ended"][0]["proof"]
    assert row.gone_at is not None


def test_a_dry_run_tells_and_touches_nothing(store, provider, clock):
    run = rented(store, provider, 1, state=RunState.FAILED)
    found = swept(store, provider, clock, dry_run=True)
    assert found["orphans"] == [
        {
            "provider": "fake",
            "kind": "instance",
            "id": "i-1",
            "tag": tag_for(run.id),
            "since": provider.instances["i-1"].started_at,
            "price_usd_per_hour": 0.0,
        }
    ]
    assert found["ended"] == []
    assert provider.asked("terminate") == []
    assert store.ledger(run.id)[0].gone_at is None


@pytest.mark.parametrize("tag", ["towline-web", "my-server", "", "towline-aaaaaaaaaa"])
@pytest.mark.parametrize("sole_owner", [True, False])
def test_what_does_not_carry_our_tag_is_nobody_of_ours(store, clock, tag, sole_owner):
    provider = FakeProvider(clock, sole_owner=sole_owner)
    provider.place(tag)
    found = swept(store, provider, clock)
    assert found == NOTHING
    assert len(provider.instances) == 1


def test_another_laptops_instance_is_left_alone(store, provider, clock):
    made = provider.place(tag_for(run_id_from(b"stranger")))
    found = swept(store, provider, clock)
    assert ids(found.pop("foreign")) == [made.id]
    assert not any(found.values())
    assert len(provider.instances) == 1


def test_where_only_we_can_have_made_it_an_unknown_runs_instance_is_an_orphan(store, clock):
    provider = FakeProvider(clock, sole_owner=True)
    made = provider.place(tag_for(run_id_from(b"lostrun!")))
    found = swept(store, provider, clock)
    assert ids(found["orphans"]) == ids(found["ended"]) == [made.id]
    assert provider.instances == {}


def test_an_instance_the_journal_lost_is_ended_by_its_tag(store, provider, clock):
    """The create call's answer was lost, and the run ended: the row has no id."""
    run = created(store, 1)
    journal = store.take_lease(run.id)
    journal.intend("fake", tag_for(run.id), OFFER)
    journal.end(RunState.ABORTED)
    journal.release_lease()
    made = provider.place(tag_for(run.id))
    assert ids(swept(store, provider, clock)["ended"]) == [made.id]
    assert provider.instances == {}


def test_a_provider_that_is_silent_hides_no_other(store, provider, clock):
    silent = FakeProvider(clock)
    silent.faults["list_tagged"] = [Forever, SILENT]
    rented(store, provider, 1, state=RunState.SUCCEEDED)
    found = swept(store, {"silent": silent, "fake": provider}, clock)
    assert found["unreachable"] == [
        {"provider": "silent", "error": SILENT.message, "hint": SILENT.hint, "instances": 0}
    ]
    assert ids(found["ended"]) == ["i-1"]


def test_one_that_will_not_go_is_told_and_the_rest_is_ended(store, clock):
    class Locked(FakeProvider):
        async def terminate(self, instance_id):
            if instance_id == "i-1":
                raise errors.ProviderError("locked by the provider")
            await super().terminate(instance_id)

    provider = Locked(clock)
    rented(store, provider, 1, state=RunState.SUCCEEDED)
    rented(store, provider, 2, state=RunState.SUCCEEDED)
    found = swept(store, provider, clock)
    assert ids(found["failed"]) == ["i-1"]
    assert "locked by the provider" in found["failed"][0]["error"]
    assert ids(found["ended"]) == ["i-2"]
    assert store.ledger()[0].gone_at is None


def test_a_sweep_may_be_repeated(store, provider, clock):
    rented(store, provider, 1, state=RunState.FAILED)
    swept(store, provider, clock)
    proof = store.ledger()[0].proof
    assert swept(store, provider, clock) == NOTHING
    assert store.ledger()[0].proof == proof


def test_an_instance_rented_while_the_sweep_reads_is_seen_with_its_claim(store, clock):
    """Its run is stored after the account was asked and before its answer came."""

    class Racing(FakeProvider):
        async def list_tagged(self):
            rented(store, self, 9)
            return await super().list_tagged()

    provider = Racing(clock, sole_owner=True)
    found = swept(store, provider, clock)
    assert ids(found["claimed"]) == ["i-9"]
    assert found["orphans"] == []


def test_a_second_instance_under_an_active_runs_tag_is_ended(store, provider, clock):
    """The answer to a create came late: the run has another instance by now."""
    run = rented(store, provider, 1)
    late = provider.place(tag_for(run.id), "i-late")
    found = swept(store, provider, clock)
    assert ids(found["claimed"]) == ["i-1"]
    assert ids(found["ended"]) == [late.id]
    assert list(provider.instances) == ["i-1"]


def test_while_a_run_waits_for_an_answer_every_instance_of_its_tag_is_claimed(
    store, provider, clock
):
    run = created(store, 1)
    store.take_lease(run.id).intend("fake", tag_for(run.id), OFFER)
    provider.place(tag_for(run.id), "i-new")
    assert ids(swept(store, provider, clock)["claimed"]) == ["i-new"]


def key_of(run_id):
    return Leftover(provider="fake", kind="key", id=f"k-{run_id}", tag=tag_for(run_id))


def test_keys_of_ended_runs_are_removed_and_those_of_others_are_left(store, provider, clock):
    ended = rented(store, provider, 1, state=RunState.SUCCEEDED)
    active = rented(store, provider, 2)
    stranger = run_id_from(b"stranger")
    for run_id in (ended.id, active.id, stranger):
        provider.things[f"k-{run_id}"] = key_of(run_id)
    found = swept(store, provider, clock)
    assert ids(found["foreign"]) == [f"k-{stranger}"]
    assert set(provider.things) == {f"k-{active.id}", f"k-{stranger}"}
    assert {row["kind"] for row in found["ended"]} == {"instance", "key"}


def test_a_key_that_can_not_be_removed_is_told(store, provider, clock):
    ended = rented(store, provider, 1, state=RunState.SUCCEEDED)
    provider.things["k"] = key_of(ended.id)
    provider.faults["remove"] = [SILENT]
    assert ids(swept(store, provider, clock)["failed"]) == [f"k-{ended.id}"]


# -- an instance that is kept for the user ----------------------------------------------------------


def kept(store, clock, keep_s):
    """A run whose driver died while it kept the instance."""
    run = created(store, 1)
    journal = store.take_lease(run.id)
    for step in StepName:
        number = journal.begin(step)
        if step is not StepName.RELEASE:
            journal.finish(step, number, Outcome.DONE, {})
    since = Kept(at=clock.now(), tick=clock.monotonic(), keep_s=keep_s)
    journal.advance(since.facts(), [])
    journal.release_lease()
    return run


def waiting(store, clock):
    return [run.name for run in unreleased(store, clock)], [run.name for run in due(store, clock)]


def test_an_instance_that_is_kept_is_released_by_later_commands_when_the_time_is_over(store, clock):
    kept(store, clock, 5.0)
    clock.advance(4.9)
    assert waiting(store, clock) == ([], [])
    clock.advance(0.2)
    assert waiting(store, clock) == (["r1"], ["r1"])


def test_a_wish_ends_the_keeping(store, clock):
    store.set_wish(kept(store, clock, 3600.0).id, Wish.STOP)
    assert waiting(store, clock)[0] == ["r1"]


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_clock_that_jumps_keeps_no_instance_longer(store, clock, jump_s):
    kept(store, clock, 1800.0)
    clock.jump(jump_s)
    assert waiting(store, clock)[0] == ["r1"]


def test_a_small_jump_back_leaves_it_to_the_other_clock(store, clock):
    kept(store, clock, 1800.0)
    clock.advance(1700.0)
    clock.jump(-1000.0)
    assert waiting(store, clock)[0] == []
    clock.advance(101.0)
    assert waiting(store, clock)[0] == ["r1"]


def test_a_keeping_of_an_older_towline_ends_too(store, clock):
    run = kept(store, clock, 5.0)
    with store._db.transaction():
        store._db.write("DELETE FROM facts WHERE run_id = ? AND key = 'kept_since'", run.id)
    assert waiting(store, clock)[0] == []
    clock.advance(6.0)
    assert waiting(store, clock)[0] == ["r1"]


def test_a_release_that_failed_a_moment_ago_is_not_tried_by_each_command(store, clock):
    run = kept(store, clock, 5.0)
    clock.advance(6.0)
    journal = store.take_lease(run.id)
    journal.begin(StepName.RELEASE)
    journal.release_lease()
    clock.advance(29.0)
    assert waiting(store, clock) == (["r1"], [])
    clock.jump(-3600.0)  # it then seems to begin in an hour: that must not put it off
    assert waiting(store, clock) == (["r1"], ["r1"])


# -- several accounts at one provider ---------------------------------------------------------------

WORK = Renter(provider="fake", key="aaaaaaaa", place={"project": "work"})
HOME = Renter(provider="fake", key="bbbbbbbb", place={"project": "home"})


def test_a_sweep_with_another_key_says_what_it_can_not_see(store, clock):
    """Promise 2: "no orphans" is not said of an account that was not asked."""
    provider, other = FakeProvider(clock), FakeProvider(clock)
    for seed in (1, 2):
        rented(store, provider, seed, renter=WORK)
    other.account = HOME
    (hidden,) = swept(store, other, clock)["unreachable"]
    assert hidden["instances"] == 2
    assert "2 instances" in hidden["error"]
    assert "i-1" in hidden["error"]
    assert "project work" in hidden["error"]
    assert "project home" in hidden["error"]
    assert "project: work" in hidden["hint"]
    assert other.asked("terminate") == []
    assert [row.gone_at for row in store.ledger()] == [None, None]


def test_a_sweep_with_the_key_that_rented_hides_nothing(store, provider, clock):
    provider.account = WORK
    rented(store, provider, 1, renter=WORK)
    assert swept(store, provider, clock)["unreachable"] == []


def test_an_instance_that_somebody_drives_is_not_missed(store, clock):
    provider, other = FakeProvider(clock), FakeProvider(clock)
    run = rented(store, provider, 1, renter=WORK)
    store.take_lease(run.id)
    other.account = HOME
    assert swept(store, other, clock)["unreachable"] == []


def test_an_account_that_is_silent_says_how_many_instances_it_hides(store, clock):
    provider = FakeProvider(clock)
    rented(store, provider, 1)
    provider.faults["list_tagged"] = [Forever, SILENT]
    (silent,) = swept(store, provider, clock)["unreachable"]
    assert silent["instances"] == 1
