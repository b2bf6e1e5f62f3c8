"""Driver `runpod` keeps the clouds' contract, against a stand-in built from its OpenAPI."""

import asyncio
import dataclasses
import os
import shutil
import subprocess
import sys

import pytest
from clouds import runpod as fake
from clouds.base import box_instance

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, gone, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus
from towline.core.task import Resources
from towline.providers import make
from towline.ssh.client import SshDialer


class TestRunPod(CloudSuite):
    cloud_class = fake.RunPod
    provider_name = "runpod"
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "B", "user_data": False, "tags": False, "containers": False,
        "powered_off_bills": True, "spot": False, "server_ttl": False,
    }  # fmt: skip

    def offers(self, cloud, need=None, **settings):
        need = need or self.need
        provider = self.subject_of(cloud, **settings).fresh()
        return asyncio.run(provider.offers(need))

    # -- offers ---------------------------------------------------------------------------------

    def test_data_centers_that_have_the_gpu_are_offered_the_fullest_first(self, cloud):
        assert [
            (one.type, one.region, one.price_usd_per_h, one.available, one.vram_gb)
            for one in self.offers(cloud)
        ] == [(fake.H100, "EU-RO-1", 2.75, True, 80), (fake.H100, "US-TX-3", 2.75, True, 80)]

    def test_more_gpus_cost_more_and_their_own_stock_counts(self, cloud):
        (offer,) = self.offers(cloud, Resources(gpu="H100:8"))
        assert (offer.region, offer.gpus, offer.price_usd_per_h) == ("EU-RO-1", 8, 22.0)
        assert offer.type == f"8x {fake.H100}"

    def test_a_gpu_that_is_nowhere_in_stock_is_said_to_be_out_of_stock(self, cloud):
        (offer,) = self.offers(cloud, Resources(gpu="A100"))
        assert (offer.region, offer.available, offer.price_usd_per_h) == (None, False, 1.5)

    def test_amd_is_offered_with_an_image_of_the_users_own_only(self, cloud):
        need = Resources(gpu="MI300X")
        assert self.offers(cloud, need) == []
        assert len(self.offers(cloud, need, image="me/rocm")) == 1

    @pytest.mark.parametrize(
        ("settings", "found"),
        [
            ({"region": "US-TX-3"}, [("US-TX-3", 2.75)]),
            ({"cloud": "community"}, [("EU-RO-1", 1.95), ("US-TX-3", 1.95)]),
        ],
    )
    def test_settings_narrow_what_is_offered(self, settings, found):
        with fake.RunPod() as cloud:
            self.settings = settings
            assert [(one.region, one.price_usd_per_h) for one in self.offers(cloud)] == found

    def test_a_task_may_ask_for_a_data_center(self, cloud):
        (offer,) = self.offers(cloud, Resources(gpu="H100", region="us-tx-3"))
        assert offer.region == "US-TX-3"

    def test_a_cloud_that_does_not_exist_is_an_error(self, cloud):
        with pytest.raises(errors.SpecError, match="secure or community"):
            self.settings = {"cloud": "private"}
            self.subject_of(cloud)

    # -- create ---------------------------------------------------------------------------------

    def created(self, cloud, **order):
        async def scenario():
            subject = self.subject_of(cloud)
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            wanted = dataclasses.replace(subject.order(fresh_tag()), **order)
            made = await provider.create(offer, wanted)
            return wanted, cloud.machines[made.id].data["asked"]

        return asyncio.run(scenario())

    def test_the_key_reaches_the_pod_by_its_environment_and_not_the_account(self, cloud):
        order, asked = self.created(cloud)
        assert asked["env"] == {"PUBLIC_KEY": order.public_key}
        assert asked["ports"] == ["22/tcp"]
        assert cloud.asked("replace_keys") == 0

    def test_a_pod_is_placed_where_the_offer_is(self, cloud):
        assert self.created(cloud)[1]["dataCenterIds"] == ["EU-RO-1"]

    @pytest.mark.parametrize(("wanted", "got"), [(None, 50), (120.5, 121)])
    def test_the_disk_is_as_large_as_is_ordered(self, cloud, wanted, got):
        assert self.created(cloud, disk_gb=wanted)[1]["disk"] == got

    @pytest.mark.parametrize(
        ("settings", "image", "cuda"),
        [
            ({}, "runpod/pytorch:1.0.2-cu1281-torch280-ubuntu2404", "12.8"),
            ({"image": "me/mine"}, "me/mine", None),
            ({"image": "me/mine", "min_cuda": "12.4"}, "me/mine", "12.4"),
        ],
    )
    def test_the_image_and_the_driver_that_it_needs(self, cloud, settings, image, cuda):
        self.settings = settings
        asked = self.created(cloud)[1]
        assert (asked["image"], asked["gpu"].get("minCudaVersion")) == (image, cuda)

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda cloud: cloud.sold_out.add(fake.H100), errors.NoCapacity),
            (lambda cloud: cloud.no_access.add(fake.H100), errors.NoCapacity),
            (lambda cloud: setattr(cloud, "balance", 0.0), errors.PaymentNeeded),
        ],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)

    def test_a_request_that_breaks_the_schema_is_not_taken_for_lack_of_stock(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            order = dataclasses.replace(subject.order(fresh_tag()), public_key=7)
            with pytest.raises(errors.ProviderError) as caught:
                await provider.create(offer, order)
            assert type(caught.value) is errors.ProviderError

        asyncio.run(scenario())

    def test_two_pods_of_one_name_are_both_listed(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            made = {(await rented(subject, provider, tag)).id for _ in range(2)}
            assert {one.id for one in await provider.list_tagged() if one.tag == tag} == made

        asyncio.run(scenario())

    # -- get ------------------------------------------------------------------------------------

    def test_a_running_pod_has_no_address_until_its_port_is_assigned(self):
        async def scenario(cloud):
            subject = self.subject_of(cloud)
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            early = await provider.get(made.id)
            assert (early.status, early.address) == (InstanceStatus.ACTIVE, None)
            cloud.port_s = 0.0
            assert (await provider.get(made.id)).address.port == cloud.ssh_port

        with fake.RunPod(port_s=60.0) as cloud:
            asyncio.run(scenario(cloud))

    def test_user_and_port_are_those_of_the_direct_way_in(self, cloud, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            plain = make(
                "runpod", home=cloud.folder, keys=self.keys, dialer=SshDialer(),
                clock=RealClock(), settings={"base_url": cloud.base_url},
            )  # fmt: skip
            address = (await plain.get(made.id)).address
            assert (address.host, address.port) == (cloud.machines[made.id].host, cloud.ssh_port)
            assert (address.user, address.host_key) == (cloud.user, None)

        asyncio.run(scenario())

    @pytest.mark.logs_in
    def test_an_exited_pod_is_dead_but_there_until_it_is_deleted(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            (box_instance(cloud, made.id) / "shutdown").touch()
            found = await provider.get(made.id)
            assert (found.status, found.address) == (InstanceStatus.DEAD, None)
            assert found.detail == "runpod says EXITED"
            (pods, _offers) = await provider.check()
            assert "1 have exited" in pods.message
            assert pods.fix is not None
            await gone(provider, made.id)
            assert cloud.alive() == []

        asyncio.run(scenario())

    # -- a pod ends itself ----------------------------------------------------------------------

    def ended_from_within(self, cloud, without=()):
        """Run the command as the pod would; without some programs, as on a small image."""

        async def scenario():
            subject = self.subject_of(cloud)
            return subject.fresh(), await rented(subject, subject.fresh())

        provider, made = asyncio.run(scenario())
        tools = cloud.folder / "tools"
        tools.mkdir()
        for name in {"curl", "python3", "tr", "sed", "head", "sleep"} - set(without):
            found = sys.executable if name == "python3" else shutil.which(name)
            (tools / name).symlink_to(os.path.realpath(found))
        environment = cloud.pod_environment(cloud.machines[made.id]) | {"PATH": str(tools)}
        return provider.features.end_self_argv, made, environment

    def end(self, argv, environment):
        argv = [os.path.realpath("/bin/sh"), *argv[1:]]
        return subprocess.run(argv, env=environment, timeout=20, check=False).returncode

    @pytest.mark.parametrize("without", ["curl", "python3"])
    def test_a_pod_ends_itself_by_its_own_key(self, cloud, without):
        argv, made, environment = self.ended_from_within(cloud, (without,))
        assert self.end(argv, environment) == 0
        assert cloud.alive() == []
        assert cloud.machines[made.id].ended_at is not None

    def test_a_login_without_the_pods_environment_reads_it_from_the_first_process(self, cloud):
        argv, _made, environment = self.ended_from_within(cloud)
        first = cloud.folder / "environ"
        first.write_text("".join(f"{key}={value}\0" for key, value in environment.items()))
        argv = [part.replace("/proc/1/environ", str(first)) for part in argv]
        assert self.end(argv, {"PATH": environment["PATH"]}) == 0
        assert cloud.alive() == []

    def test_a_failing_api_is_asked_again_until_the_pod_is_gone(self, cloud):
        argv, _made, environment = self.ended_from_within(cloud)
        argv = [part.replace("sleep 15", "sleep 0.1") for part in argv]
        cloud.fail("terminate", "503", times=2)
        assert self.end(argv, environment) == 0
        assert cloud.asked("terminate") == 3
        assert cloud.alive() == []

    def test_without_a_key_nothing_is_asked(self, cloud):
        argv, _made, environment = self.ended_from_within(cloud)
        argv = [part.replace("/proc/1/environ", "/dev/null") for part in argv]
        assert self.end(argv, {"PATH": environment["PATH"]}) == 1
        assert cloud.asked("terminate") == 0
