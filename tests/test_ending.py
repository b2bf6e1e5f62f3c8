"""Promise 2: an instance is gone when its provider says so, and loudly not gone until then."""

import asyncio
import dataclasses
import itertools

import pytest

from tests.clock import FakeClock
from tests.doubles import REFUSED, SILENT, FakeProvider, Forever, Late
from towline import errors
from towline.core.instance import Offer, run_id_from, tag_for
from towline.ending import prove_gone
from towline.store.journal import LedgerRow

RUN = run_id_from(b"abcdefgh")
TAG = tag_for(RUN)
IN_USE = errors.ProviderError("the instance is locked")
OTHERS_TAG = tag_for(run_id_from(b"stranger"))


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def provider(clock):
    return FakeProvider(clock, console_url="https://console.example/instances")


def row(instance_id, clock):
    return LedgerRow(
        run_id=RUN,
        number=1,
        provider="fake",
        tag=TAG,
        offer=Offer(provider="fake", type="small"),
        intent_at=clock.now(),
        instance_id=instance_id,
        created_at=None,
        price_usd_per_h=1.0,
        gone_at=None,
        proof=None,
    )


def seen_row(instance_id, clock):
    """A row of an instance that the provider has shown before."""
    now, tick = clock.now(), clock.monotonic()
    return dataclasses.replace(row(instance_id, clock), seen_at=now, tick=tick)


def prove(provider, ledger_row, clock):
    return asyncio.run(prove_gone(provider, ledger_row, clock))


def refusal(provider, ledger_row, clock):
    with pytest.raises(errors.ReleaseUnconfirmed) as caught:
        prove(provider, ledger_row, clock)
    return caught.value


def test_an_instance_is_terminated_and_proven_gone(provider, clock):
    made = provider.place(TAG)
    proof = prove(provider, row(made.id, clock), clock)
    assert made.id in proof
    assert provider.instances == {}
    assert provider.asked("terminate") == [[made.id]]


def test_the_proof_is_the_providers_word_after_the_terminate(provider, clock):
    made = provider.place(TAG)
    prove(provider, row(made.id, clock), clock)
    assert provider.calls[-2:] == [("list_tagged",), ("get", made.id)]
    assert provider.calls.index(("terminate", made.id)) < len(provider.calls) - 1


def test_one_that_takes_its_time_is_waited_for(clock):
    provider = FakeProvider(clock, gone_after_s=100.0)
    made = provider.place(TAG)
    began = clock.monotonic()
    assert prove(provider, row(made.id, clock), clock)
    assert 100 <= clock.monotonic() - began < 110


def test_one_that_never_goes_is_the_loudest_error(clock):
    provider = FakeProvider(clock, gone_after_s=1e9, console_url="https://console.example/i")
    made = provider.place(TAG)
    began = clock.monotonic()
    error = refusal(provider, row(made.id, clock), clock)
    assert error.exit_code == 6
    assert made.id in error.message
    assert "may still bill" in error.message
    assert "https://console.example/i" in error.hint
    assert 180 <= clock.monotonic() - began < 200


def test_what_is_not_known_is_asked_to_end_and_believed_after_lists_have_settled(provider, clock):
    began = clock.monotonic()
    assert "does not know i-9" in prove(provider, row("i-9", clock), clock)
    assert ["i-9"] in provider.asked("terminate")
    assert clock.monotonic() - began >= provider.features.settle_s


def test_one_that_was_seen_and_is_older_than_lists_are_late_is_gone_at_once(provider, clock):
    seen = seen_row("i-9", clock)
    clock.advance(provider.features.settle_s)
    assert "says i-9 is gone" in prove(provider, seen, clock)
    assert provider.asked("terminate") == [["i-9"]]
    assert clock.slept == []


def test_one_that_was_seen_is_gone_no_sooner_than_lists_are_late_after_its_create(provider, clock):
    seen, began = seen_row("i-9", clock), clock.monotonic()
    clock.advance(1.0)
    prove(provider, seen, clock)
    assert clock.monotonic() - began == pytest.approx(provider.features.settle_s, abs=0.1)


@pytest.mark.parametrize("late", ["get", "list_tagged", "both"])
@pytest.mark.parametrize("at", [0.5, 3.0, 4.9])
def test_silence_within_the_settle_window_proves_nothing(clock, late, at):
    class Lagging(FakeProvider):
        def _lags(self, what):
            return late in (what, "both") and clock.monotonic() - began < at

        async def get(self, instance_id):
            return None if self._lags("get") else await super().get(instance_id)

        async def list_tagged(self):
            return [] if self._lags("list_tagged") else await super().list_tagged()

        async def terminate(self, instance_id):
            if late != "both" or not self._lags("both"):  # what is not known yet is not ended
                await super().terminate(instance_id)

    began = clock.monotonic()
    provider = Lagging(clock)
    made = provider.place(TAG)
    assert made.id in prove(provider, row(made.id, clock), clock)
    assert provider.instances == {}


@pytest.mark.parametrize("jump_s", [3600.0, -3600.0])
def test_a_wall_clock_that_jumps_neither_skips_the_settle_window_nor_makes_it_longer(
    provider, clock, jump_s
):
    seen = seen_row("i-9", clock)
    clock.jump(jump_s)
    began = clock.monotonic()
    prove(provider, seen, clock)
    assert clock.monotonic() - began == pytest.approx(provider.features.settle_s, abs=0.1)


def test_a_terminate_that_is_refused_is_asked_again_while_the_instance_is_there(provider, clock):
    made = provider.place(TAG)
    provider.faults["terminate"] = [IN_USE] * 4
    assert prove(provider, row(made.id, clock), clock)
    assert provider.instances == {}


def test_one_that_is_gone_when_its_end_is_refused_is_gone_after_lists_have_settled(provider, clock):
    seen = seen_row("i-9", clock)
    clock.advance(60.0)
    provider.faults["terminate"] = [Forever, IN_USE]
    began = clock.monotonic()
    assert prove(provider, seen, clock)
    assert clock.monotonic() - began >= provider.features.settle_s


def test_a_terminate_that_is_refused_for_good_says_why(provider, clock):
    made = provider.place(TAG)
    provider.faults["terminate"] = [Forever, IN_USE]
    assert IN_USE.message in refusal(provider, row(made.id, clock), clock).message


def test_no_instance_is_gone_without_an_answer_to_terminate(provider, clock):
    provider.faults["terminate"] = [Forever, SILENT]
    refusal(provider, seen_row("i-9", clock), clock)


def test_another_runs_instance_is_never_touched(provider, clock):
    other = provider.place(OTHERS_TAG)
    made = provider.place(TAG)
    prove(provider, row(made.id, clock), clock)
    prove(provider, row(None, clock), clock)
    assert list(provider.instances) == [other.id]
    assert provider.asked("terminate") == [[made.id]]


FAULTS = [SILENT, Late(SILENT), errors.ConnectionLost("cut")]


@pytest.mark.parametrize("method", ["get", "terminate"])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("times", [1, 5])
def test_an_api_that_fails_for_a_while_changes_nothing(provider, clock, method, fault, times):
    made = provider.place(TAG)
    provider.faults[method] = [fault] * times
    assert prove(provider, row(made.id, clock), clock)
    assert provider.instances == {}


def test_any_mix_of_passing_faults_still_ends_in_proof(clock):
    for faults in itertools.product([None, *FAULTS], repeat=3):
        provider = FakeProvider(clock, gone_after_s=0.2)
        made = provider.place(TAG)
        provider.faults = {"get": list(faults), "terminate": list(reversed(faults))}
        assert prove(provider, row(made.id, clock), clock)
        assert provider.instances == {}


@pytest.mark.parametrize("method", ["get", "terminate"])
def test_an_api_that_stays_silent_is_no_proof(provider, clock, method):
    made = provider.place(TAG)
    provider.faults[method] = [Forever, SILENT]
    error = refusal(provider, row(made.id, clock), clock)
    assert SILENT.message in error.message
    assert clock.slept


def test_a_refused_key_is_not_asked_again_for_three_minutes(provider, clock):
    made = provider.place(TAG)
    provider.faults["get"] = [Forever, REFUSED]
    error = refusal(provider, row(made.id, clock), clock)
    assert REFUSED.message in error.message
    assert sum(clock.slept) < 1.0


def test_a_key_that_is_refused_once_is_asked_again(provider, clock):
    made = provider.place(TAG)
    provider.faults["terminate"] = [REFUSED]
    assert prove(provider, row(made.id, clock), clock)


def test_pauses_grow_but_stay_short(clock):
    provider = FakeProvider(clock, gone_after_s=60.0)
    prove(provider, row(provider.place(TAG).id, clock), clock)
    assert clock.slept[0] <= 0.1
    assert clock.slept == sorted(clock.slept)
    assert max(clock.slept) <= 5.0


# -- a create whose answer was lost ---------------------------------------------------------------


def test_an_instance_without_a_known_id_is_found_by_its_tag(provider, clock):
    made = provider.place(TAG)
    assert made.id in prove(provider, row(None, clock), clock)
    assert provider.instances == {}


def test_all_instances_with_the_tag_are_ended(provider, clock):
    for _ in range(3):
        provider.place(TAG)
    prove(provider, row(None, clock), clock)
    assert provider.instances == {}


def test_nothing_listed_is_believed_only_after_the_list_has_settled(provider, clock):
    began = clock.now()
    proof = prove(provider, row(None, clock), clock)
    assert TAG in proof
    assert clock.now() - began == pytest.approx(provider.features.settle_s, abs=0.01)


def test_an_old_intent_has_settled_already(provider, clock):
    intent = row(None, clock)
    clock.advance(provider.features.settle_s)
    assert prove(provider, intent, clock)
    assert clock.slept == []


@pytest.mark.parametrize("at", [0.4, 2.0, 4.9])
def test_an_instance_that_appears_late_is_ended_all_the_same(clock, at):
    class Slow(FakeProvider):
        made = False

        async def list_tagged(self):
            if not self.made and clock.now() - began >= at:
                self.made = True
                self.place(TAG)
            return await super().list_tagged()

    began = clock.now()
    provider = Slow(clock, gone_after_s=0.3)
    assert prove(provider, row(None, clock), clock)
    assert provider.made
    assert provider.instances == {}


def test_a_list_that_cannot_be_read_is_no_proof(provider, clock):
    provider.faults["list_tagged"] = [Forever, SILENT]
    assert TAG in refusal(provider, row(None, clock), clock).message


def test_a_list_that_fails_once_is_read_again(provider, clock):
    provider.place(TAG)
    provider.faults["list_tagged"] = [SILENT, Late(SILENT)]
    assert prove(provider, row(None, clock), clock)
    assert provider.instances == {}
