"""Promise 2 with several accounts: only the one that rented can say that an instance is gone."""

import asyncio
import dataclasses

import pytest

from tests.clock import FakeClock
from tests.doubles import REFUSED, SILENT, FakeProvider, Forever
from towline import errors
from towline.core.instance import Offer, run_id_from, tag_for
from towline.core.renter import Renter, fingerprint
from towline.ownership import renter_of, require_renter
from towline.store.journal import LedgerRow

RUN = run_id_from(b"abcdefgh")
TAG = tag_for(RUN)
KEY = "sk-live-0123456789abcdef"
OLD = Renter(provider="lambda", key=fingerprint("lambda", KEY), place={"base_url": "https://a/v1"})
NEW_KEY = dataclasses.replace(OLD, key=fingerprint("lambda", "another"))
ELSEWHERE = dataclasses.replace(OLD, place={"base_url": "https://a/v1", "region": "north"})


def row(renter, instance_id="i-1"):
    return LedgerRow(
        run_id=RUN,
        number=1,
        provider="lambda",
        tag=TAG,
        offer=Offer(provider="lambda", type="small"),
        intent_at=0.0,
        instance_id=instance_id,
        created_at=None,
        price_usd_per_h=1.0,
        gone_at=None,
        proof=None,
        renter=renter,
    )


@pytest.fixture
def provider():
    return FakeProvider(FakeClock())


def require(provider, ledger_row):
    return asyncio.run(require_renter(provider, ledger_row))


def refusal(provider, ledger_row):
    with pytest.raises(errors.OtherAccount) as caught:
        require(provider, ledger_row)
    assert caught.value.exit_code == 6
    assert caught.value.resumable
    return caught.value


def test_the_account_that_rented_passes_and_nothing_is_asked(provider):
    provider.account = OLD
    assert require(provider, row(OLD)) is None
    assert provider.calls == []


@pytest.mark.parametrize("renter", [None, OLD])
def test_a_row_of_an_older_towline_and_a_machine_that_nobody_rents_pass(provider, renter):
    provider.account = None if renter else OLD
    assert require(provider, row(renter)) is None


@pytest.mark.parametrize("instance_id", ["i-1", None])
@pytest.mark.parametrize("now", [NEW_KEY, ELSEWHERE])
def test_another_account_is_refused(provider, now, instance_id):
    provider.account = now
    error = refusal(provider, row(OLD, instance_id))
    assert (instance_id or TAG) in error.message
    assert provider.asked("terminate") == []


def test_both_keys_are_named_by_what_is_no_secret_with_the_way_to_set_them(provider):
    provider.account = NEW_KEY
    error = refusal(provider, row(OLD))
    assert f"key {OLD.key}" in error.message
    assert f"key {NEW_KEY.key}" in error.message
    assert "LAMBDA_API_KEY" in error.hint
    said = error.message + error.hint
    assert not any(KEY[at : at + 5] in said for at in range(len(KEY) - 4))


def test_both_regions_are_named_with_the_setting(provider):
    provider.account = ELSEWHERE
    error = refusal(provider, row(dataclasses.replace(OLD, place={"region": "south"})))
    assert "region south" in error.message
    assert "region north" in error.message
    assert "region: south" in error.hint


def test_a_setting_that_was_not_there_is_to_be_taken_out(provider):
    provider.account = ELSEWHERE
    assert "take region out" in refusal(provider, row(OLD)).hint


@pytest.mark.parametrize("now", [NEW_KEY, ELSEWHERE])
def test_who_is_shown_the_instance_with_our_tag_has_its_account(provider, now):
    provider.account = now
    made = provider.place(TAG)
    assert require(provider, row(OLD, made.id)) == now
    assert require(provider, row(OLD, None)) == now


def test_another_instance_of_that_id_proves_nothing(provider):
    provider.account = NEW_KEY
    made = provider.place(tag_for(run_id_from(b"stranger")))
    refusal(provider, row(OLD, made.id))
    refusal(provider, row(OLD, None))


def test_a_new_key_of_the_account_is_known_by_the_accounts_own_id(provider):
    provider.account, provider.number = NEW_KEY, "acct-7"
    before = OLD.known_as("acct-7")
    assert require(provider, row(before)) == NEW_KEY.known_as("acct-7")
    provider.number = "acct-8"
    error = refusal(provider, row(before))
    assert "account acct-7" in error.message
    assert "account acct-8" in error.message


def test_a_new_key_passes_when_the_user_says_whose_it_is(provider):
    provider.account = dataclasses.replace(NEW_KEY, earlier_keys=(OLD.key,))
    assert require(provider, row(OLD)) is None


def test_credentials_that_a_library_found_are_known_by_the_account_alone(provider):
    provider.account, provider.number = dataclasses.replace(OLD, key=""), "acct-7"
    before = provider.account
    refusal(provider, row(before))
    require(provider, row(before.known_as("acct-7")))


@pytest.mark.parametrize("fault", [SILENT, REFUSED])
def test_an_account_that_can_not_be_told_is_another(provider, fault):
    provider.account = NEW_KEY
    provider.faults["get"] = [Forever, fault]
    assert fault.message in refusal(provider, row(OLD)).message


def test_what_the_ledger_is_to_remember_needs_no_answer(provider):
    assert asyncio.run(renter_of(provider)) is None
    provider.account, provider.number = OLD, "acct-7"
    assert asyncio.run(renter_of(provider)) == OLD.known_as("acct-7")
    provider.faults["account_id"] = [SILENT]
    assert asyncio.run(renter_of(provider)) == OLD


def test_a_fingerprint_tells_keys_apart_and_holds_nothing_of_one():
    found = fingerprint("lambda", KEY)
    assert found == fingerprint("lambda", KEY)
    assert len({found, fingerprint("lambda", KEY + "x"), fingerprint("vast", KEY)}) == 3
    assert len(found) == 8
