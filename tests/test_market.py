"""All accounts at once: no price is no offer, and no account breaks another."""

import asyncio
import json

import pytest
from clock import FakeClock
from doubles import FakeProvider
from hypothesis import given
from hypothesis import strategies as st

from towline import errors, market
from towline.core.instance import Offer
from towline.core.task import Resources
from towline.providers import runpod, vast
from towline.providers.account import Account


class Lists(FakeProvider):
    """An account that answers so."""

    def __init__(self, answer, **features):
        super().__init__(FakeClock(), **features)
        self.answer = answer

    async def offers(self, need):
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


def asked(**providers):
    return asyncio.run(market.ask(list(providers), providers.__getitem__, Resources()))


def priced(*prices, **more):
    return [
        Offer(provider="p", type=str(n), price_usd_per_h=one, **more)
        for n, one in enumerate(prices)
    ]


def test_a_price_that_is_no_positive_number_is_no_offer():
    odd = priced(0, 0.0, -1, "2.49", None, True, float("nan"), float("inf"), 10**400, [], 2.49)
    found = asked(odd=Lists(odd), good=Lists(priced(3.0)))
    assert [one.price_usd_per_h for one in found.offers] == [2.49, 3.0]
    assert list(found.notes()) == ["odd: 10 offers left out: no price"]


def test_what_may_be_free_is_offered_at_nothing_and_still_not_below():
    found = asked(free=Lists(priced(0.0, -1, None, 1.0), free=True))
    assert [one.price_usd_per_h for one in found.offers] == [0.0, 1.0]


def test_a_disk_without_a_price_and_half_a_gpu_are_none_either():
    found = asked(
        a=Lists(priced(1.0, storage_usd_per_h=float("nan"))),
        b=Lists(priced(1.0, gpu="H100", gpus=0.5)),
    )
    assert found.offers == []
    assert found.left_out == {"a": {"no price of the disk": 1}, "b": {"no whole number of GPUs": 1}}


def test_an_account_whose_driver_breaks_breaks_no_other_and_is_named():
    found = asked(broken=Lists(TypeError("'NoneType' and 'int'")), good=Lists(priced(1.0)))
    assert len(found.offers) == 1
    failure = found.failures["broken"]
    assert (failure.kind, failure.exit_code) == ("DriverBug", 1)
    assert "a bug in broken's driver: TypeError" in failure.message
    assert isinstance(failure.__cause__, TypeError)


def test_an_account_that_gives_no_offers_but_something_else_is_a_bug_too():
    found = asked(odd=Lists([{"price": 1}]), none=Lists(None), good=Lists(priced(1.0)))
    assert len(found.offers) == 1
    assert {one.kind for one in found.failures.values()} == {"DriverBug"}


def test_what_can_not_even_be_made_has_failed_alone():
    def provider_of(name):
        if name == "broken":
            raise KeyError(name)
        return Lists(priced(1.0))

    found = asyncio.run(market.ask(["broken", "good"], provider_of, Resources()))
    assert (len(found.offers), list(found.failures)) == (1, ["broken"])


def test_a_refusal_stays_what_it_is():
    found = asked(shut=Lists(errors.ProviderAuthError("refused")), good=Lists(priced(1.0)))
    assert found.gaps() == {
        "left_out": [],
        "unreachable": [
            {"provider": "shut", "kind": "ProviderAuthError", "error": "refused",
             "hint": found.failures["shut"].hint},
        ],
    }  # fmt: skip


# -- whatever a vendor writes into a row ----------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from([0, -1, 0.5, 10**400, "2.49", "$2.49", "0.5x H100", "NaN"]),
    lambda some: st.lists(some, max_size=2) | st.dictionaries(st.text(max_size=4), some, max_size=2),
    max_leaves=4,
)  # fmt: skip
VAST = {
    "id": 7001, "gpu_name": "H100 SXM", "num_gpus": 1, "gpu_ram": 81559, "dph_total": 2.0,
    "min_bid": 1.0, "geolocation": "Texas, US", "inet_up": 800.5, "inet_down": 900.0,
    "inet_up_cost": 0.02, "inet_down_cost": 0.01,
}  # fmt: skip
RUNPOD = {
    "id": "NVIDIA H100 80GB HBM3", "memory": 80, "secure": True, "availability": "HIGH",
    "price": {"secure": 2.7}, "maxCount": {"secure": 8}, "manufacturer": "NVIDIA",
    "dataCenters": [{"id": "US-TX-3", "availability": "HIGH"}],
}  # fmt: skip


class Says:
    """An API that answers so, as JSON would bring it."""

    def __init__(self, answer):
        self.answer = json.loads(json.dumps(answer))

    async def get(self, _path, _params=None):
        return self.answer


def driver(kind, key, rows, **settings):
    settings |= {"pace": 0} if kind is vast.Vast else {}
    made = kind(
        Account(name=kind.name, settings=settings, keys={"api_key": "k"}, clock=FakeClock())
    )
    made._api = Says({key: rows})
    return made


def changed(row):
    """A row with some of its fields of another kind, or a row that is none."""
    fields = st.dictionaries(st.sampled_from(sorted(row)), JSON, min_size=1, max_size=3)
    return fields.map(lambda some: row | some) | JSON


@given(changed(VAST), changed(RUNPOD))
def test_no_row_breaks_an_account_or_is_offered_for_nothing(odd, other):
    found = asked(
        vast=driver(vast.Vast, "offers", [odd, VAST]),
        runpod=driver(runpod.RunPod, "gpus", [other, RUNPOD]),
    )
    assert found.failures == {}
    assert all(one.price_usd_per_h > 0 for one in found.offers)
    for name, good in (("vast", VAST), ("runpod", RUNPOD)):
        assert any(one.provider == name for one in found.offers), good


def test_credits_are_opted_in_to():
    row = VAST | {"dph_total": 0.0}
    assert asked(vast=driver(vast.Vast, "offers", [row])).offers == []
    free = driver(vast.Vast, "offers", [row, VAST | {"dph_total": -1}], accept_free=True)
    found = asked(vast=free)
    assert [one.price_usd_per_h for one in found.offers] == [0.0]
    assert found.left_out == {"vast": {"no price": 1}}


def test_a_disk_that_is_billed_beside_the_gpu_is_in_the_hour():
    (offer,) = asked(runpod=driver(runpod.RunPod, "gpus", [RUNPOD])).offers
    assert offer.storage_usd_per_h == pytest.approx(50 * 0.10 / 720)
    assert offer.hour_usd == pytest.approx(2.7 + 50 * 0.10 / 720)


def test_the_row_that_ended_plan_for_all_accounts_is_counted():
    found = asked(vast=driver(vast.Vast, "offers", [VAST | {"dph_total": None}, VAST]))
    assert len(found.offers) == 1
    assert found.left_out == {"vast": {"no price": 1}}
