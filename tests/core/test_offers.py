"""Which offer comes first, and which does not fit."""

from hypothesis import given
from hypothesis import strategies as st

from towline.core.instance import Offer
from towline.core.offers import Outlook, hour_usd, projected_usd, rank, sound

prices = st.floats(0, 100, allow_nan=False)


@given(st.lists(prices, max_size=12), st.none() | prices)
def test_offers_are_ranked_by_price_under_the_ceiling(found, ceiling):
    offers = [
        Offer(provider="p", type=str(n), price_usd_per_h=price) for n, price in enumerate(found)
    ]
    ranked = rank(offers, ceiling)
    assert ranked == sorted(ranked, key=lambda o: (o.price_usd_per_h, int(o.type)))
    fitting = [o for o in offers if ceiling is None or o.price_usd_per_h <= ceiling]
    assert {o.type for o in ranked} == {o.type for o in fitting}


def offer(price=1.0, storage=None, **more):
    return Offer(provider="p", type="t", price_usd_per_h=price, storage_usd_per_h=storage, **more)


def test_the_ceiling_counts_the_disk():
    assert rank([offer(2.45, 0.10)], 2.5) == []
    assert rank([offer(2.45, 0.05)], 2.5) == [offer(2.45, 0.05)]


def test_an_hour_costs_machine_and_disk_whatever_the_machines_price_reads_later():
    rented = offer(2.0, 0.25)
    assert (rented.hour_usd, hour_usd(rented, 3.0)) == (2.25, 3.25)
    for told in (0, 0.0, -1, None, "3", True, float("nan"), float("inf")):
        assert hour_usd(rented, told) == 2.25


@given(st.floats() | st.integers() | st.none() | st.text() | st.booleans(), st.booleans())
def test_what_is_sound_can_be_ranked_and_counted_with(price, free):
    found = sound([offer(price)], free=free)
    assert len(found) + found.left_out["no price"] == 1
    for one in rank(found, None):
        assert 0 <= projected_usd(one, Outlook()) < float("inf")
        assert free or one.price_usd_per_h > 0
