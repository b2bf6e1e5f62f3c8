"""Vultr's driver, found as a package of its own, against the stand-in for its API."""

import asyncio
import sys
import uuid
from typing import ClassVar

import pytest
from clouds.vultr import KEY, PASSWORD, Vultr, install

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, rented
from towline import providers
from towline.core.instance import InstanceId, InstanceStatus
from towline.core.task import Resources
from towline.errors import (
    NoCapacity,
    PaymentNeeded,
    ProviderAuthError,
    ProviderError,
    ProviderReplyError,
    ProviderUnavailable,
    QuotaExceeded,
)


@pytest.fixture(autouse=True, scope="module")
def installed(tmp_path_factory):
    """Put the package where Python looks for packages, as pip would."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(install(tmp_path_factory.mktemp("site-packages"))))
        providers._foreign.cache_clear()
        yield
    sys.modules.pop("towline_vultr", None)
    providers._foreign.cache_clear()


class TestVultr(CloudSuite):
    """What every driver must do, and what is Vultr's own."""

    cloud_class = Vultr
    provider_name = "vultr"
    keys: ClassVar = {"api_key": KEY}
    need = Resources(gpu="H100:1")
    expect: ClassVar = {
        "host_key_grade": "A",
        "user_data": True,
        "tags": True,
        "powered_off_bills": True,
    }

    def break_machine(self, cloud, machine):
        machine.status = "suspended"

    @pytest.mark.parametrize(
        ("status", "words", "error"),
        [
            (
                400,
                "Server add failed: You have reached the maximum number of active",
                QuotaExceeded,
            ),
            (
                400,
                "Server add failed: You have reached the maximum monthly fee limit",
                QuotaExceeded,
            ),
            (400, "Server add failed: This plan is not available in this region", NoCapacity),
            (400, "Please add a payment method", PaymentNeeded),
            (400, "Invalid plan chosen.", ProviderError),
            (403, "Unauthorized IP address", ProviderAuthError),
            (400, "Unable to remove VM: Server is currently locked", ProviderUnavailable),
            (500, "The service is not available", ProviderUnavailable),
        ],
    )
    def test_what_a_refusal_says_decides(self, cloud, subject, status, words, error):
        def spoil(cloud):
            cloud.refusal = (status, words)

        self.check_refusal(cloud, subject, spoil, error)

    def test_only_whole_gpus_on_demand_are_offered_with_their_stock(self, cloud, subject):
        offers = asyncio.run(subject.fresh()._all_offers())
        assert {(o.type, o.region, o.gpus, o.vram_gb, o.available) for o in offers} == {
            ("vcg-a100-12c-120g-80vram", "ewr", 1, 80, True),
            ("vcg-a100-12c-120g-80vram", "ord", 1, 80, True),
            ("vcg-h100-12c-240g-80vram", "sea", 1, 80, True),
            ("vcg-h100-12c-240g-80vram", "ewr", 1, 80, False),
            ("vcg-h100-216c-1914gb-640vram", "sea", 8, 80, True),
        }

    def test_a_month_is_730_hours_where_the_price_of_an_hour_is_missing(self, cloud, subject):
        for plan in cloud.plans:
            del plan["hourly_cost"]
            plan["monthly_cost"] = 1460
        offers = asyncio.run(subject.fresh().offers(self.need))
        assert {offer.price_usd_per_h for offer in offers} == {2}

    def test_a_wrong_key_is_offered_nothing(self, cloud, subject, monkeypatch):
        monkeypatch.setattr("clouds.vultr.KEY", "another")
        with pytest.raises(ProviderAuthError):
            asyncio.run(subject.fresh().offers(self.need))

    @pytest.mark.parametrize(
        ("words", "status"),
        [
            (("running", "none"), InstanceStatus.ACTIVE),
            (("stopped", "locked"), InstanceStatus.BUILDING),
            (("Stopped", "OK"), InstanceStatus.DEAD),
        ],
    )
    def test_a_stopped_instance_is_dead_unless_it_installs(self, cloud, subject, words, status):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.words[made.id] = words
            found = await provider.get(made.id)
            assert (found.status, bool(found.detail)) == (status, status is InstanceStatus.DEAD)

        asyncio.run(scenario())

    def test_an_address_of_zeros_is_none(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.unassigned.add(made.id)
            assert (await provider.get(made.id)).address is None
            cloud.unassigned.clear()
            assert (await provider.get(made.id)).address is not None

        asyncio.run(scenario())

    @pytest.mark.parametrize("gone", [(404, "Invalid instance-id."), (400, "invalid instance ID")])
    def test_an_unknown_id_is_gone_in_old_and_new_words(self, cloud, subject, gone):
        async def scenario():
            provider, unknown = subject.fresh(), InstanceId(str(uuid.uuid4()))
            cloud.gone = gone
            assert await provider.get(unknown) is None
            await provider.terminate(unknown)

        asyncio.run(scenario())

    def test_two_calls_with_one_tag_leave_one_key(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.fail(self.create_call, "503")
            with pytest.raises(ProviderUnavailable):
                await rented(subject, provider, tag)
            await rented(subject, provider, tag)
            assert [key["name"] for key in cloud.keys].count(tag) == 1

        asyncio.run(scenario())

    def test_an_instance_is_found_on_a_later_page(self, cloud, subject):
        for name in ("web-1", "web-2", "web-3"):
            cloud.place_foreign(name)
        provider = subject.fresh()
        made = asyncio.run(rented(subject, provider))
        cloud.settle()
        assert [found.id for found in asyncio.run(provider.list_tagged())] == [made.id]
        assert cloud.asked("list_instances") >= 2

    def test_the_password_is_in_no_message(self, cloud, subject, caplog):
        caplog.set_level("DEBUG")

        def spoil(row):
            del row["id"]
            return row

        cloud.spoil = spoil
        with pytest.raises(ProviderReplyError) as caught:
            asyncio.run(rented(subject, subject.fresh()))
        assert PASSWORD not in f"{caught.getrepr(chain=True)}{vars(caught.value)}{caplog.text}"
