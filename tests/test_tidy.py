"""Promise 2 beside instances: keys, addresses and volumes are removed, or said to be there."""

import asyncio

import pytest

from tests.clock import FakeClock
from tests.doubles import REFUSED, SILENT, FakeProvider, Forever
from towline import errors
from towline.core.instance import Leftover, run_id_from, tag_for
from towline.ending import tidy

TAG = tag_for(run_id_from(b"abcdefgh"))
IN_USE = errors.ProviderError("the group is in use")


def a_provider(**features):
    return FakeProvider(FakeClock(), **features)


def place(provider, *kinds):
    for kind in kinds:
        thing = Leftover(provider="fake", kind=kind, id=f"{kind}-1", tag=TAG)
        provider.things[thing.id] = thing


def tidied(provider):
    return asyncio.run(tidy(provider, TAG, None, provider._clock))


def test_what_is_there_is_removed():
    provider = a_provider()
    place(provider, "key", "address")
    done = tidied(provider)
    assert {one.id for one in done.removed} == {"key-1", "address-1"}
    assert (done.left, done.trouble, done.bills) == ([], None, False)


@pytest.mark.parametrize("fault", [IN_USE, SILENT, REFUSED])
def test_one_that_can_not_be_removed_holds_up_no_other(fault):
    class Stuck(FakeProvider):
        async def remove(self, leftover):
            if leftover.kind == "key":
                raise fault
            await super().remove(leftover)

    provider = Stuck(FakeClock())
    place(provider, "key", "address", "volume")
    done = tidied(provider)
    assert {one.id for one in done.removed} == {"address-1", "volume-1"}
    assert [one.id for one in done.left] == ["key-1"]
    assert fault.message in done.trouble
    assert not done.bills


def test_one_that_is_in_use_for_a_while_is_removed_when_it_is_not():
    provider = a_provider()
    place(provider, "key", "group")
    provider.faults["remove"] = [IN_USE] * 6
    done = tidied(provider)
    assert provider.things == {}
    assert done.trouble is None


@pytest.mark.parametrize("kind", ["address", "volume"])
def test_an_address_or_a_volume_that_stays_bills(kind):
    provider = a_provider()
    place(provider, kind)
    provider.faults["remove"] = [Forever, IN_USE]
    assert tidied(provider).bills


@pytest.mark.parametrize(
    ("kinds", "bills"),
    [(None, True), ((), False), (("key",), False), (("key", "address"), True), (("volume",), True)],
)
@pytest.mark.parametrize("fault", [SILENT, REFUSED, errors.ProviderReplyError("no list: null")])
def test_what_can_not_be_listed_may_bill_where_such_things_are_kept(kinds, bills, fault):
    provider = a_provider(leftovers=kinds)
    provider.faults["leftovers"] = [Forever, fault]
    done = tidied(provider)
    assert done.trouble == fault.message
    assert done.bills == bills


def test_a_list_that_fails_after_a_removal_proves_none():
    provider = a_provider(leftovers=("address",))
    place(provider, "address")
    provider.faults["leftovers"] = [None, *[SILENT] * 30]
    done = tidied(provider)
    assert done.removed == []
    assert done.bills


def test_a_list_that_fails_for_a_while_is_read_again():
    provider = a_provider()
    place(provider, "address")
    provider.faults["leftovers"] = [SILENT, REFUSED]
    assert tidied(provider).trouble is None
    assert provider.things == {}
