"""Driver `hyperstack` keeps the clouds' contract, against a stand-in built from the vendor's document."""

import asyncio
import time

import pytest
from clouds import hyperstack as fake

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, gone, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus, Leftover
from towline.core.task import Resources
from towline.providers import make
from towline.ssh.client import SshDialer


class TestHyperstack(CloudSuite):
    cloud_class = fake.Hyperstack
    provider_name = "hyperstack"
    page_size = "page_limit"
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A",
        "user_data": True,
        "tags": True,
        "powered_off_bills": True,
        "spot": False,
    }

    def break_machine(self, cloud, machine):
        machine.status = "ERROR"

    # -- offers ---------------------------------------------------------------------------------

    def offers(self, subject, gpu, **more):
        return asyncio.run(subject.fresh().offers(Resources(gpu=gpu, **more)))

    def test_a_price_is_that_of_one_gpu_times_their_number(self, subject):
        (offer,) = self.offers(subject, "H100:2")
        assert offer.price_usd_per_h == pytest.approx(3.80)
        (offer,) = self.offers(subject, "A100-80GB:4")
        assert offer.price_usd_per_h == pytest.approx(5.40)

    def test_flavors_without_gpu_or_price_and_spot_are_left_out(self, subject):
        offers = self.offers(subject, None, spot=True)
        assert {offer.type for offer in offers} == {"n3-H100x1", "n3-H100x2", "n3-A100x4"}
        assert not any(offer.spot for offer in offers)

    def test_stock_is_that_of_the_configuration(self, cloud, subject):
        cloud.stock["CANADA-1", "H100-80G-PCIe"] = {"1x": 2, "2x": 0}
        offers = {
            (offer.type, offer.region): offer.available for offer in self.offers(subject, None)
        }
        assert offers["n3-H100x1", "CANADA-1"] is True
        assert offers["n3-H100x2", "CANADA-1"] is False
        assert offers["n3-H100x1", "NORWAY-1"] is True

    def test_the_setting_region_narrows_what_is_offered(self, cloud):
        offers = self.offers(self.subject_of(cloud, region="NORWAY-1"), None)
        assert {offer.region for offer in offers} == {"NORWAY-1"}

    # -- environments ---------------------------------------------------------------------------

    def test_a_region_without_an_environment_is_not_offered(self, cloud, subject):
        del cloud.environments[2]
        assert {offer.region for offer in self.offers(subject, "H100")} == {"CANADA-1"}

    def test_an_offer_that_no_environment_can_take_is_an_error_that_says_so(self, cloud, subject):
        del cloud.environments[2]
        with pytest.raises(errors.SpecError, match="no environment in NORWAY-1") as raised:
            self.offers(subject, "H100", region="NORWAY-1")
        assert "console" in raised.value.hint

    def test_the_oldest_environment_of_the_region_is_used(self, cloud, subject):
        cloud.environments = {7: ("young", "CANADA-1"), **cloud.environments}
        asyncio.run(rented(subject, subject.fresh()))
        (machine,) = cloud.ours()
        assert machine.data["environment"] == "default-CANADA-1"

    def test_the_setting_environment_decides(self, cloud):
        cloud.environments[7] = ("mine", "CANADA-1")
        subject = self.subject_of(cloud, environment="mine")
        assert {offer.region for offer in self.offers(subject, "H100")} == {"CANADA-1"}
        asyncio.run(rented(subject, subject.fresh()))
        (machine,) = cloud.ours()
        assert machine.data["environment"] == "mine"

    def test_a_setting_environment_that_is_not_there_is_named(self, cloud):
        with pytest.raises(errors.SpecError, match="environment 'lost' is not in") as raised:
            self.offers(self.subject_of(cloud, environment="lost"), "H100")
        assert "providers.hyperstack.environment" in raised.value.hint

    def test_check_tells_of_a_missing_environment_and_of_no_credit(self, cloud, subject):
        cloud.environments.clear()
        cloud.spent = True
        wrong = {one.name for one in asyncio.run(subject.fresh().check()) if one.fix}
        assert wrong == {"environment", "credit"}

    # -- create ---------------------------------------------------------------------------------

    def test_the_image_is_the_newest_ubuntu_with_cuda_that_the_flavor_may_have(self, subject):
        async def scenario(gpu):
            provider = subject.fresh()
            offer = (await provider.offers(Resources(gpu=gpu)))[0]
            return await provider._image(offer)

        assert asyncio.run(scenario("H100:1")) == "Ubuntu Server 24.04 LTS R570 CUDA 12.8"
        assert asyncio.run(scenario("A100:4")) == fake.HARD

    def test_the_setting_image_is_taken_as_it_is(self, cloud):
        subject = self.subject_of(cloud, image="Windows Server 2022")
        asyncio.run(rented(subject, subject.fresh()))
        assert cloud.asked("list_images") == 0

    def test_no_image_is_an_error_that_names_the_setting(self, subject, monkeypatch):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            monkeypatch.setattr(fake, "IMAGES", ("Windows Server 2022",))
            with pytest.raises(errors.ProviderError, match="no Ubuntu with CUDA") as raised:
                await provider.create(offer, subject.order(fresh_tag()))
            assert "providers.hyperstack.image" in raised.value.hint

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (
                lambda cloud: cloud.stock.update({("CANADA-1", "H100-80G-PCIe"): {"1x": 0}}),
                errors.NoCapacity,
            ),
            (lambda cloud: setattr(cloud, "quota", 0), errors.QuotaExceeded),
            (lambda cloud: setattr(cloud, "spent", True), errors.PaymentNeeded),
        ],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)

    def test_a_second_machine_of_one_tag_is_an_unknown_outcome_and_not_made(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            await rented(subject, provider, tag)
            with pytest.raises(errors.ProviderUnavailable):
                await rented(subject, provider, tag)
            assert len(cloud.alive()) == 1

        asyncio.run(scenario())

    def test_a_try_in_another_region_takes_the_key_along(self, cloud, subject):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            offers = {offer.region: offer for offer in await provider.offers(self.need)}
            cloud.stock["CANADA-1", "H100-80G-PCIe"] = {"1x": 0}
            with pytest.raises(errors.NoCapacity):
                await provider.create(offers["CANADA-1"], order)
            await provider.create(offers["NORWAY-1"], order)
            assert [key["environment"]["name"] for key in cloud.keys.values()] == ["nordic"]

        asyncio.run(scenario())

    # -- what it says ---------------------------------------------------------------------------

    def test_a_machine_that_was_switched_off_is_dead_and_goes_on_billing(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            for word in ("SHUTOFF", "STOPPING", "HIBERNATING", "HIBERNATED"):
                cloud.machines[made.id].status = word
                assert (await provider.get(made.id)).status is InstanceStatus.DEAD
            assert len(cloud.alive()) == 1
            await gone(provider, made.id)

        asyncio.run(scenario())

    def test_a_deleted_machine_that_is_still_listed_is_gone(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].status = "DELETED"
            assert await provider.get(made.id) is None
            assert await provider.list_tagged() == []

        asyncio.run(scenario())

    def test_a_machine_being_deleted_may_still_bill(self, cloud, subject):
        self.check_being_deleted(cloud, subject)

    def test_ports_are_asked_to_stay_as_they_are(self, cloud, subject):
        asyncio.run(rented(subject, subject.fresh()))
        assert [one.data["randomized"] for one in cloud.ours()] == [False]

    def test_a_machine_that_was_renamed_is_ours_by_its_label(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].name = "renamed in the console"
            assert [one.tag for one in await provider.list_tagged()] == [made.tag]

        asyncio.run(scenario())

    def test_the_start_is_read_as_utc(self, subject):
        made = asyncio.run(rented(subject, subject.fresh()))
        assert abs(made.started_at - time.time()) < 60

    def test_ssh_at_a_hidden_port_is_an_error_and_no_wrong_address(self, cloud):
        cloud.randomizes_anyway = True
        settings = {"base_url": cloud.base_url, "ssh_user": cloud.user}

        async def scenario():
            provider = make(
                "hyperstack", home=cloud.folder, keys=self.keys, dialer=SshDialer(),
                clock=RealClock(), settings=settings,
            )  # fmt: skip
            offer = (await provider.offers(self.need))[0]
            order = self.subject_of(cloud).order(fresh_tag())
            made = await provider.get((await provider.create(offer, order)).id)
            assert (made.status, made.address) == (InstanceStatus.ACTIVE, None)
            with pytest.raises(errors.ProviderError, match="port") as raised:
                await provider.attach_address(made, None)
            assert "ssh_port" in raised.value.hint

        asyncio.run(scenario())

    # -- lists ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("counts_page", [False, True])
    @pytest.mark.parametrize("empty_past_end", [False, True])
    def test_lists_are_read_to_their_end(self, cloud, subject, counts_page, empty_past_end):
        cloud.counts_page, cloud.empty_past_end = counts_page, empty_past_end

        async def scenario():
            provider = subject.fresh()
            made = [await rented(subject, provider) for _ in range(3)]
            for number in range(4):
                cloud.place_foreign(f"web-{number}")
            cloud.page_limit = 2
            listed = await provider.list_tagged()
            assert {one.id for one in listed} == {one.id for one in made}
            tags = {one.tag for one in await provider.leftovers({})}
            assert tags == {one.tag for one in made}

        asyncio.run(scenario())

    def test_a_list_with_a_row_missing_is_no_list(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            await rented(subject, provider)
            cloud.fail("list_instances", "partial")
            with pytest.raises(errors.ProviderReplyError, match="0 of 1"):
                await provider.list_tagged()

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "name",
        ["web", "towline-abcdefghzz", "", pytest.param(f"x{fresh_tag()}", id="x-before-a-tag")],
    )
    def test_keys_of_others_are_no_leftovers(self, cloud, subject, name):
        cloud.keys["5"] = {"name": name, "environment": {"name": "nordic"}, "public_key": ""}
        assert asyncio.run(subject.fresh().leftovers({})) == []

    def test_a_leftover_whose_id_is_no_id_is_gone(self, cloud, subject):
        wrong = Leftover(provider="hyperstack", kind="key", id="../environments", tag="")
        asyncio.run(subject.fresh().remove(wrong))
        assert cloud.asked("delete_key") == 0
