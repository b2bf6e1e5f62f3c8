"""Driver `verda` keeps the clouds' contract, against a stand-in built from the vendor's SDKs."""

import asyncio
import time

import pytest
from clouds import verda as fake

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, gone, rented
from towline import errors
from towline.core.instance import InstanceStatus, Leftover
from towline.core.task import Resources

SPOT = Resources(gpu="H100:1", spot=True)


class TestVerda(CloudSuite):
    cloud_class = fake.Verda
    provider_name = "verda"
    page_size = "page_limit"
    own_things = 1  # its volume
    keys = {"client_id": fake.CLIENT, "client_secret": fake.SECRET}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "host_key_late": True, "tags": True,
        "spot": True, "powered_off_bills": None,
    }  # fmt: skip

    # -- the token ------------------------------------------------------------------------------

    def test_one_token_serves_all_calls_of_its_life(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            await provider.offers(self.need)
            await rented(subject, provider)
            await provider.list_tagged()

        asyncio.run(scenario())
        assert cloud.asked("sign_in") == 1

    @pytest.mark.parametrize("status", [400, 403, 404])
    def test_a_login_that_is_refused_is_an_authentication_error(self, cloud, subject, status):
        """Whoever is not known at the door knows of no instance: nothing is gone for that."""

        async def scenario():
            made = await rented(subject, subject.fresh())

            def unknown(_request):
                raise fake._refuse(status, "not_found", "Invalid client id")

            cloud.sign_in = unknown
            with pytest.raises(errors.ProviderAuthError):
                await subject.fresh().get(made.id)
            with pytest.raises(errors.ProviderAuthError):
                await subject.fresh().terminate(made.id)
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    def test_a_token_is_renewed_before_it_is_over(self, cloud, subject):
        cloud.token_life_s = 1

        async def scenario():
            provider = subject.fresh()
            await provider.list_tagged()
            await asyncio.sleep(0.95)
            await provider.list_tagged()

        asyncio.run(scenario())
        assert cloud.asked("sign_in") == 2
        assert cloud.asked("list_instances") == 2  # none was refused

    def test_a_token_that_is_refused_is_renewed_and_the_call_made_once_more(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            cloud.tokens.clear()
            await provider.create(offer, subject.order(fresh_tag()))

        asyncio.run(scenario())
        assert cloud.asked("sign_in") == 2
        assert len(cloud.alive()) == 1

    def test_a_token_that_is_refused_twice_is_not_asked_for_again(self, cloud, subject):
        cloud.token_life_s = -5
        with pytest.raises(errors.ProviderAuthError) as raised:
            asyncio.run(subject.fresh().list_tagged())
        assert raised.value.kind == "ProviderAuthError"
        assert cloud.asked("list_instances") == 2

    @pytest.mark.parametrize("missing", ["client_id", "client_secret"])
    def test_half_a_key_is_none(self, cloud, missing):
        half = type(self)()
        half.keys = {name: value for name, value in self.keys.items() if name != missing}
        with pytest.raises(errors.CredentialsError, match=missing.replace("_", " ")):
            half.subject_of(cloud)

    # -- offers ---------------------------------------------------------------------------------

    def offers(self, subject, gpu, **more):
        return asyncio.run(subject.fresh().offers(Resources(gpu=gpu, **more)))

    def test_a_type_is_offered_at_each_place_that_has_it(self, subject):
        offers = self.offers(subject, "H100:1")
        assert {offer.region for offer in offers} == {"FIN-01", "ICE-01"}
        assert {offer.price_usd_per_h for offer in offers} == {2.29}
        assert {offer.vram_gb for offer in offers} == {80}

    def test_a_type_that_no_place_has_is_out_of_stock(self, subject):
        (offer,) = self.offers(subject, "A6000-48GB:2")
        assert (offer.available, offer.region, offer.vram_gb) == (False, None, 48)

    def test_spot_is_offered_to_those_who_ask_with_its_own_price_and_stock(self, subject):
        assert not any(offer.spot for offer in self.offers(subject, "H100"))
        (spot,) = (offer for offer in self.offers(subject, "H100", spot=True) if offer.spot)
        assert (spot.price_usd_per_h, spot.region) == (0.80, "FIN-03")

    def test_what_has_no_spot_price_is_no_spot(self, subject):
        spot = [offer.type for offer in self.offers(subject, None, spot=True) if offer.spot]
        assert set(spot) == {"1H100.80S.30V", "8H100.80S.176V"}

    def test_the_disk_is_priced_by_its_size(self, subject):
        (small, *_), (large, *_) = (
            self.offers(subject, "H100", disk_gb=size) for size in (None, 1000)
        )
        assert small.storage_usd_per_h == pytest.approx(0.20 * 100 / 730)
        assert large.storage_usd_per_h == pytest.approx(0.20 * 1000 / 730)

    def test_the_setting_region_narrows_what_is_offered(self, cloud):
        offers = self.offers(self.subject_of(cloud, region="ICE-01"), "H100")
        assert {offer.region for offer in offers} == {"ICE-01"}

    def test_check_tells_of_an_empty_balance(self, cloud, subject):
        cloud.balance = 0
        wrong = {one.name for one in asyncio.run(subject.fresh().check()) if one.fix}
        assert wrong == {"balance"}

    # -- create ---------------------------------------------------------------------------------

    def test_the_image_is_the_newest_ubuntu_with_cuda(self, subject):
        async def scenario():
            provider = subject.fresh()
            return await provider._image((await provider.offers(self.need))[0])

        assert asyncio.run(scenario()) == "ubuntu-24.04-cuda-12.8-open-docker"

    def test_the_setting_image_is_taken_as_it_is(self, cloud):
        subject = self.subject_of(cloud, image="ubuntu-22.04")
        asyncio.run(rented(subject, subject.fresh()))
        assert cloud.asked("list_images") == 0

    def test_no_image_is_an_error_that_names_the_setting(self, subject, monkeypatch):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            monkeypatch.setattr(fake, "IMAGES", ["ubuntu-22.04"])
            with pytest.raises(errors.ProviderError, match="no Ubuntu with CUDA") as raised:
                await provider.create(offer, subject.order(fresh_tag()))
            assert "providers.verda.image" in raised.value.hint

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda cloud: cloud.stock[False].clear(), errors.NoCapacity),
            (
                lambda cloud: (
                    cloud.stock[False].clear(),
                    setattr(cloud, "sold_out_status", 400),
                ),
                errors.NoCapacity,
            ),
            (lambda cloud: setattr(cloud, "quota", 0), errors.QuotaExceeded),
            (lambda cloud: setattr(cloud, "balance", 0), errors.PaymentNeeded),
        ],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)

    def test_a_script_of_an_earlier_try_is_replaced(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.scripts["old"] = {"name": tag, "script": "echo of another host key"}
            cloud.scripts["foreign"] = {"name": "mine", "script": ""}
            await rented(subject, provider, tag)
            assert [one["name"] for one in cloud.scripts.values()] == ["mine", tag]
            assert "old" not in cloud.scripts

        asyncio.run(scenario())

    def test_the_volume_has_the_size_that_is_wanted_and_the_runs_name(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            await rented(subject, provider, tag)
            (volume,) = cloud.volumes.values()
            assert (volume["name"], volume["size"]) == (tag, 100)

        asyncio.run(scenario())

    # -- the end --------------------------------------------------------------------------------

    @pytest.mark.parametrize("whole", [True, False])
    def test_an_instance_that_is_being_provisioned_is_ended_when_that_is_over(
        self, cloud, subject, whole
    ):
        cloud.boot_s, cloud.refuses_as_a_whole = 1.0, whole

        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            with pytest.raises(errors.ProviderUnavailable, match="provisioning") as raised:
                await provider.terminate(made.id)
            assert raised.value.retryable
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
            await asyncio.sleep(1.0)
            await gone(provider, made.id)
            assert cloud.alive() == []

        asyncio.run(scenario())

    def test_the_volume_of_the_system_is_deleted_for_good_with_the_instance(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            assert len(cloud.volumes) == 1
            await gone(provider, made.id)
            assert cloud.volumes == {}

        asyncio.run(scenario())

    def test_an_instance_that_is_being_deleted_may_still_bill(self, cloud, subject):
        self.check_being_deleted(cloud, subject)

    @pytest.mark.parametrize("whole", [True, False])
    def test_a_spot_instance_that_was_taken_away_is_gone_with_its_volume(
        self, cloud, subject, whole
    ):
        cloud.refuses_as_a_whole = whole

        async def scenario():
            provider = subject.fresh()
            (offer,) = (one for one in await provider.offers(SPOT) if one.spot)
            made = await provider.create(offer, subject.order(fresh_tag()))
            cloud.take_away(cloud.machines[made.id])
            assert await provider.get(made.id) is None
            assert await provider.list_tagged() == []
            await provider.terminate(made.id)
            assert {one.kind for one in await provider.leftovers({})} == {"key", "script"}

        asyncio.run(scenario())

    def test_a_volume_that_outlives_its_instance_is_a_leftover(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.take_away(cloud.machines[made.id])  # keeps the volume, for it was no spot
            (volume,) = (one for one in await provider.leftovers({}) if one.kind == "volume")
            assert (volume.tag, volume.price_usd_per_h) == (made.tag, 0.03)
            assert abs(volume.since - time.time()) < 60
            await provider.remove(volume)
            await provider.remove(volume)
            assert cloud.volumes == {}

        asyncio.run(scenario())

    def test_a_volume_that_is_attached_is_not_removed(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            await rented(subject, provider)
            (volume,) = (one for one in await provider.leftovers({}) if one.kind == "volume")
            with pytest.raises(errors.ProviderError, match="attached"):
                await provider.remove(volume)

        asyncio.run(scenario())

    @pytest.mark.parametrize("status", ["deleting", "deleted", "canceled"])
    def test_a_volume_on_its_way_out_is_no_leftover(self, cloud, subject, status):
        cloud.volumes["v"] = {"name": fresh_tag(), "status": status}
        assert asyncio.run(subject.fresh().leftovers({})) == []

    def test_things_of_others_are_no_leftovers(self, cloud, subject):
        for name in ("web", "towline-abcdefghzz", f"x{fresh_tag()}"):
            cloud.keys[name] = {"name": name, "key": ""}
            cloud.scripts[name] = {"name": name, "script": ""}
            cloud.volumes[name] = {"name": name, "status": "detached"}
        assert asyncio.run(subject.fresh().leftovers({})) == []

    def test_scripts_are_listed_to_their_end(self, cloud, subject):
        cloud.page_limit = 2
        tags = {fresh_tag() for _ in range(5)}
        for number, tag in enumerate(tags):
            cloud.scripts[f"s{number}"] = {"name": tag, "script": ""}
        assert {one.tag for one in asyncio.run(subject.fresh().leftovers({}))} == tags

    @pytest.mark.parametrize("kind", ["key", "script"])
    def test_a_leftover_whose_id_is_no_id_is_gone(self, cloud, subject, kind):
        wrong = Leftover(provider="verda", kind=kind, id="../instances", tag="")
        before = len(cloud.audit)
        asyncio.run(subject.fresh().remove(wrong))
        assert len(cloud.audit) == before

    # -- what it says ---------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("ordered", InstanceStatus.BUILDING),
            ("validating", InstanceStatus.BUILDING),
            ("restoring", InstanceStatus.BUILDING),
            ("offline", InstanceStatus.DEAD),
            ("hibernating", InstanceStatus.DEAD),
            ("no_capacity", InstanceStatus.DEAD),
            ("installation_failed", InstanceStatus.DEAD),
        ],
    )
    def test_words_for_states(self, cloud, subject, word, status):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].status = word
            assert (await provider.get(made.id)).status is status

        asyncio.run(scenario())

    @pytest.mark.parametrize("field", ["name", "description"])
    def test_hostname_or_description_tell_whose_it_is(self, cloud, subject, field):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            machine = cloud.machines[made.id]
            if field == "name":
                machine.data["description"] = "renamed"
            else:
                machine.name = "renamed"
            assert [one.tag for one in await provider.list_tagged()] == [made.tag]

        asyncio.run(scenario())

    def test_an_answer_without_an_id_is_an_unknown_outcome(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            cloud.new_id = lambda: "<no id>"
            with pytest.raises(errors.ProviderReplyError, match="no id"):
                await provider.create(offer, subject.order(fresh_tag()))

        asyncio.run(scenario())
