"""Driver `openstack` keeps the clouds' contract, against a stand-in built from the API reference."""

import asyncio
import dataclasses
import json
import os

import pytest
from clouds import openstack as fake

from tests.contracts.cloud_suite import CloudSuite
from tests.contracts.provider_suite import fresh_tag, gone, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus, Leftover
from towline.core.task import Resources
from towline.providers import make
from towline.providers.openstack_catalog import gpu_of
from towline.providers.openstack_reading import Lacking, refused, versioned
from towline.ssh.client import SshDialer


@pytest.fixture(autouse=True)
def _no_cloud_of_the_user(monkeypatch, tmp_path):
    """What OpenStack's tools left on this machine is not looked at."""
    for name in [name for name in os.environ if name.startswith("OS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))


class TestOpenStack(CloudSuite):
    cloud_class = fake.OpenStack
    provider_name = "openstack"
    page_size = "page_limit"
    own_things = 1  # its address
    one_odd_of = 7
    keys = {  # noqa: RUF012
        "application_credential_id": fake.CREDENTIAL,
        "application_credential_secret": fake.SECRET,
    }
    settings = fake.OpenStack.settings
    expect = {  # noqa: RUF012
        "host_key_grade": "A", "user_data": True, "tags": True, "powered_off_bills": True,
        "spot": False,
    }  # fmt: skip

    def break_machine(self, cloud, machine):
        machine.status = "ERROR"

    # -- offers ---------------------------------------------------------------------------------

    def offers(self, subject, gpu=None):
        found = asyncio.run(subject.fresh().offers(Resources(gpu=gpu)))
        return {offer.type: offer for offer in found}

    def test_flavors_with_gpus_are_offered_by_alias_resource_or_name(self, subject):
        found = {name: (one.gpu, one.gpus) for name, one in self.offers(subject).items()}
        assert found == {
            "g1.h100.1": ("H100", 1), "g1.h100.2": ("H100", 2), "g1.a100-80gb": ("A100", 1),
            "gp.l40s": ("L40S", 1),
        }  # fmt: skip

    def test_a_cloud_that_hides_its_extra_specs_is_read_by_names(self, cloud, subject):
        cloud.shows_specs = False
        found = {name: (one.gpu, one.gpus) for name, one in self.offers(subject).items()}
        assert found["g1.h100.1"] == ("H100", 1)
        assert "vgpu.half" not in found

    def test_the_setting_gpus_has_the_last_word(self, cloud):
        subject = self.subject_of(cloud, gpus={"vgpu.half": "A16:1", "g1.h100.2": "H200:4"})
        found = {name: (one.gpu, one.gpus) for name, one in self.offers(subject).items()}
        assert found["vgpu.half"] == ("A16", 1)
        assert found["g1.h100.2"] == ("H200", 4)

    def test_memory_is_read_from_a_name_unless_it_is_the_machines_own(self, cloud, subject):
        cloud.flavors["a100.64gb"] = ("A100", 1, 50, {})
        found = {name: one.vram_gb for name, one in self.offers(subject, "A100").items()}
        assert found == {"g1.a100-80gb": 80.0, "a100.64gb": None}

    def test_a_flavor_without_a_price_is_not_offered_and_check_names_it(self, cloud):
        subject = self.subject_of(cloud, prices={"g1.h100.1": 0})
        assert {name: one.price_usd_per_h for name, one in self.offers(subject).items()} == {
            "g1.h100.1": 0.0
        }
        (wrong,) = [one for one in asyncio.run(subject.fresh().check()) if one.fix]
        assert wrong.message.startswith("flavors without a price: g1.h100.2, ")
        assert "prices" in wrong.fix

    def test_prices_and_region_are_those_of_the_account(self, subject):
        offers = self.offers(subject)
        assert {name: one.price_usd_per_h for name, one in offers.items()} == {
            "g1.h100.1": 2.5, "g1.h100.2": 5.0, "g1.a100-80gb": 1.25, "gp.l40s": 1.25,
        }  # fmt: skip
        assert {one.available for one in offers.values()} == {None}

    def test_what_the_quota_has_no_room_for_is_out_of_stock(self, cloud, subject):
        cloud.quota["cores"] = 16
        found = {name: one.available for name, one in self.offers(subject, None).items()}
        assert (found["g1.h100.1"], found["g1.h100.2"]) == (None, False)

    @pytest.mark.parametrize(
        "settings",
        [
            {"prices": {"g1.h100.1": -1}}, {"prices": 2}, {"prices": {"*": "much"}},
            {"gpus": {"g1.h100.1": "many"}}, {"gpus": "H100"}, {"floating_ip": "no"},
            {"nework": "x"}, {"timeout_s": "soon"},
        ],
    )  # fmt: skip
    def test_a_setting_that_can_not_be_meant_is_refused(self, cloud, settings):
        with pytest.raises(errors.SpecError):
            self.subject_of(cloud, **settings)

    # -- where the cloud is ---------------------------------------------------------------------

    def made(self, keys=None, **settings):
        return make(
            "openstack", home=None, keys=self.keys if keys is None else keys, dialer=SshDialer(),
            clock=RealClock(), settings={**self.settings, "timeout_s": 5, **settings},
        )  # fmt: skip

    def test_no_url_is_an_error_that_names_the_ways_to_give_one(self):
        with pytest.raises(errors.SpecError) as raised:
            self.made()
        for way in ("base_url", "OS_AUTH_URL", "clouds.yaml", "OS_CLOUD"):
            assert way in raised.value.hint

    def test_the_url_of_the_environment_does(self, cloud, monkeypatch):
        monkeypatch.setenv("OS_AUTH_URL", f"{cloud.base_url}/v3")
        assert asyncio.run(self.made().list_tagged()) == []

    @pytest.mark.parametrize("by", ["setting", "variable"])
    def test_clouds_yaml_does(self, cloud, monkeypatch, tmp_path, by):
        monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(tmp_path / "clouds.yaml"))
        auth = {"auth_url": cloud.base_url, **self.keys}
        mine = {"auth_type": "v3applicationcredential", "auth": auth, "region_name": fake.REGION}
        (tmp_path / "clouds.yaml").write_text(json.dumps({"clouds": {"mine": mine, "x": {}}}))
        if by == "variable":
            monkeypatch.setenv("OS_CLOUD", "mine")
        made = self.made(keys={}, **({"cloud": "mine"} if by == "setting" else {}))
        (offer,) = asyncio.run(made.offers(self.need))
        assert offer.region == fake.REGION

    def test_the_variables_of_openstacks_own_tools_do(self, cloud, monkeypatch):
        monkeypatch.setenv("OS_AUTH_TYPE", "v3applicationcredential")
        monkeypatch.setenv("OS_AUTH_URL", cloud.base_url)
        for name, value in self.keys.items():
            monkeypatch.setenv(f"OS_{name.upper()}", value)
        assert asyncio.run(self.made(keys={}).list_tagged()) == []

    def test_a_login_by_password_does(self, cloud, monkeypatch):
        monkeypatch.setenv("OS_AUTH_URL", cloud.base_url)
        monkeypatch.setenv("OS_USERNAME", "me")
        monkeypatch.setenv("OS_PASSWORD", fake.SECRET)
        monkeypatch.setenv("OS_PROJECT_NAME", "mine")
        monkeypatch.setenv("OS_USER_DOMAIN_NAME", "Default")
        monkeypatch.setenv("OS_PROJECT_DOMAIN_NAME", "Default")
        assert asyncio.run(self.made(keys={}).list_tagged()) == []

    def test_a_url_of_the_settings_goes_with_the_variables_for_the_rest(self, cloud, monkeypatch):
        monkeypatch.setenv("OS_AUTH_TYPE", "v3applicationcredential")
        for name, value in self.keys.items():
            monkeypatch.setenv(f"OS_{name.upper()}", value)
        made = self.made(keys={}, base_url=cloud.base_url)
        assert asyncio.run(made.list_tagged()) == []

    def test_no_credentials_at_all_says_how_to_give_some(self, cloud):
        with pytest.raises(errors.CredentialsError) as raised:
            self.made(keys={}, base_url=cloud.base_url)
        assert "towline login openstack" in raised.value.hint

    def test_half_of_the_credentials_is_none(self, cloud):
        with pytest.raises(errors.CredentialsError):
            self.made(keys={"application_credential_id": "x"}, base_url=cloud.base_url)

    def test_a_cloud_that_clouds_yaml_lacks_is_named(self):
        with pytest.raises(errors.SpecError, match="nowhere"):
            self.made(keys={}, cloud="nowhere")

    @pytest.mark.parametrize("url", ["keystone.example", "ftp://keystone.example"])
    def test_a_url_that_is_none_is_an_error_of_the_settings(self, url):
        with pytest.raises(errors.SpecError):
            asyncio.run(self.made(base_url=url).list_tagged())

    def test_a_region_that_is_not_there_is_said(self, cloud):
        subject = self.subject_of(cloud, region="Mars")
        with pytest.raises(Lacking, match="in region Mars") as raised:
            asyncio.run(subject.fresh().list_tagged())
        assert "region" in raised.value.hint

    @pytest.mark.parametrize("kind", ["garbage", "500", "reset", "timeout"])
    def test_a_login_that_fails_says_nothing_of_instances(self, cloud, kind):
        cloud.fail("log_in", kind, times=4)
        error = errors.ProviderReplyError if kind == "garbage" else errors.ProviderUnavailable
        with pytest.raises(error):
            asyncio.run(self.quick(cloud).get("beb9b4c0-0ed8-469e-9ad7-4444c23e7fa6"))

    @pytest.mark.parametrize("status", [400, 401, 403, 404])
    def test_a_login_that_is_refused_is_an_authentication_error(self, cloud, subject, status):
        """Keystone answers 404 for an application credential that it does not know: nothing is
        gone for that, and nothing was ended."""

        async def scenario():
            made = await rented(subject, subject.fresh())

            def unknown(_request):
                said = {"code": status, "message": "Could not find it.", "title": "Not Found"}
                raise fake.Refuse(status, {"error": said})

            cloud.log_in = unknown
            for ask in (
                subject.fresh().get(made.id),
                subject.fresh().terminate(made.id),
                subject.fresh().list_tagged(),
                subject.fresh().leftovers({}),
            ):
                with pytest.raises(errors.ProviderAuthError):
                    await ask
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    def test_a_token_that_can_not_be_renewed_says_nothing_of_an_instance(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.tokens.clear()

            def unknown(_request):
                raise fake.Refuse(404, {"error": {"code": 404, "message": "x", "title": "y"}})

            cloud.log_in = unknown
            with pytest.raises(errors.ProviderAuthError):
                await provider.get(made.id)
            with pytest.raises(errors.ProviderAuthError):
                await provider.terminate(made.id)

        asyncio.run(scenario())

    @pytest.mark.parametrize("service", ["compute", "network"])
    def test_a_service_that_the_catalog_lacks_says_nothing_of_what_is_in_it(
        self, cloud, subject, service
    ):
        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.missing_services.add(service)
            address = Leftover(provider="openstack", kind="address", id="x", tag=made.tag)
            with pytest.raises(Lacking):
                await subject.fresh().list_tagged()
            with pytest.raises(Lacking):
                await subject.fresh().leftovers({})
            with pytest.raises(Lacking):
                if service == "compute":
                    await subject.fresh().terminate(made.id)
                else:
                    await subject.fresh().remove(address)

        asyncio.run(scenario())

    def test_a_list_whose_pages_have_no_end_is_an_error(self, cloud, subject):
        def distort(name, answer):
            status, body, headers = answer
            if name != "list_instances":
                return answer
            link = {"rel": "next", "href": "http://x/servers/detail?marker=z"}
            return status, {**body, "servers_links": [link]}, headers

        cloud.distort = distort
        with pytest.raises(errors.ProviderError):
            asyncio.run(subject.fresh().list_tagged())

    def test_a_login_without_a_token_can_not_be_read(self, cloud, subject, monkeypatch):
        answer = fake.Reply(201, {"token": {}})
        monkeypatch.setattr(fake.OpenStack, "log_in", lambda _self, _request: answer)
        with pytest.raises(errors.ProviderReplyError, match="Keystone"):
            asyncio.run(subject.fresh().list_tagged())

    def test_a_token_that_was_revoked_is_renewed_once(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            await provider.list_tagged()
            cloud.tokens.clear()
            assert await provider.list_tagged() == []
            assert cloud.asked("log_in") == 2

        asyncio.run(scenario())

    # -- create ---------------------------------------------------------------------------------

    def create(self, cloud, subject, spoil=lambda _cloud: None, gpu=None):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(Resources(gpu=gpu) if gpu else self.need))[0]
            spoil(cloud)
            return await provider.create(offer, subject.order(fresh_tag()))

        return asyncio.run(scenario())

    def refused(self, cloud, subject, spoil, error, match):
        with pytest.raises(error, match=match) as raised:
            self.create(cloud, subject, spoil)
        assert type(raised.value) is error
        assert cloud.ours() == []
        return raised.value

    def test_a_server_for_which_there_is_no_host_is_dead_and_says_why(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            cloud.no_host.add("g1.h100.1")
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            found = await provider.get(made.id)
            assert found.status is InstanceStatus.DEAD
            assert "No valid host was found" in found.detail
            await gone(provider, made.id)

        asyncio.run(scenario())

    @pytest.mark.parametrize("what", ["instances", "keys"])
    def test_a_quota_that_is_used_up_is_said_to_be_one(self, cloud, subject, what):
        spoil = lambda cloud: cloud.quota.update({what: 0})  # noqa: E731
        self.refused(cloud, subject, spoil, errors.QuotaExceeded, "[Qq]uota")

    def test_no_image_is_an_error_that_names_the_setting(self, cloud, subject):
        said = self.refused(
            cloud, subject, lambda cloud: cloud.images.clear(), errors.NotFound, "Ubuntu image"
        )
        assert "image" in said.hint

    @pytest.mark.parametrize(
        ("image", "used"),
        [(None, "image-2"), ("image-4", "image-4"), ("Debian 13", "image-4"), ("two", "image-8")],
    )
    def test_the_image_is_the_settings_else_the_newest_ubuntu_with_cuda(self, cloud, image, used):
        cloud.images += [
            fake._image("7", "two", "2026-01-01"),
            fake._image("8", "two", "2026-02-01"),
            fake._image("9", "Ubuntu 26.04 CUDA", "2026-11-26", status="queued"),
        ]
        subject = self.subject_of(cloud, **({"image": image} if image else {}))
        found = asyncio.run(subject.fresh()._catalog.image())
        assert found["id"] == used

    def test_no_network_is_an_error_that_names_the_setting(self, cloud, subject):
        def spoil(cloud):
            del cloud.networks["net-private"], cloud.networks["net-other"]

        said = self.refused(cloud, subject, spoil, errors.NotFound, "no network")
        assert "network" in said.hint

    def test_several_networks_are_an_error_that_lists_them(self, cloud, subject):
        said = self.refused(
            cloud, subject, lambda cloud: cloud.routed.append("net-other"), errors.NotFound,
            "private, unrouted",
        )  # fmt: skip
        assert "network" in said.hint

    @pytest.mark.parametrize("wanted", ["net-other", "unrouted"])
    def test_the_setting_network_decides(self, cloud, wanted):
        self.create(cloud, self.subject_of(cloud, network=wanted))
        assert [one.data["network"] for one in cloud.ours()] == ["net-other"]

    def test_a_network_that_is_not_there_is_named(self, cloud):
        subject = self.subject_of(cloud, network="lost")
        said = self.refused(cloud, subject, lambda _cloud: None, errors.NotFound, "'lost'")
        assert "private" in said.hint

    def test_without_an_external_network_nothing_is_made(self, cloud, subject):
        said = self.refused(
            cloud, subject, lambda cloud: cloud.networks.pop("net-public"), errors.NotFound,
            "no external network",
        )  # fmt: skip
        assert "floating_ip: false" in said.hint
        assert cloud.left_over() == []

    def test_a_flavor_without_a_disk_gets_a_volume_that_goes_with_it(self, cloud, subject):
        self.create(cloud, subject, gpu="A100")
        (volume,) = cloud.ours()[0].data["volume"]
        assert (volume["volume_size"], volume["delete_on_termination"]) == (100, True)

    def test_a_disk_that_is_too_small_becomes_a_volume(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            order = dataclasses.replace(subject.order(fresh_tag()), disk_gb=500.0)
            await provider.create((await provider.offers(self.need))[0], order)

        asyncio.run(scenario())
        (volume,) = cloud.ours()[0].data["volume"]
        assert volume["volume_size"] == 500

    def test_a_group_whose_rule_was_lost_gets_it(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.fail("add_rule", "500")
            with pytest.raises(errors.ProviderUnavailable):
                await rented(subject, provider, tag)
            await rented(subject, provider, tag)  # the stand-in minds a group without the rule
            assert len(cloud.left_over()) == 3

        asyncio.run(scenario())

    # -- addresses ------------------------------------------------------------------------------

    def active(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            made = await provider.create(offer, subject.order(fresh_tag()))
            return provider, await provider.get(made.id)

        return asyncio.run(scenario())

    def ours(self, cloud):
        return [one for one in cloud.addresses.values() if one["description"] != "the web site's"]

    def test_the_fixed_address_is_none(self, cloud, subject):
        _provider, found = self.active(cloud, subject)
        assert (found.status, found.address) == (InstanceStatus.ACTIVE, None)

    @pytest.mark.parametrize("kind", ["500_after", "reset_after", "garbage_after", "timeout_after"])
    def test_an_address_whose_answer_was_lost_is_found_and_not_made_twice(
        self, cloud, subject, kind
    ):
        _provider, found = self.active(cloud, subject)
        provider = self.quick(cloud)
        cloud.fail("add_address", kind)
        with pytest.raises((errors.ProviderUnavailable, errors.ProviderReplyError)):
            asyncio.run(provider.attach_address(found, None))
        asyncio.run(subject.fresh().attach_address(found, None))
        assert len(self.ours(cloud)) == 1
        assert asyncio.run(subject.fresh().get(found.id)).address is not None

    def test_a_look_of_yesterday_makes_no_second_address(self, cloud, subject):
        provider, found = self.active(cloud, subject)
        asyncio.run(provider.attach_address(found, None))
        cloud.fail("list_addresses", "partial")
        with pytest.raises(errors.ProviderUnavailable):
            asyncio.run(provider.attach_address(found, None))
        assert len(self.ours(cloud)) == 1

    def test_the_next_server_of_a_run_takes_its_address_over(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            one = await rented(subject, provider, tag)
            await gone(provider, one.id)
            assert len(self.ours(cloud)) == 1  # it stays, as Neutron's do
            two = await rented(subject, provider, tag)
            assert two.address is not None
            assert len(self.ours(cloud)) == 1

        asyncio.run(scenario())

    def test_an_instance_without_ipv4_is_said_and_not_waited_for(self, cloud, subject):
        provider, found = self.active(cloud, subject)
        cloud.machines[found.id].data["fixed"] = "fd00::6"
        with pytest.raises(errors.ProviderError, match="no IPv4") as raised:
            asyncio.run(provider.attach_address(found, None))
        assert type(raised.value) is errors.ProviderError

    def test_no_more_addresses_is_a_quota(self, cloud, subject):
        provider, found = self.active(cloud, subject)
        cloud.quota["addresses"] = 0
        with pytest.raises(errors.QuotaExceeded):
            asyncio.run(provider.attach_address(found, None))

    def test_a_network_that_no_router_connects_is_said_and_not_waited_for(self, cloud):
        provider, found = self.active(cloud, self.subject_of(cloud, network="unrouted"))
        with pytest.raises(errors.ProviderError, match="not reachable") as raised:
            asyncio.run(provider.attach_address(found, None))
        assert type(raised.value) is errors.ProviderError
        assert "router" in raised.value.hint

    def test_an_instance_in_a_public_network_needs_no_address_of_its_own(self, cloud):
        cloud.networks["net-public"]["shared"] = True
        subject = self.subject_of(cloud, floating_ip=False, network="public")
        provider, found = self.active(cloud, subject)
        asyncio.run(provider.attach_address(found, None))
        assert found.address.host == cloud.ours()[0].data["fixed"]
        assert self.ours(cloud) == []

    # -- what it says ---------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("word", "status"),
        [
            ("BUILD", "building"), ("ACTIVE", "active"), ("PASSWORD", "active"),
            ("MIGRATING", "active"), ("VERIFY_RESIZE", "active"), ("REBOOT", "building"),
            ("HARD_REBOOT", "building"), ("RESIZE", "building"), ("REVERT_RESIZE", "building"),
            ("UNKNOWN", "building"), ("ERROR", "dead"), ("REBUILD", "dead"), ("RESCUE", "dead"),
            ("SHUTOFF", "dead"), ("PAUSED", "dead"), ("SUSPENDED", "dead"), ("SHELVED", "dead"),
            ("SHELVED_OFFLOADED", "dead"), ("DELETED", None), ("SOFT_DELETED", None),
        ],
    )  # fmt: skip
    def test_every_word_of_novas_has_a_meaning(self, cloud, subject, word, status):
        made = self.create(cloud, subject)
        cloud.machines[made.id].status = word
        found = asyncio.run(subject.fresh().get(made.id))
        assert (found and found.status) == status
        listed = asyncio.run(subject.fresh().list_tagged())
        assert [one.status for one in listed] == ([status] if status else [])

    def test_a_server_being_deleted_may_still_bill(self, cloud, subject):
        self.check_being_deleted(cloud, subject)

    def test_a_server_that_was_renamed_is_ours_by_its_metadata(self, cloud, subject):
        made = self.create(cloud, subject)
        cloud.machines[made.id].name = "renamed"
        assert [one.tag for one in asyncio.run(subject.fresh().list_tagged())] == [made.tag]

    def test_lists_are_read_to_their_end(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = [await rented(subject, provider) for _ in range(3)]
            for number in range(4):
                cloud.place_foreign(f"web-{number}")
            cloud.page_limit = 2
            listed = await provider.list_tagged()
            assert {one.id for one in listed} == {one.id for one in made}
            tags = [one.tag for one in await provider.leftovers({})]
            assert sorted(tags) == sorted([one.tag for one in made] * 3)
            assert len(await provider.offers(Resources())) == 4
            assert (await provider._catalog.image())["id"] == "image-2"

        asyncio.run(scenario())

    def test_a_group_in_use_is_tried_again(self, cloud, subject):
        made = self.create(cloud, subject)
        (group,) = [
            one for one in asyncio.run(subject.fresh().leftovers({})) if one.kind == "group"
        ]
        with pytest.raises(errors.ProviderUnavailable, match="in use"):
            asyncio.run(subject.fresh().remove(group))
        asyncio.run(gone(subject.fresh(), made.id))
        asyncio.run(subject.fresh().remove(group))
        assert made.tag not in [one["name"] for one in cloud.groups.values()]

    def test_a_leftover_whose_id_is_no_id_is_gone(self, cloud, subject):
        wrong = Leftover(provider="openstack", kind="group", id="../routers", tag="")
        asyncio.run(subject.fresh().remove(wrong))
        assert cloud.audit == []

    # -- check ----------------------------------------------------------------------------------

    @pytest.mark.parametrize(
        ("spoil", "name"),
        [
            (lambda cloud: cloud.missing_services.add("network"), "network"),
            (lambda cloud: cloud.quota.update(instances=0), "quota"),
            (lambda cloud: cloud.images.clear(), "image"),
            (lambda cloud: cloud.routed.append("net-other"), "network"),
            (lambda cloud: cloud.networks.pop("net-public"), "external network"),
            (lambda cloud: cloud.flavors.clear(), "offers"),
        ],
    )
    def test_check_names_the_one_thing_that_is_missing(self, cloud, subject, spoil, name):
        spoil(cloud)
        wrong = [one.name for one in asyncio.run(subject.fresh().check()) if one.fix]
        assert wrong == [name]

    def test_check_tells_what_is_left_of_the_quota(self, subject):
        found = {one.name: one.message for one in asyncio.run(subject.fresh().check())}
        assert found["quota"] == "instances: 100 of 100, vcpus: 1000 of 1000 left"
        assert found["project"] == fake.PROJECT


@pytest.mark.parametrize(
    ("specs", "name", "found"),
    [
        ({"pci_passthrough:alias": "nic-x710:1,h100:8"}, "big", ("H100", 8)),
        ({"pci_passthrough:alias": "gpu:2"}, "g.l40s", ("L40S", 2)),
        ({"resources:CUSTOM_GPU_H200": "4"}, "big", ("H200", 4)),
        ({"resources:VGPU": "1", "trait:CUSTOM_NVIDIA_A40": "required"}, "v", ("A40", 1)),
        ({"trait:HW_CPU_X86_AVX512F": "required"}, "m1.large", None),
        ({"pci_passthrough:alias": "gpu:1"}, "big", None),
        ({}, "gpu_2x_a100", ("A100", 2)),
        ({}, "m1.large", None),
    ],
)
def test_what_extra_specs_say_of_gpus(specs, name, found):
    read = gpu_of({"name": name, "ram": 1024, "extra_specs": specs})
    assert (read and (read[0].model, read[1])) == found


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (403, {"forbidden": {"code": 403, "message": "Quota exceeded for cores"}}, "QuotaExceeded"),
        (403, {"forbidden": {"code": 403, "message": "Policy does not allow"}}, "ProviderAuthError"),
        (413, {"overLimit": {"code": 413, "message": "This was rate-limited"}}, "RateLimited"),
        (429, {"overLimit": {"code": 429, "message": "slow"}}, "RateLimited"),
        (409, {"NeutronError": {"type": "OverQuota", "message": "Quota exceeded"}}, "QuotaExceeded"),
        (409, {"NeutronError": {"type": "IpAddressGenerationFailure", "message": "x"}}, "NoCapacity"),
        (409, {"conflictingRequest": {"code": 409, "message": "busy"}}, "ProviderUnavailable"),
        (500, {"computeFault": {"code": 500, "message": "No valid host was found"}}, "NoCapacity"),
        (503, "<html>down</html>", "ProviderUnavailable"),
        (400, ["odd"], "ProviderError"),
    ],
)  # fmt: skip
def test_refusals_mean_what_they_say(status, body, error):
    text = body if isinstance(body, str) else json.dumps(body)
    assert type(refused(status, text, "7")).__name__ == error


def test_a_wish_to_wait_is_passed_on():
    assert refused(429, "{}", "7").retry_after_s == 7.0
    assert refused(429, "{}", "Sat, 28 Nov 2026 23:00:00 GMT").retry_after_s is None


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("https://c/compute/v2.1", "https://c/compute/v2.1"),
        ("https://c:8774/v2.1/4fd44f30", "https://c:8774/v2.1/4fd44f30"),
        ("https://c:9696/", "https://c:9696/v2.0"),
        ("https://c/vnet", "https://c/vnet/v2.0"),
    ],
)
def test_an_endpoint_without_a_version_gets_the_usual_one(url, found):
    assert versioned(url, "v2.0") == found
