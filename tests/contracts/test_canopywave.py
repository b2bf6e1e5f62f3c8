"""Driver `canopywave` keeps the clouds' contract, against a stand-in without a specification."""

import asyncio
import itertools
import re
import time

import pytest
from clouds import canopywave as fake

from tests.contracts.cloud_suite import KEYS, CloudSuite
from tests.contracts.provider_suite import Notes, fresh_tag, gone, key_pair, rented
from towline import errors
from towline.core.instance import InstanceId, InstanceStatus, Order
from towline.core.task import Resources
from towline.providers.canopywave_reading import in_stock, kind_of, row_of_server, without

ANY = Resources(gpu=None)


class Base(CloudSuite):
    cloud_class = fake.CanopyWave
    provider_name = "canopywave"
    own_things = 1  # its address
    keys = {"api_key": fake.KEY}  # noqa: RUF012
    expect = {  # noqa: RUF012
        "host_key_grade": "B", "user_data": False, "tags": False, "powered_off_bills": None,
        "password_login": True, "console_url": "https://cloud.canopywave.io", "rented": True,
    }  # fmt: skip


class TestContract(Base):
    dispensable = ("instance_types",)
    get_call = "list_instances"  # one instance is asked for only when the list lacks it


@pytest.fixture
def suite():
    return Base()


@pytest.fixture
def cloud():
    with fake.CanopyWave() as cloud:
        yield cloud
        assert cloud.violations == []


@pytest.fixture
def fresh(suite, cloud):
    """Make a driver over the cloud, with more settings if need be."""
    return lambda **settings: suite.subject_of(cloud, **settings).fresh()


def order(tag=None, public_key=KEYS[1]):
    return Order(tag=tag or fresh_tag(), public_key=public_key)


def offers_of(provider, need=ANY):
    return asyncio.run(provider.offers(need))


def finding(provider, name):
    (found,) = [one for one in asyncio.run(provider.check()) if one.name == name]
    return found


class TestOffers:
    def test_each_type_is_offered_in_each_region(self, cloud, fresh):
        offers = offers_of(fresh())
        assert {(one.type, one.region) for one in offers} == set(
            itertools.product([one["flavor"] for one in cloud.types], cloud.regions)
        )

    def test_an_offer_tells_the_machine_and_what_launch_wants(self, fresh):
        (offer,) = offers_of(fresh(region="KEF-3"), Resources(gpu="H100:4"))
        assert (offer.type, offer.region, offer.available) == ("H100-4", "KEF-3", True)
        assert (offer.gpu, offer.gpus, offer.vram_gb) == ("H100", 4, 80.0)
        assert (offer.price_usd_per_h, offer.payload) == (9.0, {"image": "GPU-Ubuntu.24.04"})

    def test_a_machine_of_processors_has_no_gpu(self, fresh):
        (offer,) = [one for one in offers_of(fresh(region="KEF-2")) if one.type == "m1.advanced"]
        assert (offer.gpu, offer.gpus, offer.price_usd_per_h) == (None, 0, 0.56)
        assert offer.payload["image"] == "CPU-Ubuntu.24.04"

    def test_a_chosen_image_is_started_and_types_without_it_are_not_offered(self, fresh):
        offers = offers_of(fresh(image="GPU-Ubuntu.22.04"))
        assert {one.type for one in offers} == {"H100-1", "H100-4"}
        assert {one.payload["image"] for one in offers} == {"GPU-Ubuntu.22.04"}

    def test_a_region_without_a_call_for_regions_comes_from_the_settings(self, cloud, fresh):
        cloud.has_regions = False
        assert {one.region for one in offers_of(fresh(region="KEF-2"))} == {"KEF-2"}
        with pytest.raises(errors.ProviderError, match="no regions") as raised:
            offers_of(fresh())
        assert "providers.canopywave.region" in raised.value.hint

    def test_of_two_prices_the_larger_counts_and_the_offer_says_so(self, cloud, fresh):
        cloud.types.append(fake.H200)
        (offer,) = offers_of(fresh(region="KEF-2"), Resources(gpu="H200:8"))
        assert offer.price_usd_per_h == 24.0
        assert offer.payload["price_note"] == (
            "listed as $18.00/h and, by its text, as $24.00/h"
        )  # fmt: skip

    def test_a_type_without_a_price_is_not_given_away(self, cloud, fresh):
        cloud.types[0] |= {"price": None, "priceHour": "on request"}
        assert offers_of(fresh(), Resources(gpu="H100:1")) == []
        assert "1x H100 (80 GB SXM5) has none" in finding(fresh(), "prices").message

    @pytest.mark.parametrize(
        ("cents", "text", "usd", "noted"),
        [
            (900, "$2.25 / gpu / hour", 9.0, False),
            (900, None, 9.0, False),
            (None, "$2.25 / gpu / hour", 9.0, False),
            (900, "$9.00 / hour", 9.0, False),
            (900, "$9 per hour", 9.0, False),
            (900, "ask us", 9.0, False),
            (900, "$2.5 / GPU / hour", 10.0, True),
            (1200, "$2.25/gpu/hour", 12.0, True),
            (0, "", None, False),
            ("900", "", None, False),
        ],
    )
    def test_both_forms_of_a_price(self, cents, text, usd, noted):
        row = {"flavor": "H100-4", "name": "4x H100", "price": cents, "priceHour": text}
        kind = kind_of(row)
        assert (kind.price_usd_per_h, bool(kind.price_note)) == (usd, noted)

    @pytest.mark.parametrize(
        ("answer", "available"),
        [
            ({"KEF-2_H100-1_available_vms": 2}, True),
            ({"kef-2_h100-1_available_vms": 2}, True),
            ({"KEF-2_H100-1_available_vms": 0}, False),
            ({"available": True}, True),
            ({"available": False}, False),
            ({"available": "soon"}, None),
            ({"KEF-2_H100-1_available_vms": True}, None),
            ({"KEF-2_H100-1_available_vms": None}, None),
            ({"KEF-3_H100-1_available_vms": 2}, None),
            ({}, None),
            ([], None),
            (None, None),
            (2, None),
            ("yes", None),
        ],
    )
    def test_stock_of_an_unknown_shape_is_unknown(self, cloud, fresh, answer, available):
        cloud.stock["KEF-2", "H100-1"] = answer
        (offer,) = offers_of(fresh(region="KEF-2"), Resources(gpu="H100:1"))
        assert offer.available is available
        assert in_stock(answer, "KEF-2", "H100-1") is available

    @pytest.mark.parametrize("kind", ["500", "429", "403", "garbage", "reset"])
    def test_stock_that_can_not_be_asked_for_is_unknown(self, cloud, fresh, kind):
        cloud.fail("availability", kind)
        (offer,) = offers_of(fresh(region="KEF-2"), Resources(gpu="H100:1"))
        assert offer.available is None
        assert cloud.asked("availability") == 1


class TestProject:
    def test_the_only_project_is_taken_and_asked_for_once(self, cloud, fresh):
        provider = fresh()
        offers_of(provider)
        offers_of(provider)
        assert cloud.asked("list_projects") == 1

    def test_one_of_several_must_be_chosen(self, cloud, fresh):
        cloud.projects.append("team@example.org")
        with pytest.raises(
            errors.SpecError, match=r"ada@example\.org, team@example\.org"
        ) as raised:
            offers_of(fresh())
        assert "providers.canopywave.project" in raised.value.hint
        assert offers_of(fresh(project="team@example.org"))

    def test_a_key_without_a_project_is_of_no_use(self, cloud, fresh):
        cloud.projects.clear()
        with pytest.raises(errors.ProviderError, match="sees no project"):
            offers_of(fresh())

    def test_a_failure_of_the_projects_call_is_survived(self, cloud, fresh):
        cloud.fail("list_projects", "500")
        assert offers_of(fresh())

    def test_a_key_is_taken_without_the_white_space_it_was_pasted_with(self, suite, cloud):
        suite.keys = {"api_key": f" {fake.KEY[:5]}\n{fake.KEY[5:]} \n"}
        assert offers_of(suite.subject_of(cloud).fresh())

    def test_a_key_that_was_cut_is_said_to_be_so(self, suite, cloud):
        suite.keys = {"api_key": fake.KEY.partition(".")[0]}
        with pytest.raises(errors.ProviderAuthError, match="Error decoding token") as raised:
            offers_of(suite.subject_of(cloud).fresh())
        assert "white space" in raised.value.hint

    @pytest.mark.parametrize("answer", [None, {}, [1], [["a"]], "a"])
    def test_projects_that_can_not_be_read_are_not_none(self, cloud, fresh, answer):
        cloud.projects = answer
        with pytest.raises(errors.ProviderReplyError):
            offers_of(fresh())


class TestEnvelopes:
    @pytest.mark.parametrize("envelope", [True, False])
    @pytest.mark.parametrize("word", ["error", "message", "detail", "msg"])
    def test_a_run_with_and_without_an_envelope(self, suite, cloud, envelope, word):
        cloud.envelope, cloud.error_word = envelope, word
        cloud.payment = False
        subject = suite.subject_of(cloud)

        async def scenario():
            provider = subject.fresh()
            with pytest.raises(errors.PaymentNeeded, match="no default payment method"):
                await rented(subject, provider)
            cloud.payment = True
            made = await rented(subject, provider)
            await gone(provider, made.id)
            for one in await provider.leftovers(subject.memos):
                await provider.remove(one)

        asyncio.run(scenario())
        assert cloud.alive() == cloud.our_ips() == []

    @pytest.mark.parametrize("call", ["list_instances", "list_ips", "list_keys"])
    def test_a_list_that_holds_nothing_readable_is_no_empty_list(self, cloud, fresh, call):
        setattr(cloud, "data", lambda value: {"data": None})  # noqa: B010
        cloud.projects = [fake.PROJECT]
        provider = fresh(project=fake.PROJECT, region="KEF-2")
        ask = {
            "list_instances": provider.list_tagged,
            "list_ips": lambda: provider._project.ips("KEF-2"),
            "list_keys": lambda: provider._project.keys("KEF-2"),
        }[call]
        with pytest.raises(errors.ProviderReplyError):
            asyncio.run(ask())


class TestInstances:
    def test_a_status_is_the_same_in_both_cases(self, cloud, fresh):
        cloud.boot_s = 0.4

        async def scenario():
            provider = fresh()
            offer = (await provider.offers(Resources(gpu="H100:1")))[0]
            made = await provider.create(offer, order())
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
            cloud.list_lag_s = 60.0  # from here on one instance's own page tells
            assert (await provider.get(made.id)).status is InstanceStatus.BUILDING
            await asyncio.sleep(0.5)
            assert (await fresh().get(made.id)).status is InstanceStatus.ACTIVE
            cloud.list_lag_s = 0.0
            assert (await provider.get(made.id)).status is InstanceStatus.ACTIVE

        asyncio.run(scenario())

    def test_the_fixed_address_is_never_taken(self, cloud, fresh):
        async def scenario():
            provider = fresh()
            made = await provider.create((await provider.offers(ANY))[0], order())
            cloud.list_lag_s = 60.0
            assert (await provider.get(made.id)).address is None
            cloud.list_lag_s = 0.0
            assert (await provider.get(made.id)).address is None
            assert (await provider.list_tagged())[0].address is None

        asyncio.run(scenario())

    @pytest.mark.parametrize("hide", ["lists_ips", "list_lag_s"])
    def test_an_address_is_found_whatever_tells_it(self, suite, cloud, hide):
        subject = suite.subject_of(cloud)
        made = asyncio.run(rented(subject, subject.fresh()))
        setattr(cloud, hide, {"lists_ips": False, "list_lag_s": 60.0}[hide])
        assert asyncio.run(subject.fresh().get(made.id)).address == made.address

    def test_an_address_is_not_told_by_a_name_that_two_instances_have(self, suite, cloud):
        cloud.lists_ips = False
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.boxes = False
            twin = cloud.make(
                made.tag, "1x H100 (80 GB SXM5)", 2.25, project=fake.PROJECT, region="KEF-2"
            )  # fmt: skip
            provider = subject.fresh()
            assert {one.id for one in await provider.list_tagged()} == {made.id, twin.id}
            assert (await provider.get(twin.id)).address is None
            await gone(provider, twin.id)
            assert (await provider.get(made.id)).address == made.address

        asyncio.run(scenario())

    def test_an_instance_that_the_list_lacks_is_asked_for_before_it_is_gone(self, suite, cloud):
        cloud.list_lag_s = 60.0
        subject = suite.subject_of(cloud)

        async def scenario():
            offer = (await subject.fresh().offers(Resources(gpu="H100:1")))[-1]
            made = await subject.fresh().create(offer, order())
            assert await subject.fresh().list_tagged() == []
            assert (await subject.fresh().get(made.id)).tag == made.tag
            await gone(subject.fresh(), made.id)

        asyncio.run(scenario())
        assert cloud.alive() == []

    def test_what_was_just_rented_is_not_gone_before_it_shows(self, cloud, fresh):
        cloud.read_lag_s = 0.6

        async def scenario():
            provider = fresh(settle_s=5)
            made = await provider.create((await provider.offers(ANY))[0], order())
            assert await provider.get(made.id) == made
            await asyncio.sleep(0.7)
            assert (await provider.get(made.id)).status is InstanceStatus.ACTIVE

        asyncio.run(scenario())

    def test_what_never_shows_is_gone_after_a_while(self, cloud, fresh):
        cloud.read_lag_s = 60.0

        async def scenario():
            provider = fresh(settle_s=0.3)
            made = await provider.create((await provider.offers(ANY))[0], order())
            assert await provider.get(made.id) == made
            await asyncio.sleep(0.4)
            assert await provider.get(made.id) is None

        asyncio.run(scenario())

    def test_an_instance_is_there_until_its_deletion_is_done(self, suite, cloud):
        cloud.delete_s = 0.4
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            await subject.fresh().terminate(made.id)
            assert await subject.fresh().get(made.id) is not None
            await asyncio.sleep(0.5)
            assert await subject.fresh().get(made.id) is None

        asyncio.run(scenario())

    @pytest.mark.parametrize("word", ["deleted", "DELETED", "terminated"])
    def test_what_is_listed_as_deleted_is_gone(self, suite, cloud, word):
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.machines[made.id].status = word
            assert await subject.fresh().get(made.id) is None
            assert await subject.fresh().list_tagged() == []

        asyncio.run(scenario())

    @pytest.mark.parametrize("word", ["shutoff", "SUSPENDED", "paused", "shelved_offloaded"])
    def test_what_was_switched_off_is_dead_and_still_there(self, suite, cloud, word):
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.machines[made.id].status = word
            found = await subject.fresh().get(made.id)
            assert (found.status, found.detail) == (
                InstanceStatus.DEAD, f"canopywave says {word.lower()}",
            )  # fmt: skip

        asyncio.run(scenario())

    def test_an_instance_that_no_host_takes_is_dead_and_bills(self, suite, cloud):
        cloud.no_host = "errored"
        subject = suite.subject_of(cloud)

        async def scenario():
            provider = subject.fresh()
            made = await provider.create((await provider.offers(ANY))[0], order())
            found = await subject.fresh().get(made.id)
            assert (found.status, found.started_at) == (InstanceStatus.DEAD, None)
            assert [one.id for one in await provider.list_tagged()] == [made.id]
            assert len(cloud.alive()) == 1
            await gone(subject.fresh(), made.id)

        asyncio.run(scenario())
        assert cloud.alive() == []

    def test_a_listed_instance_has_type_price_and_start(self, suite, cloud):
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            (found,) = await subject.fresh().list_tagged()
            assert (found.type, found.price_usd_per_h) == ("H100-1", 2.25)
            assert abs(found.started_at - cloud.machines[made.id].created_at) < 1.1

        asyncio.run(scenario())

    def test_an_instance_without_a_known_type_is_listed_all_the_same(self, suite, cloud):
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.types[0]["name"] = "1x H100 NVL"
            (found,) = await subject.fresh().list_tagged()
            assert (found.id, found.type, found.price_usd_per_h) == (
                made.id, "1x H100 (80 GB SXM5)", 0.0,
            )  # fmt: skip
            cloud.fail("instance_types", "403", 4)
            assert [one.id for one in await subject.fresh().list_tagged()] == [made.id]

        asyncio.run(scenario())

    @pytest.mark.parametrize("call", ["list_ips", "instance_types"])
    def test_an_instance_is_listed_and_ended_though_another_call_fails(self, suite, cloud, call):
        cloud.lists_ips = False
        subject = suite.subject_of(cloud)

        async def scenario():
            made = await rented(subject, subject.fresh())
            cloud.fail(call, "403", 50)
            provider = subject.fresh()
            assert [one.id for one in await provider.list_tagged()] == [made.id]
            assert (await provider.get(made.id)).status is InstanceStatus.ACTIVE
            await gone(provider, made.id)

        asyncio.run(scenario())
        assert cloud.alive() == []

    def test_an_unknown_id_reaches_no_other_call(self, cloud, fresh):
        asyncio.run(fresh().terminate(InstanceId("../projects")))
        assert cloud.audit == []

    def test_a_server_without_addresses_is_read(self):
        server = {"id": "a", "name": "b", "status": "BUILD", "flavor": None, "addresses": None}
        row = row_of_server(server, "KEF-2")
        assert (row["publicIp"], row["region"], row["flavor"]) == (None, "KEF-2", "")


NETWORK = {"networks": set()}
REFUSALS = [
    ({**NETWORK}, errors.ProviderError, "make the project's network"),
    ({**NETWORK, "refusal_status": 404}, errors.ProviderError, "make the project's network"),
    ({**NETWORK, "refusal_status": 500}, errors.ProviderError, "make the project's network"),
    ({"payment": False}, errors.PaymentNeeded, "payment method"),
    ({"payment": False, "refusal_status": 402}, errors.PaymentNeeded, "payment method"),
    ({"payment": False, "refusal_status": 500}, errors.PaymentNeeded, "payment method"),
    ({"no_host": "refused"}, errors.NoCapacity, "another offer"),
    ({"quota": 0}, errors.QuotaExceeded, "quota"),
    ({"types": []}, errors.ProviderError, "another offer"),
]


class TestCreate:
    @pytest.mark.parametrize(("spoil", "error", "hint"), REFUSALS)
    def test_definite_refusals(self, cloud, fresh, spoil, error, hint):
        async def scenario():
            provider = fresh()
            offer = (await provider.offers(Resources(gpu="H100:1")))[0]
            for name, value in spoil.items():
                setattr(cloud, name, value)
            with pytest.raises(error) as raised:
                await provider.create(offer, order())
            assert type(raised.value) is error
            assert hint in raised.value.hint
            assert await provider.list_tagged() == []

        asyncio.run(scenario())

    def test_no_valid_host_with_a_server_error_may_have_left_an_instance(self, cloud, fresh):
        cloud.no_host, cloud.refusal_status = "refused", 500

        async def scenario():
            provider = fresh()
            with pytest.raises(errors.ProviderUnavailable, match="No valid host"):
                await provider.create((await provider.offers(ANY))[0], order())

        asyncio.run(scenario())

    def test_each_launch_has_a_password_of_its_own_that_nobody_keeps(self, cloud, fresh):
        cloud.boxes = False

        async def scenario():
            provider = fresh()
            offer = (await provider.offers(ANY))[0]
            made = [await provider.create(offer, order()) for _ in range(20)]
            for password in cloud.passwords:
                assert password not in repr((made, provider.__dict__))

        asyncio.run(scenario())
        assert len(set(cloud.passwords)) == 20
        for password in cloud.passwords:
            assert re.fullmatch(r"(?=.*[A-Za-z])(?=.*[0-9])[A-Za-z0-9]{20,64}", password)

    def test_a_refusal_that_repeats_the_password_does_not_tell_it(self, cloud, fresh):
        cloud.echo = True

        async def scenario():
            provider = fresh()
            offer = (await provider.offers(ANY))[0]
            cloud.types = []
            with pytest.raises(errors.ProviderError, match="no such flavor") as raised:
                await provider.create(offer, order())
            told = f"{raised.value!r} {raised.value.message} {raised.value.__cause__!r}"
            assert cloud.passwords[0][:6] not in told

        asyncio.run(scenario())

    def test_a_password_that_was_cut_is_not_told_either(self):
        assert without("no: Secret12Sec", "Secret12Secret12") == "no: ***"
        assert without("no: Secret12", "Other123") == "no: Secret12"

    def test_the_key_is_ours_and_lies_where_the_instance_is(self, cloud, fresh):
        async def scenario():
            provider, one = fresh(region="KEF-3"), order()
            await provider.create((await provider.offers(ANY))[0], one)
            ((where, key),) = cloud.keys.items()
            assert where == (fake.PROJECT, "KEF-3", one.tag)
            assert key["public_key"].split() == one.public_key.split()

        asyncio.run(scenario())

    def test_the_key_keeps_its_comment_on_the_machine(self, suite, cloud):
        subject = suite.subject_of(cloud)
        tag = fresh_tag()
        private, public = key_pair()
        subject.private_key, subject.public_key = (
            private,
            f"{public.split()[0]} {public.split()[1]} {tag}",
        )
        made = asyncio.run(rented(subject, subject.fresh(), tag))
        assert cloud.machines[made.id].public_key.split()[2] == tag

    def test_a_key_of_the_tag_that_is_not_the_runs_own_is_replaced(self, cloud, fresh):
        async def scenario():
            provider, one = fresh(), order()
            offer = (await provider.offers(ANY))[0]
            where = (fake.PROJECT, offer.region, one.tag)
            cloud.keys[where] = {"public_key": key_pair()[1], "foreign": False}
            await provider.create(offer, one)
            assert cloud.keys[where]["public_key"].split()[:2] == one.public_key.split()[:2]

        asyncio.run(scenario())

    @pytest.mark.parametrize("kind", ["500_after", "reset_after", "garbage_after", "500"])
    def test_a_lost_answer_to_the_key_makes_no_second_one(self, cloud, fresh, kind):
        cloud.fail("add_key", kind)

        async def scenario():
            provider, one = fresh(), order()
            offer = (await provider.offers(ANY))[0]
            with pytest.raises((errors.ProviderUnavailable, errors.ProviderReplyError)):
                await provider.create(offer, one)
            assert cloud.alive() == []
            await provider.create(offer, one)

        asyncio.run(scenario())
        assert len(cloud.keys) == 1

    def test_a_lost_answer_to_the_launch_shows_late_and_once(self, cloud, fresh):
        cloud.fail("launch", "late")

        async def scenario():
            provider, one = fresh(), order()
            with pytest.raises(errors.ProviderUnavailable):
                await provider.create((await provider.offers(ANY))[0], one)
            until = time.monotonic() + 5
            while not (found := await provider.list_tagged()):
                assert time.monotonic() < until
                await asyncio.sleep(0.05)
            assert [each.tag for each in found] == [one.tag]

        asyncio.run(scenario())


class TestKeysLeftOver:
    def test_our_keys_are_found_in_every_region_and_others_are_not(self, cloud, fresh):
        ours = {(fake.PROJECT, region, fresh_tag()) for region in cloud.regions}
        theirs = {(fake.PROJECT, "KEF-2", name) for name in ("web", "towline-abcdefghzz")}
        for where in ours | theirs:
            cloud.keys[where] = {"public_key": KEYS[1], "foreign": where in theirs}

        async def scenario():
            found = await fresh(region="KEF-2").leftovers({})
            assert {(one.kind, one.id, one.tag) for one in found} == {
                ("key", f"{region}/{tag}", tag) for _project, region, tag in ours
            }
            for one in found:
                await fresh().remove(one)
                await fresh().remove(one)

        asyncio.run(scenario())
        assert set(cloud.keys) == theirs


class TestCheck:
    def test_it_looks_at_each_thing_in_order(self, fresh):
        assert [one.name for one in asyncio.run(fresh().check())] == [
            "key", "project", "regions", "ssh-keys", "addresses", "billing", "offers", "prices",
        ]  # fmt: skip

    def test_a_project_that_the_key_does_not_see(self, cloud, fresh):
        findings = asyncio.run(fresh(project="typo@example.org").check())
        assert [one.name for one in findings] == ["key", "project"]
        assert fake.PROJECT in findings[1].fix

    def test_several_projects_and_no_choice(self, cloud, fresh):
        cloud.projects.append("team@example.org")
        assert "providers.canopywave.project" in finding(fresh(), "project").fix

    def test_no_project_at_all(self, cloud, fresh):
        cloud.projects.clear()
        assert "sees no project" in finding(fresh(), "project").message

    def test_a_key_that_is_refused(self, suite, cloud):
        suite.keys = {"api_key": "other.key"}
        with pytest.raises(errors.ProviderAuthError, match="Unauthorized"):
            asyncio.run(suite.subject_of(cloud).fresh().check())

    def test_one_thing_that_can_not_be_read_does_not_hide_the_others(self, cloud, fresh):
        cloud.fail("list_keys", "403")
        found = {one.name: one.fix for one in asyncio.run(fresh().check())}
        assert [name for name, fix in found.items() if fix] == ["ssh-keys"]

    @pytest.mark.parametrize(("listed", "setting", "fix"), [
        ([], {}, True), (["KEF-2"], {"region": "sequoia"}, True), (["KEF-2"], {}, False),
        (["KEF-2", "KEF-3"], {"region": "KEF-3"}, False),
    ])  # fmt: skip
    def test_regions(self, cloud, fresh, listed, setting, fix):
        cloud.regions = listed
        found = finding(fresh(**setting), "regions")
        assert ("providers.canopywave.region" in (found.fix or "")) is fix

    @pytest.mark.parametrize("kind", ["403", "500", "garbage", "null", "no such page"])
    def test_regions_that_can_not_be_asked_for_hide_nothing_where_one_is_set(
        self, cloud, fresh, kind
    ):
        """No page of the vendor's names the call: it decides over no clean-up."""

        async def scenario():
            provider, tag = fresh(region="KEF-2"), fresh_tag()
            await provider.create((await provider.offers(ANY))[0], order(tag))
            cloud.fail("list_regions", kind, 8)
            provider = fresh(region="KEF-2")
            assert [one.tag for one in await provider.leftovers({})] == [tag]
            assert await provider.get(InstanceId("unknown")) is None

        asyncio.run(scenario())

    def test_a_region_of_a_memo_is_looked_into_whatever_is_set(self, cloud, fresh):
        async def scenario():
            elsewhere, tag = fresh(region="KEF-3"), fresh_tag()
            await elsewhere.create((await elsewhere.offers(ANY))[0], order(tag))
            cloud.has_regions = False
            notes = Notes()
            notes.write({"KEF-3": {}})
            found = await fresh(region="KEF-2").leftovers({tag: notes})
            assert [one.id for one in found] == [f"KEF-3/{tag}"]

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "said", ["project not found", "no such region", "Region KEF-2 not found"]
    )
    def test_a_404_of_project_or_region_says_nothing_of_an_instance(
        self, cloud, fresh, monkeypatch, said
    ):
        def refuse(*_args, **_more):
            raise cloud.refuse(404, said)

        async def scenario():
            provider = fresh(region="KEF-2")
            made = await provider.create((await provider.offers(ANY))[0], order())
            monkeypatch.setattr(cloud, "terminate", refuse)
            monkeypatch.setattr(cloud, "get_instance", refuse)
            with pytest.raises(errors.ProviderError):
                await provider.terminate(made.id)
            with pytest.raises(errors.ProviderError):
                await provider.get(InstanceId("unknown"))

        asyncio.run(scenario())

    def test_regions_that_the_api_does_not_tell(self, cloud, fresh):
        cloud.has_regions = False
        assert finding(fresh(region="KEF-3"), "regions").fix is None
        assert "providers.canopywave.region" in finding(fresh(), "regions").fix

    def test_a_key_that_lost_its_comment(self, cloud, fresh):
        async def scenario():
            provider = fresh()
            await provider.create((await provider.offers(ANY))[0], order())

        asyncio.run(scenario())
        assert finding(fresh(), "ssh-keys").fix is None
        cloud.keeps_comments = False
        asyncio.run(scenario())
        found = finding(fresh(), "ssh-keys")
        assert "1 of them lost their comment" in found.message
        assert "can't be attested" in found.fix

    def test_addresses_that_cost_for_nothing_are_counted(self, cloud, fresh):
        cloud.place_ip()
        assert finding(fresh(), "addresses").message == (
            "1 public addresses, 1 of them serve no instance"
        )  # fmt: skip

    @pytest.mark.parametrize("kind", ["500", "garbage", None])
    def test_billing_may_be_absent(self, cloud, fresh, kind):
        if kind is None:
            cloud.has_billing = False
        else:
            cloud.fail("billing", kind, 4)
        found = finding(fresh(), "billing")
        assert (found.fix, "tells nothing" in found.message) == (None, True)

    def test_nothing_in_stock(self, cloud, fresh):
        for one in cloud.types:
            for region in cloud.regions:
                cloud.stock[region, one["flavor"]] = {f"{region}_{one['flavor']}_available_vms": 0}
        assert "nothing is in stock" in finding(fresh(), "offers").fix

    def test_an_image_that_no_type_starts(self, fresh):
        assert "'Windows'" in finding(fresh(image="Windows"), "offers").fix

    def test_prices_that_disagree(self, cloud, fresh):
        cloud.types.append(fake.H200)
        found = finding(fresh(), "prices")
        assert found.message == (
            "8x H200 (80 GB SXM5) is listed as $18.00/h and, by its text, as $24.00/h"
        )  # fmt: skip
        assert "larger" in found.fix
