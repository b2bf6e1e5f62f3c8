"""Promise 2: what carries our tag is ours, and nothing else is taken for it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from towline.core.instance import (
    Address,
    Instance,
    InstanceId,
    InstanceStatus,
    Offer,
    is_run_id,
    parse_tag,
    run_id_from,
    tag_for,
)

run_ids = st.binary(min_size=8, max_size=64).map(run_id_from)
LETTERS = "abcdefghijkmnpqrstuvwxyz23456789"


@given(run_ids)
def test_a_run_id_is_ten_letters_nobody_misreads(run_id):
    assert len(run_id) == 10
    assert set(run_id) <= set(LETTERS)
    assert not set("01lo") & set(run_id)
    assert is_run_id(run_id)


@given(run_ids)
def test_a_tag_leads_back_to_its_run(run_id):
    assert parse_tag(tag_for(run_id)) == run_id


def test_every_single_changed_letter_is_noticed_nearly_always():
    tried = passed = 0
    for seed in range(40):
        run_id = run_id_from(bytes((seed * 7 + n * 31) % 256 for n in range(8)))
        for at in range(len(run_id)):
            for letter in set(LETTERS) - {run_id[at]}:
                tried += 1
                passed += is_run_id(run_id[:at] + letter + run_id[at + 1 :])
    assert passed / tried < 0.005  # two check letters of 32: one in 1024 is expected


@given(run_ids, st.integers(0, 8))
def test_two_letters_swapped_are_not_taken_for_the_run_meant(run_id, at):
    swapped = run_id[:at] + run_id[at + 1] + run_id[at] + run_id[at + 2 :]
    assert swapped == run_id or not is_run_id(swapped) or parse_tag(tag_for(swapped)) != run_id


@pytest.mark.parametrize("shape", ["{}", "Towline-{}", "towline_{}", "towline-{}x", " towline-{}"])
@pytest.mark.parametrize("seed", [b"abcdefgh", b"\0" * 8])
def test_look_alike_tags_are_refused(shape, seed):
    assert parse_tag(shape.format(run_id_from(seed))) is None


@pytest.mark.parametrize(
    "tag",
    ["", "towline-", "towline", "towline-web", "towline-production", "towline-aaaaaaaaaa"]
    + ["towline-" + "a" * 9, "towline-towline-", "towline-ABCDEFGHJK", "towline-\u0430bcdefgh23"],
)
def test_names_people_give_are_not_ours(tag):
    assert parse_tag(tag) is None


@settings(max_examples=300)
@given(st.text(max_size=30))
def test_any_text_is_judged_without_an_error(text):
    assert not is_run_id(text) or text == run_id_from(bytes(LETTERS.index(c) for c in text[:8]))
    assert parse_tag(text) is None or text.startswith("towline-")


@given(run_ids)
def test_case_and_padding_make_a_stranger(run_id):
    assert not is_run_id(run_id.upper()) or run_id.upper() == run_id
    assert not is_run_id(run_id + " ")
    assert not is_run_id(run_id[:-1])


def test_an_offer_says_its_price_or_that_it_is_free():
    assert (
        str(Offer(provider="lambda", type="h100", price_usd_per_h=2.5)) == "lambda h100 ($2.50/h)"
    )
    assert str(Offer(provider="local", type="process")) == "local process (free)"


def test_an_address_is_shown_without_its_keys():
    address = Address(host="10.0.0.1", port=2222, user="ubuntu", host_key="ssh-ed25519 AAAA")
    assert str(address) == "ubuntu@10.0.0.1:2222"


def test_an_instance_is_a_plain_fact():
    instance = Instance(id=InstanceId("i-1"), provider="p", tag="t", status=InstanceStatus.BUILDING)
    assert instance.address is None
    with pytest.raises(AttributeError):
        instance.status = InstanceStatus.ACTIVE
