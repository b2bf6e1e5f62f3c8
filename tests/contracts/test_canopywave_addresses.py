"""Public addresses of driver `canopywave`: at every moment at which a run may die, exactly one of
ours is there in the end, none after removal, and nobody else's is touched."""

import asyncio
import itertools
import json
import time

import pytest
from clouds import canopywave as fake

from tests.contracts.cloud_suite import KEYS
from tests.contracts.provider_suite import fresh_tag, gone
from tests.contracts.test_canopywave import Base
from towline import errors
from towline.core.instance import InstanceId, InstanceStatus, Leftover, Order
from towline.core.task import Resources
from towline.providers import canopywave_notes


class Killed(BaseException):
    """The process ends here."""


class Disk:
    """A memo that survives its process; the process dies at one of its writes if need be."""

    def __init__(self, die_before=None, die_after=None):
        self.text, self.writes = "{}", 0
        self.die_before, self.die_after = die_before, die_after

    def read(self):
        return json.loads(self.text)

    def write(self, value):
        self.writes += 1
        if self.writes == self.die_before:
            raise Killed
        self.text = json.dumps(value)
        if self.writes == self.die_after:
            raise Killed


class World:
    """A cloud without boxes, somebody else's addresses in it, and drivers over it."""

    def __init__(self, cloud, **settings):
        self.cloud = cloud
        self.settings = {"timeout_s": 0.3, "settle_s": 0.4, "region": "KEF-2", **settings}
        self.theirs = [cloud.place_ip(), cloud.place_ip("KEF-3")]
        self.served = cloud.place_ip(machine=cloud.place_foreign("web-1"))

    def fresh(self, **settings):
        return Base().subject_of(self.cloud, **{**self.settings, **settings}).fresh()

    async def instance(self, provider=None, tag=None, region="KEF-2"):
        provider = provider or self.fresh(region=region)
        offer = (await provider.offers(Resources(gpu="H100:1")))[0]
        made = await provider.create(offer, Order(tag=tag or fresh_tag(), public_key=KEYS[1]))
        return await provider.get(made.id)

    async def addressed(self, instance, memo, provider=None, within_s=10.0):
        """Call `attach_address` as a step does, from another process after each death."""
        until = time.monotonic() + within_s
        provider = provider or self.fresh()
        while (found := await provider.get(instance.id)).address is None:
            assert time.monotonic() < until
            assert found.status is InstanceStatus.ACTIVE
            try:
                await provider.attach_address(found, memo)
            except (errors.ProviderUnavailable, errors.ProviderReplyError, errors.RateLimited):
                pass
            except Killed:
                provider = self.fresh()
            await asyncio.sleep(0.02)
        return found

    async def ended(self, instances, memos):
        """End them and remove what they leave."""
        provider = self.fresh()
        for one in instances:
            await gone(provider, one.id)
        until = time.monotonic() + 5
        while left := await provider.leftovers(memos):
            assert time.monotonic() < until, left
            for one in left:
                assert one.tag in memos
                await provider.remove(one)
                await provider.remove(one)
            await asyncio.sleep(0.02)
        self.nothing_is_left()

    def nothing_is_left(self):
        assert self.cloud.left_over() == []
        assert set(self.cloud.ips) == {*self.theirs, self.served}
        assert [self.cloud.ips[one]["machine"] for one in self.theirs] == [None] * len(self.theirs)
        assert self.cloud.ips[self.served]["machine"] is not None


@pytest.fixture
def cloud():
    with fake.CanopyWave(boxes=False) as cloud:
        yield cloud
        assert cloud.violations == []


@pytest.fixture
def world(cloud):
    return World(cloud)


LOST = ["500", "503", "reset", "timeout", "garbage", "429"]
LOST += [f"{kind}_after" for kind in ("500", "garbage", "reset", "timeout")]


class TestDeaths:
    @pytest.mark.parametrize("dies_with_instance", [False, True])
    @pytest.mark.parametrize("call", ["allocate_ip", "associate_ip"])
    @pytest.mark.parametrize("kind", LOST)
    def test_an_answer_that_is_lost(self, cloud, world, call, kind, dies_with_instance):
        cloud.ips_die_with_instance = dies_with_instance
        cloud.fail(call, kind)
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert len(cloud.our_ips()) == 1
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    @pytest.mark.parametrize("lost", [None, "reset_after", "reset"])
    @pytest.mark.parametrize("moment", ["die_before", "die_after"])
    @pytest.mark.parametrize("number", [1, 2])
    def test_a_process_that_dies_at_a_note(self, cloud, world, lost, moment, number):
        if lost:
            cloud.fail("allocate_ip", lost)
        tag, memo = fresh_tag(), Disk(**{moment: number})

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert memo.writes >= number
            assert len(cloud.our_ips()) == 1
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    @pytest.mark.parametrize("moment", ["die_before", "die_after"])
    @pytest.mark.parametrize("number", [1, 2])
    def test_a_run_that_dies_at_a_note_and_is_never_taken_up(self, cloud, world, moment, number):
        tag, memo = fresh_tag(), Disk(**{moment: number})

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(Killed):
                await world.fresh().attach_address(made, memo)
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    @pytest.mark.parametrize("kind", ["reset_after", "timeout_after", "garbage_after"])
    def test_a_lost_answer_that_is_never_followed_up(self, cloud, world, kind):
        cloud.fail("allocate_ip", kind)
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            provider, made = world.fresh(), await world.instance(tag=tag)
            with pytest.raises((errors.ProviderUnavailable, errors.ProviderReplyError)):
                await provider.attach_address(made, memo)
            (ours,) = cloud.our_ips()
            addresses = [
                one for one in await provider.leftovers({tag: memo}) if one.kind == "address"
            ]
            assert [(one.id, one.tag) for one in addresses] == [(f"KEF-2/{ours}", tag)]
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_an_address_that_is_listed_late_is_waited_for(self, cloud):
        world = World(cloud, settle_s=2.0)
        cloud.fail("allocate_ip", "late")
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert cloud.asked("allocate_ip") == 1
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_every_death_of_two_in_a_row(self, cloud, world):
        """The second attempt dies as well, at each of its calls."""

        async def scenario():
            for first, second in itertools.product(["reset", "reset_after"], repeat=2):
                for call in ("allocate_ip", "associate_ip"):
                    cloud.fail("allocate_ip", first)
                    cloud.fail(call, second)
                    tag, memo = fresh_tag(), Disk()
                    made = await world.addressed(await world.instance(tag=tag), memo)
                    await world.ended([made], {tag: memo})
                    cloud.faults.clear()

        asyncio.run(scenario())


class TestMoments:
    @pytest.mark.parametrize("dies_with_instance", [False, True])
    def test_an_association_that_takes_a_moment_is_asked_for_once(
        self, cloud, world, dies_with_instance
    ):
        cloud.associate_s, cloud.ips_die_with_instance = 0.5, dies_with_instance
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert (cloud.asked("allocate_ip"), cloud.asked("associate_ip")) == (1, 1)
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_a_guess_is_confirmed_though_its_association_takes_a_moment(self, cloud, world):
        cloud.associate_s = 0.5
        cloud.fail("allocate_ip", "reset_after")
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert [memo.read()["KEF-2"]["guess"]] == cloud.our_ips()
            # an address that somebody makes later is no candidate any more
            world.theirs.append(cloud.place_ip())
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_an_instance_that_has_an_address_gets_no_second(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            for _ in range(3):
                await world.fresh().attach_address(made, memo)
            assert cloud.asked("allocate_ip") == 1
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_an_instance_that_is_gone_gets_none(self, cloud, world):
        async def scenario():
            made = await world.instance()
            await gone(world.fresh(), made.id)
            await world.fresh().attach_address(made, Disk())
            assert cloud.our_ips() == []

        asyncio.run(scenario())

    def test_an_instance_that_ends_meanwhile_leaves_its_address_in_the_memo(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            provider, made = world.fresh(), await world.instance(tag=tag)
            await provider.get(made.id)
            await gone(world.fresh(), made.id)
            await provider.attach_address(made, memo)  # it still thinks that it is there
            assert memo.read()["KEF-2"]["allocated"] == cloud.our_ips() != []
            await world.ended([], {tag: memo})

        asyncio.run(scenario())

    def test_an_address_that_was_released_by_hand_is_replaced(self, cloud, world):
        cloud.fail("associate_ip", "reset")
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(made, memo)
            (before,) = cloud.our_ips()
            cloud.ips.pop(before)
            await world.addressed(made, memo)
            # it may be a list of yesterday: what we made is ours until its release is proven
            assert memo.read()["KEF-2"]["allocated"] == [before, *cloud.our_ips()]
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_the_next_instance_of_a_run_takes_the_address_that_is_left(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            first = await world.addressed(await world.instance(tag=tag), memo)
            await gone(world.fresh(), first.id)
            second = await world.addressed(await world.instance(tag=tag), memo)
            assert cloud.asked("allocate_ip") == 1
            await world.ended([second], {tag: memo})

        asyncio.run(scenario())

    def test_a_run_that_goes_on_in_another_region_releases_both(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            first = await world.addressed(await world.instance(tag=tag), memo)
            await gone(world.fresh(), first.id)
            second = await world.addressed(await world.instance(tag=tag, region="KEF-3"), memo)
            assert {cloud.ips[one]["region"] for one in cloud.our_ips()} == {"KEF-2", "KEF-3"}
            await world.ended([second], {tag: memo})

        asyncio.run(scenario())


class TestMemory:
    """Promise 2: what was made is never forgotten before its release is proven."""

    def test_one_404_and_one_list_without_it_make_no_second_address(self, cloud):
        world = World(cloud, settle_s=1.0)
        cloud.fail("associate_ip", "404")
        cloud.fail("list_ips", "empty", 3)
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert (cloud.asked("allocate_ip"), len(cloud.our_ips())) == (1, 1)
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_an_address_that_no_list_shows_is_released_all_the_same(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            provider = world.fresh()
            await gone(provider, made.id)
            cloud.fail("list_ips", "empty", 2)
            (address,) = [
                one for one in await provider.leftovers({tag: memo}) if one.kind == "address"
            ]
            await provider.remove(address)
            assert cloud.our_ips() == []
            await world.ended([], {tag: memo})
            assert memo.read()["KEF-2"]["allocated"] == []

        asyncio.run(scenario())

    def test_a_sweep_proves_a_release_and_writes_nothing(self, cloud, world):
        tag, memo = fresh_tag(), Disk()

        class ReadOnly(Disk):
            def write(self, value):
                raise errors.InvalidTransition("a sweep writes")

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            swept = ReadOnly()
            swept.text = memo.text
            await world.ended([made], {tag: swept})

        asyncio.run(scenario())

    def test_a_refused_association_is_asked_for_again(self, cloud, world):
        cloud.fail("associate_ip", "400")
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(made, memo)
            made = await world.addressed(made, memo)
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    @pytest.mark.parametrize("when", ["beside ours", "much later"])
    def test_an_address_that_somebody_else_may_have_made_is_shown_and_left_alone(
        self, cloud, world, when, monkeypatch
    ):
        cloud.fail("allocate_ip", "reset_after" if when == "beside ours" else "reset")
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(made, memo)
            if when == "much later":
                monkeypatch.setattr(canopywave_notes, "SETTLE_S", -1.0)
            theirs = cloud.place_ip()
            await gone(world.fresh(), made.id)
            provider = world.fresh()
            shown = [one for one in await provider.leftovers({tag: memo}) if one.kind == "address"]
            assert f"KEF-2/{theirs}" in [one.id for one in shown]
            for one in shown:
                with pytest.raises(errors.ProviderError, match="answer was lost"):
                    await provider.remove(one)
            assert cloud.asked("release_ip") == 0
            del cloud.ips[theirs]  # somebody has seen to it
            if when == "beside ours":
                await world.ended([], {tag: memo})
                return
            assert [one.kind for one in await provider.leftovers({tag: memo})] == ["key"]
            cloud.place_ip()  # comes when nothing is open any more
            assert [one.kind for one in await provider.leftovers({tag: memo})] == ["key"]

        asyncio.run(scenario())


class TestQuota:
    @pytest.mark.parametrize("kill", [None, *range(1, 4)])
    def test_an_idle_address_is_reused_and_kept(self, cloud, world, kill):
        cloud.ip_quota, cloud.may_borrow = len(cloud.ips), True
        tag, memo = fresh_tag(), Disk(die_after=kill)

        async def scenario():
            made = await world.addressed(await world.instance(tag=tag), memo)
            assert memo.read()["KEF-2"]["reused"] == [world.theirs[0]]
            assert cloud.ips[world.theirs[0]]["machine"] == made.id
            leftovers = await world.fresh().leftovers({tag: memo})
            assert [one.kind for one in leftovers] == ["key"]
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    def test_without_an_idle_one_the_refusal_is_told(self, cloud, world):
        cloud.ips.pop(world.theirs.pop(0))
        cloud.ip_quota = len(cloud.ips)
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(errors.QuotaExceeded, match="floatingip"):
                await world.fresh().attach_address(made, memo)
            assert memo.read() == {"KEF-2": {}}
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())

    @pytest.mark.parametrize(("kind", "error"), [
        ("403", errors.ProviderAuthError), ("402", errors.PaymentNeeded), ("429", errors.RateLimited),
    ])  # fmt: skip
    def test_a_definite_refusal_leaves_nothing_open(self, cloud, world, kind, error):
        cloud.fail("allocate_ip", kind)
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            made = await world.instance(tag=tag)
            with pytest.raises(error):
                await world.fresh().attach_address(made, memo)
            assert memo.read() == {"KEF-2": {}}
            await world.ended([made], {tag: memo})

        asyncio.run(scenario())


class TestOtherRuns:
    @pytest.mark.parametrize("takes_over", [False, True])
    def test_an_address_that_another_run_took_is_let_go_and_released_later(
        self, cloud, world, takes_over
    ):
        cloud.takes_over = takes_over
        cloud.fail("associate_ip", "reset")
        memos = {fresh_tag(): Disk(), fresh_tag(): Disk()}
        (mine, memo), (other, _) = memos.items()

        async def scenario():
            one, two = await world.instance(tag=mine), await world.instance(tag=other)
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(one, memo)
            (taken,) = cloud.our_ips()
            cloud.ips[taken]["machine"] = two.id
            one = await world.addressed(one, memo)
            assert len(cloud.our_ips()) == 2
            assert cloud.ips[taken]["machine"] == two.id
            # while it serves the other run it is not ours to release
            held = await world.fresh().leftovers({mine: memo})
            assert (f"KEF-2/{taken}", mine) not in [(found.id, found.tag) for found in held]
            await gone(world.fresh(), two.id)
            await world.ended([one], memos)

        asyncio.run(scenario())

    def test_an_address_that_is_taken_away_later_is_replaced(self, cloud, world):
        cloud.takes_over = True
        memos = {fresh_tag(): Disk(), fresh_tag(): Disk()}
        (mine, memo), (other, _) = memos.items()

        async def scenario():
            one = await world.addressed(await world.instance(tag=mine), memo)
            two = await world.instance(tag=other)
            cloud.ips[cloud.our_ips()[0]]["machine"] = two.id
            one = await world.addressed(one, memo)
            await world.ended([one, two], memos)

        asyncio.run(scenario())

    def test_an_address_that_another_run_has_just_made_is_not_guessed(self, cloud):
        """It lies idle for a moment, as the one whose answer was lost does."""
        world = World(cloud, settle_s=0.8)
        cloud.fail("allocate_ip", "reset_after")
        memos = {fresh_tag(): Disk(), fresh_tag(): Disk()}
        (mine, memo), (other, note) = memos.items()

        async def scenario():
            one, two = await world.instance(tag=mine), await world.instance(tag=other)
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(one, memo)
            (lost,) = cloud.our_ips()
            cloud.fail("associate_ip", "reset")
            with pytest.raises(errors.ProviderUnavailable):
                await world.fresh().attach_address(two, note)
            cloud.ips[lost] = cloud.ips.pop(lost)  # the other's stands first in the list
            await asyncio.gather(world.addressed(one, memo), world.addressed(two, note))
            assert cloud.ips[lost]["machine"] == one.id
            await world.ended([one, two], memos)

        asyncio.run(scenario())

    def test_of_two_lost_answers_neither_is_guessed_and_both_are_released(self, cloud, world):
        """Promise 2: alone a run can't tell them from somebody else's; together they can."""
        cloud.fail("allocate_ip", "reset_after", 2)
        memos = {fresh_tag(): Disk() for _ in range(2)}

        async def scenario():
            made = [await world.instance(tag=tag) for tag in memos]
            await asyncio.gather(*map(world.addressed, made, memos.values()))
            lost = cloud.our_ips()[:2]
            assert [cloud.ips[one]["machine"] for one in lost] == [None, None]
            for tag, memo in memos.items():
                provider = world.fresh()
                unclear = [
                    one
                    for one in await provider.leftovers({tag: memo})
                    if one.id.removeprefix("KEF-2/") in lost
                ]
                assert len(unclear) == 2
                for one in unclear:
                    with pytest.raises(errors.ProviderError, match="answer was lost"):
                        await provider.remove(one)
            assert cloud.asked("release_ip") == 0
            await world.ended(made, memos)

        asyncio.run(scenario())

    @pytest.mark.parametrize("again", [True, False])
    def test_a_guess_that_another_run_takes_over_is_taken_back(self, cloud, world, again):
        """Both guess the same; the second to associate gets it, after the first was confirmed."""
        cloud.takes_over = True
        cloud.fail("allocate_ip", "reset_after")
        cloud.fail("allocate_ip", "reset")
        memos = {fresh_tag(): Disk() for _ in range(2)}
        (mine, memo), (other, note) = memos.items()

        async def scenario():
            one, two = await world.instance(tag=mine), await world.instance(tag=other)
            for instance, disk in ((one, memo), (two, note)):
                with pytest.raises(errors.ProviderUnavailable):
                    await world.fresh().attach_address(instance, disk)
            one = await world.addressed(one, memo)
            taken = memo.read()["KEF-2"]["guess"]
            cloud.ips[taken]["machine"] = two.id
            two = await world.addressed(two, note)
            assert note.read()["KEF-2"].get("guess", taken) == taken
            if again:
                one = await world.addressed(one, memo)
                assert memo.read()["KEF-2"].get("guess") is None
            assert len(cloud.our_ips()) == 1 + again
            await world.fresh().attach_address(two, note)
            await world.ended([one, two], memos)

        asyncio.run(scenario())

    def test_many_runs_at_once_with_trouble(self, cloud):
        world = World(cloud, settle_s=1.5, timeout_s=2)
        cloud.associate_s = 0.1
        for kind in ("500", "500_after", "reset_after"):
            cloud.fail("allocate_ip", kind)
            cloud.fail("associate_ip", kind)
        memos = {fresh_tag(): Disk() for _ in range(5)}

        async def scenario():
            made = [await world.instance(tag=tag) for tag in memos]
            found = await asyncio.gather(
                *(
                    world.addressed(*pair, within_s=30)
                    for pair in zip(made, memos.values(), strict=True)
                )
            )
            assert len({one.address.host for one in found}) == 5 <= len(cloud.our_ips())
            await world.ended(made, memos)

        asyncio.run(scenario())


class TestLeftovers:
    def test_an_idle_address_of_others_is_none(self, cloud, world):
        tag = fresh_tag()
        assert asyncio.run(world.fresh().leftovers({})) == []
        assert asyncio.run(world.fresh().leftovers({tag: Disk()})) == []

    def test_an_address_of_a_tagged_instance_is_found_without_a_memo(self, cloud, world):
        tag = fresh_tag()

        async def scenario():
            await world.addressed(await world.instance(tag=tag), Disk())
            found = [one for one in await world.fresh().leftovers({}) if one.kind == "address"]
            assert [(one.tag, one.provider) for one in found] == [(tag, "canopywave")]
            await world.fresh().remove(found[0])  # it still serves the instance
            assert cloud.asked("disassociate_ip") == 1
            assert cloud.our_ips() == []

        asyncio.run(scenario())

    def test_an_address_that_serves_another_is_not_removed(self, cloud, world):
        async def scenario():
            tags = [fresh_tag(), fresh_tag()]
            made = await world.addressed(await world.instance(tag=tags[0]), Disk())
            (address,) = cloud.our_ips()
            wrong = Leftover(
                provider="canopywave", kind="address", id=f"KEF-2/{address}", tag=tags[1]
            )
            await world.fresh().remove(wrong)
            assert cloud.ips[address]["machine"] == made.id
            assert (cloud.asked("disassociate_ip"), cloud.asked("release_ip")) == (0, 0)

        asyncio.run(scenario())

    @pytest.mark.parametrize("call", ["disassociate_ip", "release_ip"])
    @pytest.mark.parametrize("kind", ["500", "500_after", "reset_after"])
    def test_a_removal_may_be_repeated(self, cloud, world, call, kind):
        tag, memo = fresh_tag(), Disk()

        async def scenario():
            await world.addressed(await world.instance(tag=tag), memo)
            provider = world.fresh()
            (address,) = [
                one for one in await provider.leftovers({tag: memo}) if one.kind == "address"
            ]
            cloud.fail(call, kind)
            with pytest.raises(errors.ProviderUnavailable):
                await provider.remove(address)
            await provider.remove(address)
            assert cloud.our_ips() == []

        asyncio.run(scenario())

    def test_an_address_with_an_id_that_is_none_reaches_no_other_call(self, cloud, world):
        tag = fresh_tag()
        cloud.ips["../instances"] = cloud.ips.pop(world.theirs[0])
        odd = Leftover(provider="canopywave", kind="address", id="KEF-2/../instances", tag=tag)
        with pytest.raises(errors.ProviderReplyError, match="an address with id"):
            asyncio.run(world.fresh().remove(odd))
        assert cloud.asked("release_ip") == 0

    @pytest.mark.parametrize("name", ["../ips/1", "web", "towline-abcdefghzz", ""])
    def test_a_key_that_is_not_named_as_ours_is_not_removed(self, cloud, world, name):
        odd = Leftover(provider="canopywave", kind="key", id=f"KEF-2/{name}", tag=fresh_tag())
        asyncio.run(world.fresh().remove(odd))
        assert cloud.asked("delete_key") == 0

    def test_an_instance_is_never_asked_for_by_an_odd_id(self, cloud, world):
        assert asyncio.run(world.fresh().get(InstanceId("../ips"))) is None
        assert cloud.audit == []
