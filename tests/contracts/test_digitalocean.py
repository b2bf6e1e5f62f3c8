"""Driver `digitalocean` keeps the clouds' contract, against a stand-in built from its OpenAPI."""

import asyncio

import pytest
from clouds import digitalocean as fake

from tests.contracts.cloud_suite import KEYS, CloudSuite
from tests.contracts.provider_suite import fresh_tag, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus
from towline.core.task import Resources
from towline.providers.account import Account
from towline.providers.digitalocean import DigitalOcean


class TestDigitalOcean(CloudSuite):
    cloud_class = fake.DigitalOcean
    provider_name = "digitalocean"
    page_size = "largest_page"
    own_things = 1  # the account's tag
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "tags": True, "containers": False,
        "powered_off_bills": True, "spot": False,
    }  # fmt: skip

    def break_machine(self, cloud, machine):
        machine.status = "off"

    # -- offers ---------------------------------------------------------------------------------

    def test_each_region_of_a_size_is_an_offer(self, subject):
        offers = asyncio.run(subject.fresh().offers(self.need))
        assert [(one.type, one.region, one.available) for one in offers] == [
            ("gpu-h100x1-80gb", "nyc2", True),
            ("gpu-h100x1-80gb", "tor1", True),
        ]

    def test_memory_is_that_of_one_gpu(self, subject):
        (offer,) = asyncio.run(subject.fresh().offers(Resources(gpu="H100-80GB:8")))
        assert (offer.gpus, offer.vram_gb, offer.price_usd_per_h) == (8, 80, 23.92)

    @pytest.mark.parametrize(
        ("wanted", "image"),
        [
            ("H100:1", "gpu-h100x1-base"),
            ("H100:8", "gpu-h100x8-base"),
            ("MI300X", "gpu-amd-base"),
            ("RTX6000ADA", "gpu-h100x1-base"),
            (None, "ubuntu-24-04-x64"),
        ],
    )
    def test_the_image_has_the_drivers_of_the_gpu(self, subject, wanted, image):
        offers = asyncio.run(subject.fresh().offers(Resources(gpu=wanted)))
        assert offers[0].payload["image"] == image

    def test_a_size_that_no_region_has_is_out_of_stock(self, subject):
        (offer,) = asyncio.run(subject.fresh().offers(Resources(gpu="L40S")))
        assert (offer.region, offer.available) == (None, False)

    def test_sizes_that_may_be_taken_away_are_offered_only_to_who_wants_them(self, subject):
        offers = asyncio.run(subject.fresh().offers(Resources(gpu="H100:1", spot=True)))
        assert [one.spot for one in offers] == [False, False, True]

    def test_a_region_of_the_settings_narrows_the_offers(self, cloud):
        offers = asyncio.run(self.subject_of(cloud, region="TOR1").fresh().offers(self.need))
        assert [one.region for one in offers] == ["tor1"]

    # -- create ---------------------------------------------------------------------------------

    def test_a_droplet_carries_the_tag_twice(self, cloud, subject):
        made = asyncio.run(rented(subject, subject.fresh()))
        (machine,) = cloud.ours()
        assert (machine.name, machine.data["tags"]) == (made.tag, ["towline", made.tag])

    def test_settings_name_image_and_network(self, cloud):
        subject = self.subject_of(cloud, image="mine", vpc_uuid="760e09ef")
        asyncio.run(rented(subject, subject.fresh()))
        (machine,) = cloud.ours()
        assert (machine.data["image"], machine.data["vpc_uuid"]) == ("mine", "760e09ef")

    def test_the_login_is_root_at_the_public_address(self, cloud):
        account = Account(
            name="digitalocean", settings={"base_url": cloud.base_url}, keys=self.keys,
            clock=RealClock(),
        )  # fmt: skip

        async def scenario():
            provider = DigitalOcean(account)
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, self.subject_of(cloud).order(fresh_tag()))
            found = await provider.get(made.id)
            assert str(found.address) == f"root@{cloud.machines[made.id].host}:22"

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("said", "error"),
        [
            ("Size is not available in this region.", errors.NoCapacity),
            ("Region is not available", errors.NoCapacity),
            ("size is unavailable", errors.NoCapacity),
            ("creating this/these droplet(s) will exceed your droplet limit", errors.QuotaExceeded),
            (
                "This size is currently restricted please send an additional payment to unlock.",
                errors.PaymentNeeded,
            ),
            ("Name Only valid hostname characters are allowed.", errors.ProviderError),
        ],
    )
    def test_a_refusal_means_what_its_sentence_says(self, cloud, subject, said, error):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            cloud.said = said
            with pytest.raises(errors.ProviderError, match=said[:20]) as caught:
                await provider.create(offer, subject.order(fresh_tag()))
            assert type(caught.value) is error
            assert await provider.list_tagged() == []

        asyncio.run(scenario())

    def test_the_droplet_limit_is_the_accounts(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            cloud.limit = 0
            offer = (await provider.offers(self.need))[0]
            with pytest.raises(errors.QuotaExceeded):
                await provider.create(offer, subject.order(fresh_tag()))

        asyncio.run(scenario())

    def test_a_key_whose_answer_was_lost_is_used(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.fail("add_key", "reset_after")
            with pytest.raises(errors.ProviderUnavailable):
                await rented(subject, provider, tag)
            await rented(subject, provider, tag)
            assert cloud.asked("add_key") == 1
            assert len(cloud.keys) == 1

        asyncio.run(scenario())

    def test_a_public_key_that_the_account_has_is_used_whatever_its_name(self, cloud, subject):
        cloud.keys["99"] = {"name": "laptop", "public_key": " ".join(KEYS[1].split()[:2]) + " me"}
        asyncio.run(rented(subject, subject.fresh()))
        assert list(cloud.keys) == ["99"]

    def test_a_creation_that_fails_after_it_was_accepted_is_dead(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            cloud.machines[made.id].status = "failed"
            found = await provider.get(made.id)
            assert (found.status, found.detail) == (
                InstanceStatus.DEAD,
                "digitalocean says a failed creation",
            )

        asyncio.run(scenario())

    def test_an_address_without_a_number_is_none_yet(self, cloud, subject):
        def distort(name, answer):
            if name != "get_instance":
                return answer
            droplet = answer[1]["droplet"]
            v4 = [{"type": "private", "ip_address": "10.0.0.2"}, {"type": "public"}]
            return answer[0], {"droplet": {**droplet, "networks": {"v4": v4}}}, answer[2]

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.distort = distort
            assert (await provider.get(made.id)).address is None

        asyncio.run(scenario())

    def test_actions_that_are_not_there_say_nothing_of_the_droplet(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            cloud.boot_s = 60
            made = await provider.create(offer, subject.order(fresh_tag()))
            cloud.fail("droplet_actions", "404")
            cloud.failure = lambda _status: {"id": "not_found", "message": "not found"}
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING

        asyncio.run(scenario())

    def test_a_droplet_that_is_still_made_is_building(self, subject):
        with fake.DigitalOcean(boot_s=60, boxes=False) as cloud:

            async def scenario():
                subject = self.subject_of(cloud)
                provider = subject.fresh()
                offer = (await provider.offers(self.need))[0]
                made = await provider.create(offer, subject.order(fresh_tag()))
                found = await provider.get(made.id)
                assert (found.status, found.address) == (InstanceStatus.BUILDING, None)

            asyncio.run(scenario())

    # -- what is there, and what is gone --------------------------------------------------------

    def test_droplets_without_gpus_are_listed_too(self, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(Resources()))[0]
            assert offer.gpus == 0
            made = await provider.create(offer, subject.order(fresh_tag()))
            assert [one.id for one in await provider.list_tagged()] == [made.id]

        asyncio.run(scenario())

    def test_every_page_is_read(self, cloud, subject):
        async def scenario():
            tags = sorted(fresh_tag() for _ in range(5))
            for tag in tags:
                cloud.place_foreign(tag)
                cloud.tags.add(tag)
            cloud.largest_page = 2
            provider = subject.fresh()
            assert sorted(one.tag for one in await provider.list_tagged()) == tags
            left = await provider.leftovers(subject.memos)
            assert sorted(one.tag for one in left) == tags
            assert len(await provider.offers(self.need)) == 2

        asyncio.run(scenario())

    def test_a_list_without_an_end_is_an_error(self, cloud, subject, monkeypatch):
        answer = {"droplets": [], "links": {"pages": {"next": "again"}}}
        monkeypatch.setattr(cloud, "list_instances", lambda _request: answer)
        with pytest.raises(errors.ProviderReplyError):
            asyncio.run(subject.fresh().list_tagged())

    def test_a_droplet_whose_tag_was_removed_is_known_by_its_name(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            for one in await provider.leftovers(subject.memos):
                await provider.remove(one)
            assert cloud.machines[made.id].data["tags"] == ["towline"]
            assert [one.tag for one in await provider.list_tagged()] == [made.tag]

        asyncio.run(scenario())

    def test_keys_and_tags_of_others_are_no_leftovers(self, cloud, subject):
        cloud.keys["99"] = {"name": "laptop", "public_key": "ssh-ed25519 AAAA me"}
        cloud.tags |= {"towline", "towline-abcdefghzz"}
        assert asyncio.run(subject.fresh().leftovers(subject.memos)) == []

    def test_a_404_of_something_else_says_nothing_of_an_instance(self, cloud, subject, monkeypatch):
        def lost(*_arguments, **_more):
            raise fake.Refuse(404, "<html>no such page</html>")

        async def scenario():
            made = await rented(subject, subject.fresh())
            monkeypatch.setattr(cloud, "get_instance", lost)
            with pytest.raises(errors.ProviderError) as caught:
                await subject.fresh().get(made.id)
            assert type(caught.value) is errors.ProviderError

        asyncio.run(scenario())

    def test_ending_what_is_still_made_is_tried_again(self, cloud, subject, monkeypatch):
        def busy(*_arguments, **_more):
            said = "Droplet already has a pending event."
            raise fake.Refuse(422, {"id": "unprocessable_entity", "message": said})

        async def scenario():
            made = await rented(subject, subject.fresh())
            monkeypatch.setattr(cloud, "terminate", busy)
            with pytest.raises(errors.ProviderUnavailable) as caught:
                await subject.fresh().terminate(made.id)
            assert caught.value.retryable

        asyncio.run(scenario())

    # -- check ----------------------------------------------------------------------------------

    def test_check_says_whether_the_account_may_create(self, cloud, subject):
        found = {one.name: one for one in asyncio.run(subject.fresh().check())}
        assert (found["account"].message, found["account"].fix) == (
            "active, at most 25 droplets",
            None,
        )
        cloud.account_status = "locked"
        found = {one.name: one for one in asyncio.run(subject.fresh().check())}
        assert found["account"].fix == "see DigitalOcean's console"

    def test_a_token_of_few_scopes_passes_the_check(self, cloud, subject):
        cloud.may_read_account = False
        assert [one for one in asyncio.run(subject.fresh().check()) if one.fix] == []
