"""Driver `ec2` keeps the clouds' contract, against moto's EC2 made stricter."""

import asyncio
import dataclasses
import time

import pytest
from botocore import exceptions as boto
from botocore.parsers import ResponseParserError
from clouds import ec2 as fake

from tests.contracts.cloud_suite import KEYS, CloudSuite
from tests.contracts.provider_suite import fresh_tag, gone, key_pair, rented
from towline import errors
from towline.core.instance import InstanceId, InstanceStatus
from towline.core.task import Resources
from towline.providers.ec2_api import in_our_words
from towline.ssh.client import SshDialer

H100 = Resources(gpu="H100:1")
SPOT = Resources(gpu="H100:1", spot=True)


@pytest.fixture(autouse=True)
def _no_account_of_the_user(monkeypatch, tmp_path):
    """What AWS's tools left on this machine is not looked at."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


class TestEc2(CloudSuite):
    cloud_class = fake.Ec2
    quick_s = 2.0  # moto takes its time
    one_odd_of = 29
    spoilt_rows = 1  # its answers are boto's, whose rows have their kinds
    provider_name = "ec2"
    page_size = "page"
    keys = {"access_key_id": fake.KEY_ID, "secret_access_key": fake.SECRET}  # noqa: RUF012
    settings = {"region": fake.REGION}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "tags": True, "idempotency_key": True,
        "end_self_argv": ("sudo", "-n", "shutdown", "-h", "now"), "spot": True,
    }  # fmt: skip
    get_call = "list_instances"

    def break_machine(self, cloud, machine):
        machine.status = "stopped"

    # -- refusals -------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("status", "code", "error"),
        [
            (500, "InsufficientInstanceCapacity", errors.NoCapacity),
            (500, "InsufficientHostCapacity", errors.NoCapacity),
            (400, "InsufficientFreeAddressesInSubnet", errors.NoCapacity),
            (500, "InsufficientReservedInstanceCapacity", errors.NoCapacity),
            (500, "InsufficientCapacity", errors.NoCapacity),
            (400, "ReservationCapacityExceeded", errors.NoCapacity),
            (400, "UnfulfillableCapacity", errors.NoCapacity),
            (400, "SpotMaxPriceTooLow", errors.NoCapacity),
            (400, "Unsupported", errors.NoCapacity),
            (400, "VcpuLimitExceeded", errors.QuotaExceeded),
            (400, "InstanceLimitExceeded", errors.QuotaExceeded),
            (400, "MaxSpotInstanceCountExceeded", errors.QuotaExceeded),
            (503, "RequestLimitExceeded", errors.RateLimited),
            (400, "Throttling", errors.RateLimited),
            (400, "PendingVerification", errors.PaymentNeeded),
            (400, "Blocked", errors.PaymentNeeded),
            (403, "UnauthorizedOperation", errors.ProviderAuthError),
            (400, "RequestExpired", errors.ProviderAuthError),
            (400, "InvalidParameterValue", errors.ProviderError),
            (400, "UnsupportedOperation", errors.ProviderError),
            (503, "Unavailable", errors.ProviderUnavailable),
            (500, "InternalError", errors.ProviderUnavailable),
        ],
    )
    def test_refusals_mean_what_they_say(self, cloud, subject, status, code, error):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(H100))[0]
            cloud.refusals["RunInstances"] = (status, code)
            with pytest.raises(errors.ProviderError) as refused:
                await provider.create(offer, subject.order(fresh_tag()))
            assert type(refused.value) is error
            assert code in refused.value.message
            assert await provider.list_tagged() == []

        asyncio.run(scenario())

    def test_a_zone_without_capacity_leaves_it_to_the_next(self, cloud, subject):
        cloud.sold_out |= {("p5.4xlarge", "us-east-1a"), ("p5.4xlarge", "us-east-1b")}
        made = asyncio.run(rented(subject, subject.fresh()))
        assert cloud.zone_of(made.id) == "us-east-1c"

    def test_a_reservation_that_is_used_up_leaves_it_to_the_next_zone(
        self, cloud, subject, monkeypatch
    ):
        def full(form):
            if cloud._zone(form) == "us-east-1a":
                raise fake._refuse(400, "ReservationCapacityExceeded", "The reservation is full.")

        monkeypatch.setattr(cloud, "_require_room", full)
        made = asyncio.run(rented(subject, subject.fresh()))
        assert cloud.zone_of(made.id) == "us-east-1b"

    @pytest.mark.parametrize(
        ("code", "said"),
        [
            ("Client.VolumeLimitExceeded", "Volume limit exceeded"),
            ("Server.InternalError", "Internal error on launch"),
            ("Server.SpotInstanceTermination", "Spot instance termination"),
        ],
    )
    def test_why_aws_itself_ended_an_instance_is_said(self, cloud, subject, code, said):
        """Promise 5; and promise 2: once somebody has ended it, it is gone."""

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.take_away(cloud.machines[made.id], code, f"{code}: {said}")
            found = await provider.get(made.id)
            assert found.status is InstanceStatus.DEAD
            assert found.detail == f"ec2 says terminated {code}: {said}"
            assert await provider.list_tagged() == []
            await provider.terminate(made.id)
            assert await provider.get(made.id) is None

        asyncio.run(scenario())

    def test_an_instance_that_ended_itself_is_gone(self, cloud, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            code = "Client.InstanceInitiatedShutdown"
            cloud.take_away(cloud.machines[made.id], code, f"{code}: Instance initiated shutdown")
            assert await subject.fresh().get(made.id) is None

        asyncio.run(scenario())

    def test_an_empty_answer_is_no_knowledge_of_an_instance(self, cloud, subject):
        """Neither that it is known, after create, nor that it is gone."""

        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(H100))[0]
            cloud.fail("list_instances", "empty")
            before = cloud.asked("list_instances")
            made = await provider.create(offer, subject.order(fresh_tag()))
            assert cloud.asked("list_instances") == before + 2
            cloud.fail("list_instances", "empty")
            with pytest.raises(errors.ProviderUnavailable):
                await provider.get(made.id)

        asyncio.run(scenario())

    def test_no_zone_with_capacity_is_no_capacity(self, cloud, subject):
        cloud.sold_out |= {("p5.4xlarge", f"us-east-1{letter}") for letter in "abcdef"}
        with pytest.raises(errors.NoCapacity, match="sufficient p5.4xlarge capacity"):
            asyncio.run(rented(subject, subject.fresh()))

    def test_a_quota_that_is_used_up_is_said_to_be_one(self, cloud, subject):
        cloud.quota = 8
        with pytest.raises(errors.QuotaExceeded):
            asyncio.run(rented(subject, subject.fresh()))

    # -- the same create is made once -----------------------------------------------------------

    @pytest.mark.parametrize("kind", ["500_after", "reset_after", "garbage_after", "late"])
    def test_a_create_whose_answer_was_lost_is_not_made_twice(self, cloud, subject, kind):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            offer = (await provider.offers(H100))[0]
            cloud.fail("launch", kind)
            with pytest.raises((errors.ProviderUnavailable, errors.ProviderReplyError)):
                await provider.create(offer, order)
            made = await subject.fresh().create(offer, order)
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    def test_another_offer_of_the_same_run_is_another_create(self, cloud, subject):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            one, other = [await provider.offers(Resources(gpu=gpu)) for gpu in ("H100:1", "L4:1")]
            first = await provider.create(one[0], order)
            second = await provider.create(other[0], order)
            assert first.id != second.id

        asyncio.run(scenario())

    def test_after_its_instance_has_ended_an_offer_can_be_had_again(self, cloud, subject):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            offer = (await provider.offers(H100))[0]
            first = await provider.create(offer, order)
            await gone(provider, first.id)
            second = await provider.create(offer, order)
            assert second.id != first.id
            assert (await provider.get(second.id)).status is not InstanceStatus.DEAD

        asyncio.run(scenario())

    def test_a_new_image_does_not_make_a_lost_create_another(self, cloud, subject):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            offer = (await provider.offers(H100))[0]
            cloud.fail("launch", "reset_after")
            with pytest.raises(errors.ProviderUnavailable):
                await provider.create(offer, order)
            cloud.publish_image()
            with pytest.raises(errors.ProviderUnavailable, match="IdempotentParameterMismatch"):
                await provider.create(offer, order)  # the caller finds it by its tag
            assert [one.tag for one in await provider.list_tagged()] == [order.tag]
            assert len(cloud.alive()) == 1

        asyncio.run(scenario())

    def test_a_new_host_key_is_no_hindrance_once_the_instance_has_ended(self, cloud, subject):
        async def scenario():
            provider, order = subject.fresh(), subject.order(fresh_tag())
            offer = (await provider.offers(H100))[0]
            await gone(provider, (await provider.create(offer, order)).id)
            private, public = key_pair()
            other = dataclasses.replace(order, host_key=private, host_public_key=public)
            made = await provider.create(offer, other)
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    def test_a_new_instance_that_is_not_known_yet_is_found_later(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            offer = (await provider.offers(H100))[0]
            cloud.fail("launch", "late")
            with pytest.raises(errors.ProviderUnavailable):
                await provider.create(offer, subject.order(tag))
            (machine,) = cloud.ours()
            assert await provider.get(InstanceId(machine.id)) is None
            deadline = time.monotonic() + 10
            while not (found := await provider.list_tagged()):
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert [one.tag for one in found] == [tag]

        asyncio.run(scenario())

    def test_an_instance_is_known_when_create_returns(self):
        async def scenario(cloud):
            provider = self.subject_of(cloud).fresh()
            offer = (await provider.offers(H100))[0]
            made = await provider.create(offer, self.subject_of(cloud).order(fresh_tag()))
            assert (await provider.get(made.id)).tag == made.tag
            assert [one.id for one in await provider.list_tagged()] == [made.id]

        with fake.Ec2(known_late_s=0.7, boxes=False) as cloud:
            asyncio.run(scenario(cloud))

    def test_a_create_has_succeeded_whatever_the_look_after_it_says(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(H100))[0]
            cloud.fail("list_instances", "500")
            made = await provider.create(offer, subject.order(fresh_tag()))
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    # -- what is rented -------------------------------------------------------------------------

    def test_the_request_asks_for_what_keeps_the_account_safe(self, cloud, subject):
        asyncio.run(rented(subject, subject.fresh()))
        ((form, _machine, _text),) = cloud.tokens.values()
        expected = {
            "InstanceInitiatedShutdownBehavior": "terminate",
            "MetadataOptions.HttpTokens": "required",
            "BlockDeviceMapping.1.Ebs.DeleteOnTermination": "true",
            "NetworkInterface.1.AssociatePublicIpAddress": "true",
            "MinCount": "1",
            "MaxCount": "1",
        }
        assert {key: form.get(key) for key in expected} == expected
        assert "InstanceMarketOptions.MarketType" not in form

    @pytest.mark.logs_in
    def test_an_instance_ends_itself_without_any_key(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            address = await subject.address(made)
            deadline = time.monotonic() + 10
            while not (await SshDialer().probe(address, 5)).text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            remote = await SshDialer().dial(address, KEYS[0], 10)
            done = await remote.run(list(provider.features.end_self_argv))
            await remote.close()
            assert done.exit_status == 0
            assert await provider.get(made.id) is None
            assert cloud.alive() == []
            assert cloud.asked("terminate") == 0

        asyncio.run(scenario())

    def test_an_instance_on_its_way_out_is_terminating(self):
        async def scenario(cloud):
            provider = self.subject_of(cloud).fresh()
            made = await rented(self.subject_of(cloud), provider)
            await provider.terminate(made.id)
            assert (await provider.get(made.id)).status is InstanceStatus.TERMINATING
            assert [one.status for one in await provider.list_tagged()] == ["terminating"]

        with fake.Ec2(delete_s=30) as cloud:
            asyncio.run(scenario(cloud))

    def test_an_instance_is_building_until_it_runs(self):
        async def scenario(cloud):
            provider = self.subject_of(cloud).fresh()
            offer = (await provider.offers(H100))[0]
            made = await provider.create(offer, self.subject_of(cloud).order(fresh_tag()))
            found = await provider.get(made.id)
            assert (found.status, found.address) == (InstanceStatus.BUILDING, None)

        with fake.Ec2(boot_s=60, boxes=False) as cloud:
            asyncio.run(scenario(cloud))

    @pytest.mark.parametrize(("wanted", "got"), [(None, 100), (250.5, 251), (1, 15)])
    def test_the_disk_is_as_large_as_asked_and_as_the_image(self, cloud, subject, wanted, got):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(H100))[0]
            order = dataclasses.replace(subject.order(fresh_tag()), disk_gb=wanted)
            made = await provider.create(offer, order)
            (volume,) = cloud.backend.volumes.values()
            assert volume.size == got
            await gone(provider, made.id)
            await provider.list_tagged()
            assert list(cloud.backend.volumes) == []

        asyncio.run(scenario())

    def test_a_volume_that_outlived_its_instance_is_a_leftover(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            volume = cloud.backend.create_volume(size=8, zone_name="us-east-1a")
            volume.add_tags({"Name": tag, "towline": tag})
            cloud.backend.create_volume(size=8, zone_name="us-east-1a")
            (found,) = await provider.leftovers({})
            assert (found.kind, found.id, found.tag) == ("volume", volume.id, tag)
            await provider.remove(found)
            await provider.remove(found)
            assert len(cloud.backend.volumes) == 1

        asyncio.run(scenario())

    # -- images ---------------------------------------------------------------------------------

    def _image(self, cloud, **settings):
        subject = self.subject_of(cloud, **settings)
        made = asyncio.run(rented(subject, subject.fresh()))
        return cloud.backend.get_instance(made.id).image_id

    def test_the_newest_usual_image_is_taken_and_no_stranger_s(self, cloud):
        assert self._image(cloud) == "ami-0000000000000dd02"

    def test_the_image_that_is_set_is_taken(self, cloud):
        assert self._image(cloud, image="ami-0000000000000dd01") == "ami-0000000000000dd01"

    def test_a_named_image_of_a_named_owner_is_taken(self, cloud):
        settings = {"image": "Deep Learning Base *", "image_owner": "666666666666"}
        assert self._image(cloud, **settings) == "ami-0000000000000bad1"

    @pytest.mark.parametrize("image", ["ami-0123456789abcdef0", "no such name *"])
    def test_an_image_that_is_not_there_is_refused_before_anything_is_made(self, cloud, image):
        subject = self.subject_of(cloud, image=image)
        with pytest.raises(errors.ProviderError):
            asyncio.run(rented(subject, subject.fresh()))
        assert cloud.left_over() == []

    # -- security groups ------------------------------------------------------------------------

    def test_a_group_is_removed_only_when_its_instance_is_gone(self):
        async def scenario(cloud):
            subject = self.subject_of(cloud)
            provider = subject.fresh()
            made = await rented(subject, provider)
            await provider.terminate(made.id)
            group = next(one for one in await provider.leftovers({}) if one.kind == "group")
            with pytest.raises(errors.ProviderUnavailable, match="DependencyViolation"):
                await provider.remove(group)
            await gone(provider, made.id)
            await provider.remove(group)
            assert [one.kind for one in await provider.leftovers({})] == ["key"]

        with fake.Ec2(delete_s=0.5) as cloud:
            asyncio.run(scenario(cloud))

    def test_a_group_that_is_not_known_everywhere_yet_is_waited_for(self):
        with fake.Ec2(group_late_s=0.7) as cloud:
            subject = self.subject_of(cloud)
            asyncio.run(rented(subject, subject.fresh()))

    @pytest.mark.parametrize("kind", ["500", "500_after"])
    def test_a_group_that_was_left_half_made_lets_ssh_in(self, cloud, subject, kind):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.fail("allow_ingress", kind)
            with pytest.raises(errors.ProviderUnavailable):
                await rented(subject, provider, tag)
            await rented(subject, provider, tag)
            (group,) = [
                one
                for groups in cloud.backend.groups.values()
                for one in groups.values()
                if one.name == tag
            ]
            assert [(rule.from_port, rule.to_port) for rule in group.ingress_rules] == [(22, 22)]

        asyncio.run(scenario())

    # -- offers ---------------------------------------------------------------------------------

    def test_only_types_with_a_price_are_offered(self, subject):
        offers = asyncio.run(subject.fresh().offers(Resources()))
        assert {one.type: one.price_usd_per_h for one in offers} == fake.PRICES
        assert {one.region for one in offers} == {fake.REGION}
        assert {one.available for one in offers} == {None}

    def test_the_volume_and_the_address_are_in_the_hour(self, subject):
        small = asyncio.run(subject.fresh().offers(self.need))[0]
        large = asyncio.run(subject.fresh().offers(dataclasses.replace(self.need, disk_gb=1100)))[0]
        assert small.storage_usd_per_h == pytest.approx(0.005 + 100 * 0.152 / 730)
        assert large.hour_usd - small.hour_usd == pytest.approx(1000 * 0.152 / 730)

    def test_prices_of_the_user_are_the_only_ones_and_need_no_api(self, cloud):
        prices = {"p5.4xlarge": 5, "t3.small": 0.02}
        provider = self.subject_of(cloud, prices=prices).fresh()
        offers = asyncio.run(provider.offers(Resources()))
        assert {one.type: one.price_usd_per_h for one in offers} == prices
        assert {one.type: one.gpu for one in offers} == {"p5.4xlarge": "H100", "t3.small": None}
        assert cloud.asked("products") == 0

    @pytest.mark.parametrize(
        "prices", [{"p5.4xlarge": 0}, {"p5.4xlarge": "5"}, ["p5"], {"a": True}]
    )
    def test_prices_that_are_none_are_refused(self, cloud, prices):
        with pytest.raises(errors.SpecError, match="providers.ec2.prices"):
            self.subject_of(cloud, prices=prices)

    def test_keys_that_may_not_ask_for_prices_are_told_the_setting(self, cloud, subject):
        cloud.refusals["GetProducts"] = (400, "AccessDeniedException")
        with pytest.raises(errors.ProviderAuthError) as refused:
            asyncio.run(subject.fresh().offers(H100))
        assert "prices: {p5.4xlarge" in refused.value.hint

    def test_a_part_of_a_gpu_is_not_offered_as_one(self, cloud):
        provider = self.subject_of(cloud, prices={"g6f.large": 0.2, "g6.xlarge": 0.8}).fresh()
        offers = asyncio.run(provider.offers(Resources(gpu="L4")))
        assert [one.type for one in offers] == ["g6.xlarge"]

    def test_spot_offers_have_the_price_of_this_moment_in_each_zone(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offers = [one for one in await provider.offers(SPOT) if one.spot]
            assert sorted(one.price_usd_per_h for one in offers) == [2.9, 3.1]
            cheap = min(offers, key=lambda one: one.price_usd_per_h)
            made = await provider.create(cheap, subject.order(fresh_tag()))
            assert cloud.zone_of(made.id) == "us-east-1b"
            assert (await provider.get(made.id)).price_usd_per_h == 2.9
            ((form, _machine, _text),) = cloud.tokens.values()
            assert form["InstanceMarketOptions.MarketType"] == "spot"
            assert form["InstanceMarketOptions.SpotOptions.SpotInstanceType"] == "one-time"

        asyncio.run(scenario())

    def test_a_spot_offer_is_not_tried_in_another_zone(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = next(one for one in await provider.offers(SPOT) if one.spot)
            cloud.sold_out.add(("p5.4xlarge", "us-east-1a"))
            with pytest.raises(errors.NoCapacity):
                await provider.create(offer, subject.order(fresh_tag()))
            assert cloud.asked("launch") == 1

        asyncio.run(scenario())

    def test_without_a_default_network_the_setting_is_named(self, cloud, subject):
        for subnets in cloud.backend.subnets.values():
            for subnet in subnets.values():
                subnet.default_for_az = False
        with pytest.raises(errors.ProviderError) as refused:
            asyncio.run(subject.fresh().offers(H100))
        assert "subnet" in refused.value.hint

    def test_the_subnet_that_is_set_is_the_only_one_used(self, cloud):
        zone = cloud.backend.subnets["us-east-1d"]
        subject = self.subject_of(cloud, subnet=next(iter(zone)))
        made = asyncio.run(rented(subject, subject.fresh()))
        assert cloud.zone_of(made.id) == "us-east-1d"

    def test_another_region_than_the_account_s_gets_no_offer(self, subject):
        assert asyncio.run(subject.fresh().offers(Resources(region="eu-west-1"))) == []

    # -- lists ----------------------------------------------------------------------------------

    def test_a_list_is_read_to_its_last_page(self, cloud, subject):
        async def scenario():
            for _ in range(2 * cloud.page):
                cloud.place_foreign("web-1")
            made = await rented(subject, subject.fresh())
            before = cloud.asked("list_instances")
            assert [one.id for one in await subject.fresh().list_tagged()] == [made.id]
            assert cloud.asked("list_instances") == before + 3

        asyncio.run(scenario())

    def test_a_page_that_can_not_be_read_makes_no_shorter_list(self, cloud, subject):
        async def scenario():
            await rented(subject, subject.fresh())
            for _ in range(cloud.page):
                cloud.place_foreign("web-1")
            provider, ask = subject.fresh(), cloud.list_instances
            answers = iter([ask, lambda _request: "<html>maintenance</html>"])
            cloud.list_instances = lambda request: next(answers)(request)  # noqa: PLW0108
            with pytest.raises(errors.ProviderReplyError):
                await provider.list_tagged()

        asyncio.run(scenario())

    # -- account --------------------------------------------------------------------------------

    def _with_keys(self, cloud, keys):
        other = type(self)()
        other.keys = keys
        return other.subject_of(cloud).fresh()

    def test_keys_of_the_environment_bring_their_session_token(self, cloud, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", fake.KEY_ID)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", fake.SECRET)
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-session")
        for keys in ({}, self.keys):
            asyncio.run(self._with_keys(cloud, keys).list_tagged())
            assert cloud.headers["x-amz-security-token"] == "of-the-session"

    def test_keys_of_the_account_go_before_those_of_the_environment(self, cloud, monkeypatch):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASOMEBODYELSES")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "other")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "of-the-session")
        asyncio.run(self._with_keys(cloud, self.keys).list_tagged())
        assert "x-amz-security-token" not in cloud.headers

    def test_no_keys_anywhere_is_said_plainly(self, cloud):
        with pytest.raises(errors.ProviderAuthError) as refused:
            asyncio.run(self._with_keys(cloud, {}).list_tagged())
        assert "towline login ec2" in refused.value.hint
        assert cloud.audit == []

    def test_the_region_may_come_from_the_environment(self, cloud, monkeypatch):
        monkeypatch.setenv("AWS_REGION", fake.REGION)
        provider = self.subject_of(cloud, region=None).fresh()
        assert {one.region for one in asyncio.run(provider.offers(H100))} == {fake.REGION}

    @pytest.mark.parametrize(
        "settings",
        [{"region": None}, {"profile": "nobody"}, {"base_url": "nonsense"}, {"subnets": []}],
    )
    def test_settings_that_can_not_be_used_are_named(self, cloud, settings):
        with pytest.raises(errors.SpecError) as refused:
            asyncio.run(self.subject_of(cloud, **settings).fresh().list_tagged())
        assert next(iter(settings)) in f"{refused.value.message} {refused.value.hint}"

    def test_a_quota_of_nothing_is_found_before_anything_is_rented(self, cloud, subject):
        cloud.quota = 0
        findings = asyncio.run(subject.fresh().check())
        assert len([one for one in findings if one.name == "quota" and one.fix]) == 4

    def test_quotas_that_may_not_be_read_are_no_fault(self, cloud, subject):
        cloud.refusals["GetServiceQuota"] = (400, "AccessDeniedException")
        findings = asyncio.run(subject.fresh().check())
        assert [one for one in findings if one.fix] == []
        assert "not known" in findings[-1].message


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (boto.EndpointConnectionError(endpoint_url="x"), errors.ProviderUnavailable),
        (boto.ConnectTimeoutError(endpoint_url="x"), errors.ProviderUnavailable),
        (boto.ReadTimeoutError(endpoint_url="x"), errors.ProviderUnavailable),
        (boto.ConnectionClosedError(endpoint_url="x"), errors.ProviderUnavailable),
        (boto.IncompleteReadError(actual_bytes=1, expected_bytes=2), errors.ProviderUnavailable),
        (boto.NoCredentialsError(), errors.ProviderAuthError),
        (boto.PartialCredentialsError(provider="x", cred_var="y"), errors.ProviderAuthError),
        (boto.UnauthorizedSSOTokenError(), errors.ProviderAuthError),
        (boto.ParamValidationError(report="x"), errors.ProviderError),
        (boto.PaginationError(message="x"), errors.ProviderReplyError),
        (ResponseParserError("x"), errors.ProviderReplyError),
        (boto.ClientError({}, "RunInstances"), errors.ProviderUnavailable),
    ],
)
def test_an_exception_of_botocore_s_has_one_meaning(error, ours):
    assert type(in_our_words(error)) is ours
