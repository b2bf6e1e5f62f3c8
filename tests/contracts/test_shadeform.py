"""Driver `shadeform` keeps the clouds' contract, against a stand-in built from its OpenAPI."""

import asyncio
import dataclasses
import time

import pytest
from clouds import shadeform as fake

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus
from towline.core.task import Resources
from towline.providers import make
from towline.ssh.client import SshDialer

H100 = Resources(gpu="H100:1")


class TestShadeform(CloudSuite):
    cloud_class = fake.Shadeform
    provider_name = "shadeform"
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "tags": True, "server_ttl": True, "spot": True,
        "end_self_argv": None, "host_key_late": True,
    }  # fmt: skip

    # -- offers ---------------------------------------------------------------------------------

    def offers(self, cloud, need=H100):
        return asyncio.run(self.subject_of(cloud).fresh().offers(need))

    def test_only_machines_that_are_virtual_and_on_demand_are_offered(self, cloud):
        assert [
            (one.type, one.region, one.price_usd_per_h, one.available, one.vram_gb, one.boot_s)
            for one in self.offers(cloud)
        ] == [
            ("hyperstack/H100", "canada-1", 2.40, True, 80, 300),
            ("nebius/H100", "eu-north1", 2.60, False, 80, 300),
        ]

    def test_spot_is_offered_to_who_takes_it_at_its_own_price(self, cloud):
        (spot,) = (one for one in self.offers(cloud, Resources(gpu="H100", spot=True)) if one.spot)
        assert (spot.region, spot.price_usd_per_h) == ("canada-1", 1.25)

    def test_a_spot_offer_is_rented_as_spot_and_at_its_price(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            need = Resources(gpu="H100", spot=True)
            (offer,) = (one for one in await provider.offers(need) if one.spot)
            made = await provider.create(offer, subject.order(fresh_tag()))
            assert cloud.machines[made.id].data["asked"]["rental_type"] == "spot"
            assert (await provider.get(made.id)).price_usd_per_h == offer.price_usd_per_h

        asyncio.run(scenario())

    def test_a_spot_price_that_is_no_number_is_no_offer(self, cloud, monkeypatch):
        odd = fake.kind("hyperstack", "H100", 240, [("canada-1", True, "ask us")])
        monkeypatch.setattr(fake, "TYPES", [odd])
        found = self.offers(cloud)
        assert (found, found.left_out) == ([], {"no price": 1})

    def test_eight_gpus_have_the_price_of_the_whole_machine(self, cloud):
        (offer,) = self.offers(cloud, Resources(gpu="A100-80GB:8"))
        assert (offer.gpus, offer.price_usd_per_h) == (8, 14.32)

    def test_a_machine_without_a_gpu_has_none_in_its_offer(self, cloud):
        (cpu,) = (one for one in self.offers(cloud, Resources()) if one.gpus == 0)
        assert (cpu.gpu, cpu.vram_gb, cpu.price_usd_per_h) == (None, None, 0.20)

    @pytest.mark.parametrize(
        ("settings", "types"),
        [
            ({"region": "eu-north1"}, ["nebius/H100"]),
            ({"cloud": "hyperstack"}, ["hyperstack/H100"]),
            ({"image": "ubuntu24.04"}, ["hyperstack/H100"]),
            ({"image": "windows"}, []),
        ],
    )
    def test_settings_narrow_what_is_offered(self, cloud, settings, types):
        subject = type(self)()
        subject.settings = settings
        assert [one.type for one in subject.offers(cloud)] == types

    # -- create ---------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("settings", "os"),
        [({}, "ubuntu22.04_cuda12.10_shade_os"), ({"image": "ubuntu24.04"}, "ubuntu24.04")],
    )
    def test_the_newest_cuda_is_booted_unless_a_setting_says_otherwise(self, cloud, settings, os):
        async def scenario():
            subject = self.subject_of(cloud, **settings)
            made = await rented(subject, subject.fresh())
            assert cloud.machines[made.id].data["asked"]["os"] == os

        asyncio.run(scenario())

    def test_shadeform_itself_deletes_the_instance_at_its_end_of_life(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            order = dataclasses.replace(subject.order(fresh_tag()), lifetime_s=1.5)
            made = await provider.create(offer, order)
            assert await provider.get(made.id) is not None
            deadline = time.monotonic() + 10
            while await provider.get(made.id) is not None:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.1)
            assert cloud.asked("terminate") == 0
            assert cloud.alive() == []

        asyncio.run(scenario())

    def test_without_a_lifetime_nothing_ends_it(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            order = dataclasses.replace(subject.order(fresh_tag()), lifetime_s=None)
            made = await provider.create(offer, order)
            assert "auto_delete" not in cloud.machines[made.id].data["asked"]

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda cloud: cloud.sold_out.add(("hyperstack", "H100")), errors.NoCapacity),
            (lambda cloud: setattr(cloud, "quota", 0), errors.QuotaExceeded),
            (lambda cloud: setattr(cloud, "balance", 0.0), errors.PaymentNeeded),
        ],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)

    # -- get and terminate ----------------------------------------------------------------------

    def test_user_and_port_are_the_instances_own(self, cloud, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            plain = make(
                "shadeform", home=cloud.folder, keys=self.keys, dialer=SshDialer(),
                clock=RealClock(), settings={"base_url": cloud.base_url},
            )  # fmt: skip
            address = (await plain.get(made.id)).address
            assert (address.user, address.port) == (cloud.user, cloud.ssh_port)

        asyncio.run(scenario())

    def test_an_instance_that_is_being_deleted_is_told_from_one_that_is_gone(self):
        async def scenario(cloud):
            subject = self.subject_of(cloud)
            provider = subject.fresh()
            made = await rented(subject, provider)
            await provider.terminate(made.id)
            assert (await provider.get(made.id)).status is InstanceStatus.TERMINATING
            assert [one.status for one in await provider.list_tagged()] == ["terminating"]
            cloud.machines[made.id].status = "deleted"
            assert await provider.get(made.id) is None
            assert await provider.list_tagged() == []

        with fake.Shadeform(delete_s=60.0) as cloud:
            asyncio.run(scenario(cloud))

    def test_why_an_instance_failed_or_was_taken_away_is_told(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            machine = cloud.machines[made.id]
            machine.status, machine.data["details"] = "error", "cloud ran out"
            assert (await provider.get(made.id)).detail == "shadeform says error: cloud ran out"
            machine.status, machine.data["details"] = "deleting", "preempted"
            assert (await provider.get(made.id)).detail == "shadeform says deleting: preempted"

        asyncio.run(scenario())

    def test_the_tag_survives_a_renaming_in_the_console(self, cloud, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.machines[made.id].name = "my favourite"
            (found,) = await subject.fresh().list_tagged()
            assert (found.id, found.tag) == (made.id, made.tag)

        asyncio.run(scenario())

    def test_a_list_says_since_when_an_instance_bills(self, cloud, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            (found,) = await subject.fresh().list_tagged()
            assert abs(found.started_at - cloud.machines[made.id].created_at) <= 1

        asyncio.run(scenario())

    # -- keys -----------------------------------------------------------------------------------

    def test_a_key_in_use_is_not_removed_yet(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            await rented(subject, provider)
            (key,) = await provider.leftovers({})
            with pytest.raises(errors.ProviderUnavailable):
                await provider.remove(key)
            assert cloud.left_over() == [key.id]

        asyncio.run(scenario())

    def test_keys_of_others_are_no_leftovers(self, cloud, subject):
        cloud.keys.append({
            "id": "a",
            "name": "towline-abcdefghzz",
            "public_key": "k",
            "is_default": False,
        })
        assert asyncio.run(subject.fresh().leftovers({})) == []
