"""Which offer comes first, and which does not fit."""

from hypothesis import given
from hypothesis import strategies as st

from towline.core.instance import Offer
from towline.core.offers import rank

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
