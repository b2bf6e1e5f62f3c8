"""Driver `vast` keeps the clouds' contract, against a stand-in built from the vendor's document."""

import asyncio
import os
import shutil
import subprocess
import sys

import pytest
from clouds import vast as fake

from tests.clock import FakeClock
from tests.contracts.cloud_suite import KEYS, CloudSuite
from tests.contracts.provider_suite import fresh_tag, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus
from towline.core.task import Resources
from towline.providers import vast
from towline.providers.account import Account


class TestVast(CloudSuite):
    cloud_class = fake.Vast
    provider_name = "vast"
    page_size = "page"
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "B", "user_data": False, "tags": True, "containers": True, "spot": True,
        "powered_off_bills": True,
    }  # fmt: skip
    create_call, terminate_call = "rent", "destroy"
    settings = {"pace": 0}  # noqa: RUF012

    def break_machine(self, cloud, machine):
        machine.status = "exited"

    # -- offers ---------------------------------------------------------------------------------

    def test_an_offer_says_what_the_whole_hour_and_each_gigabyte_cost(self, subject):
        offers = asyncio.run(subject.fresh().offers(Resources(gpu="H100:8", disk_gb=100)))
        (offer,) = offers
        assert offer.price_usd_per_h == pytest.approx(15.2 + 100 * 0.15 / 720)
        assert (offer.traffic_usd_per_gb, offer.net_mbit, offer.region) == (0.02, 800.5, "NO")
        assert (offer.type, offer.storage_usd_per_h, offer.available) == ("8x H100 SXM", 0.0, True)
        assert offer.vram_gb == pytest.approx(79.6, abs=0.1)

    def test_only_what_is_needed_is_read_of_the_market(self, cloud, subject):
        asyncio.run(subject.fresh().offers(Resources(gpu="RTX4090:1", region="ca", disk_gb=50)))
        query = cloud.searches[-1]
        assert query["gpu_name"] == {"in": ["RTX 4090"]}
        assert (query["num_gpus"], query["geolocation"]) == ({"eq": 1}, {"in": ["CA"]})
        assert (query["allocated_storage"], query["disk_space"]) == (50, {"gte": 50})

    def test_a_model_without_a_name_of_vasts_is_found_among_all(self, cloud, subject):
        offers = asyncio.run(subject.fresh().offers(Resources(gpu="RTX4060Ti")))
        assert [one.payload["ask"] for one in offers] == ["7006"]
        assert "gpu_name" not in cloud.searches[-1]

    def test_a_region_of_the_settings_narrows_the_search(self, cloud):
        offers = asyncio.run(self.subject_of(cloud, region="se").fresh().offers(self.need))
        assert [one.region for one in offers] == ["SE"]

    def test_what_can_not_be_relied_on_is_not_offered(self, subject):
        offers = asyncio.run(subject.fresh().offers(self.need))
        assert [one.payload["ask"] for one in offers] == ["7001", "7002", "7003"]

    def test_bids_are_offered_only_to_who_wants_them(self, subject):
        provider = subject.fresh()
        firm = asyncio.run(provider.offers(self.need))
        bids = asyncio.run(provider.offers(Resources(gpu="H100:1", spot=True)))
        assert {one.spot for one in firm} == {False}
        assert {one.spot for one in bids} == {True}
        assert bids[0].price_usd_per_h < firm[0].price_usd_per_h

    # -- create ---------------------------------------------------------------------------------

    def test_the_key_goes_in_with_create_and_into_this_container_alone(self, cloud, subject):
        async def scenario():
            before = len(cloud.audit)
            made = await rented(subject, subject.fresh())
            (machine,) = cloud.ours()
            assert machine.public_key == KEYS[1].strip()
            assert (machine.data["disk"], machine.name) == (20.0, made.tag)
            calls = {name for _when, name, _fault in cloud.audit[before:]}
            assert calls == {"search", "rent", "get_instance"}

        asyncio.run(scenario())

    def test_a_container_that_starts_again_has_the_key_once(self, cloud, subject):
        asyncio.run(rented(subject, subject.fresh()))
        script = cloud.ours()[0].data["onstart"]
        assert fake.authorized_keys(script, starts=3) == KEYS[1].strip()

    def test_a_key_is_added_to_those_that_are_there(self, cloud, subject, tmp_path):
        asyncio.run(rented(subject, subject.fresh()))
        keys = tmp_path / ".ssh" / "authorized_keys"
        keys.parent.mkdir()
        keys.write_text("ssh-ed25519 AAAA somebody")  # without a newline at its end
        script = cloud.ours()[0].data["onstart"]
        subprocess.run(["sh", "-c", script], env={**os.environ, "HOME": str(tmp_path)}, check=True)
        lines = [line for line in keys.read_text().splitlines() if line]
        assert lines == ["ssh-ed25519 AAAA somebody", KEYS[1].strip()]

    def test_an_instance_that_did_not_start_is_there_and_dead(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            cloud.starts_stopped = True
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            assert (await provider.get(made.id)).status is InstanceStatus.DEAD
            assert [one.id for one in await provider.list_tagged()] == [made.id]

        asyncio.run(scenario())

    def test_a_bid_pays_what_was_offered_and_is_dead_once_outbid(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(Resources(gpu="H100:1", spot=True)))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            found = await provider.get(made.id)
            assert (found.status, found.price_usd_per_h) == (
                InstanceStatus.ACTIVE,
                offer.price_usd_per_h,
            )
            assert cloud.machines[made.id].data["bid"]
            cloud.machines[made.id].status = "outbid"
            found = await provider.get(made.id)
            assert (found.status, found.detail) == (
                InstanceStatus.DEAD,
                "vast says stopped: no reason",
            )

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        ("spoil", "error"),
        [
            (lambda cloud: cloud.taken.update(fake.ASKS), errors.NoCapacity),
            (lambda cloud: cloud.gone.update(fake.ASKS), errors.NoCapacity),
            (lambda cloud: setattr(cloud, "credit", 0), errors.PaymentNeeded),
        ],
        ids=["404", "410", "no credit"],
    )
    def test_definite_refusals(self, cloud, subject, spoil, error):
        self.check_refusal(cloud, subject, spoil, error)

    def test_a_bid_does_not_wait_for_its_turn(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(Resources(gpu="H100:1", spot=True)))[0]
            cloud.gone.update(fake.ASKS)
            with pytest.raises(errors.NoCapacity):
                await provider.create(offer, subject.order(fresh_tag()))
            assert cloud.ours() == []

        asyncio.run(scenario())

    def test_a_bid_that_no_longer_suffices_asks_for_another_offer(self, subject, monkeypatch):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(Resources(gpu="H100:1", spot=True)))[0]
            dearer = (*fake.ASKS["7001"][:4], 1.5, "California, US")
            monkeypatch.setitem(fake.ASKS, "7001", dearer)
            with pytest.raises(errors.NoCapacity):
                await provider.create(offer, subject.order(fresh_tag()))

        asyncio.run(scenario())

    def test_the_login_is_root_at_the_host_and_port_that_vast_names(self, cloud):
        account = Account(
            name="vast",
            settings={"base_url": cloud.base_url, "pace": 0},
            keys=self.keys,
            clock=RealClock(),
        )

        async def scenario():
            provider = vast.Vast(account)
            offer = (await provider.offers(self.need))[0]
            order = self.subject_of(cloud).order(fresh_tag())
            made = await provider.get((await provider.create(offer, order)).id)
            host = cloud.machines[made.id].host
            assert str(made.address) == f"root@{host}:{cloud.ssh_port}"

        asyncio.run(scenario())

    # -- what is there, and what is gone --------------------------------------------------------

    @pytest.mark.parametrize("word", ["exited", "frozen", "stopped"])
    def test_what_never_runs_again_is_dead_and_still_there(self, cloud, subject, word):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].status = word
            cloud.machines[made.id].data["said"] = "host down"
            found = await provider.get(made.id)
            assert (found.status, found.address) == (InstanceStatus.DEAD, None)
            assert found.detail == f"vast says {word}: host down"

        asyncio.run(scenario())

    def test_a_frozen_one_is_dead_by_its_own_word(self, cloud, subject, monkeypatch):
        """It is paused, bills as if it ran, and comes back only when its owner says so."""

        def frozen(name, answer):
            row = {**answer[1]["instances"], "actual_status": "frozen", "intended_status": "frozen"}
            return answer[0], {"instances": row}, answer[2]

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.distort = frozen
            found = await provider.get(made.id)
            assert (found.status, found.address) == (InstanceStatus.DEAD, None)

        asyncio.run(scenario())

    @pytest.mark.parametrize("word", ["unknown", "offline", "loading", "rebooting", "new-word"])
    def test_what_may_come_back_is_neither_dead_nor_active(self, cloud, subject, word):
        """Of a host that is not heard of nothing may be concluded: its training may go on."""

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].status = word
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING

        asyncio.run(scenario())

    def test_a_container_that_docker_can_not_make_is_dead(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.machines[made.id].status = "created"
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
            cloud.machines[made.id].data["said"] = "Error: OCI runtime create failed: no GPU"
            assert (await provider.get(made.id)).status is InstanceStatus.DEAD

        asyncio.run(scenario())

    def test_a_wrong_key_says_nothing_of_an_instance(self, cloud, subject):
        """Vast answers a key that it doesn't know with 404."""

        async def scenario():
            made = await rented(subject, subject.fresh())
            wrong = TestVast()
            wrong.keys = {"api_key": "wrong"}
            with pytest.raises(errors.ProviderAuthError):
                await wrong.subject_of(cloud).fresh().get(made.id)
            with pytest.raises(errors.ProviderAuthError):
                await wrong.subject_of(cloud).fresh().terminate(made.id)
            assert len(cloud.alive()) == 1

        asyncio.run(scenario())

    @pytest.mark.parametrize("status", [404, 410])
    def test_a_call_that_is_no_more_says_nothing_of_an_instance(
        self, cloud, subject, status, monkeypatch
    ):
        def gone(*_arguments, **_more):
            raise fake.Refuse(status, {"error": "deprecated_endpoint", "msg": "use another"})

        async def scenario():
            made = await rented(subject, subject.fresh())
            monkeypatch.setattr(cloud, "get_instance", gone)
            with pytest.raises(errors.ProviderError) as caught:
                await subject.fresh().get(made.id)
            assert type(caught.value) is errors.ProviderError

        asyncio.run(scenario())

    def test_the_list_is_read_to_its_end(self, cloud, subject):
        async def scenario():
            tags = sorted(fresh_tag() for _ in range(5))
            for tag in tags:
                cloud.place_foreign(tag)
            cloud.page = 2
            assert sorted(one.tag for one in await subject.fresh().list_tagged()) == tags
            assert cloud.asked("list_instances") == 3

        asyncio.run(scenario())

    def test_a_list_that_turns_in_a_circle_is_an_error(self, cloud, subject, monkeypatch):
        answer = {"instances": [], "next_token": "after=1"}
        monkeypatch.setattr(cloud, "list_instances", lambda _request: answer)
        with pytest.raises(errors.ProviderReplyError):
            asyncio.run(subject.fresh().list_tagged())

    # -- pace -----------------------------------------------------------------------------------

    def test_calls_keep_the_distance_that_vast_wants(self, cloud):
        settings, clock = {"base_url": cloud.base_url}, FakeClock()
        account = Account(name="vast", settings=settings, keys=self.keys, clock=clock)

        async def scenario():
            provider = vast.Vast(account)
            (offer, other, *_) = await provider.offers(self.need)
            subject = self.subject_of(cloud)
            for one in (offer, other):
                made = await provider.create(one, subject.order(fresh_tag()))
            for ask in (provider.get, provider.terminate):
                await ask(made.id)
                await ask(made.id)
            await provider.list_tagged()
            await provider.list_tagged()
            await provider.offers(self.need)

        asyncio.run(scenario())
        create, get, destroy, list_them = clock.slept  # the second search comes late enough
        assert (create, get, destroy, list_them) == (4.5, 2.0, 3.0, 1.0)

    def test_a_read_that_came_too_soon_is_repeated(self, cloud, subject):
        async def scenario():
            cloud.interval_s = {"get_instance": 0.2}
            made = await rented(subject, subject.fresh())
            assert (await subject.fresh().get(made.id)).id == made.id
            assert cloud.too_fast >= 1

        asyncio.run(scenario())

    def test_searches_that_are_used_up_are_no_reason_to_ask_again(
        self, cloud, subject, monkeypatch
    ):
        def used_up(_request):
            raise fake.Refuse(429, {"success": False, "error": "search_quota_exceeded"})

        monkeypatch.setattr(cloud, "search", used_up)
        with pytest.raises(errors.ProviderError) as caught:
            asyncio.run(subject.fresh().offers(self.need))
        assert type(caught.value) is errors.ProviderError
        assert cloud.asked("search") == 1

    # -- the container ends itself, and what check says -----------------------------------------

    @pytest.mark.parametrize("tool", ["python3", "curl"])
    @pytest.mark.parametrize("place", ["environment", "first process"])
    def test_a_container_ends_itself(self, cloud, subject, tmp_path, tool, place):
        made = asyncio.run(rented(subject, subject.fresh()))
        own = {
            "CONTAINER_ID": made.id,
            "CONTAINER_API_KEY": cloud.machines[made.id].data["api_key"],
        }
        bin_folder = tmp_path / "bin"
        bin_folder.mkdir()
        for name in ("sh", "tr", "sed", "sleep", tool):
            path = sys.executable if name == "python3" else shutil.which(name)
            (bin_folder / name).symlink_to(path)
        first = tmp_path / "environ"
        first.write_bytes(b"".join(f"{k}={v}\0".encode() for k, v in own.items()))
        argv = [
            part.replace("/proc/1/environ", str(first))
            for part in subject.fresh().features.end_self_argv
        ]
        environment = {"PATH": str(bin_folder), **(own if place == "environment" else {})}
        if place == "environment":
            first.unlink()
        subprocess.run(argv, env=environment, check=True, timeout=30)
        assert cloud.alive() == []

    def test_check_says_that_owners_can_read_and_what_credit_there_is(self, cloud, subject):
        found = {one.name: one for one in asyncio.run(subject.fresh().check())}
        assert "can read" in found["privacy"].message
        assert (found["credit"].message, found["credit"].fix) == ("$25.00", None)
        cloud.credit = 0.0
        found = {one.name: one for one in asyncio.run(subject.fresh().check())}
        assert found["credit"].fix is not None

    def test_a_key_for_instances_only_passes_the_check(self, cloud, subject):
        cloud.may_read_user = False
        findings = asyncio.run(subject.fresh().check())
        assert [one for one in findings if one.fix] == []

    def test_settings_name_image_disk_and_reliability(self, cloud):
        async def scenario():
            subject = self.subject_of(cloud, image="me/mine:1", disk_gb=64, reliability=0.5)
            await rented(subject, subject.fresh())
            assert (cloud.ours()[0].data["image"], cloud.ours()[0].data["disk"]) == (
                "me/mine:1",
                64,
            )
            assert cloud.searches[-1]["reliability"] == {"gte": 0.5}
            assert cloud.searches[-1]["allocated_storage"] == 64

        asyncio.run(scenario())
