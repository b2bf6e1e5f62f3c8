"""Acquire and release on a provider in memory: whose answers count, for how long, by which clock."""

import asyncio
import dataclasses
from pathlib import Path

import pytest

from tests.clock import FakeClock
from tests.doubles import SILENT, FakeProvider, Forever
from towline import errors, taskfile
from towline.context import Context
from towline.core.instance import InstanceId, InstanceStatus, Offer, run_id_from, tag_for
from towline.core.redact import Redactor
from towline.core.renter import Renter
from towline.core.run import RunRecord, RunState
from towline.home import Home
from towline.ports import Banner
from towline.renting import adopt
from towline.steps import acquire, release
from towline.store.journal import Store

RUN = run_id_from(b"abcdefgh")
TAG = tag_for(RUN)
OFFER = Offer(provider="fake", type="small", price_usd_per_h=1.0)
WORK = Renter(provider="fake", key="aaaaaaaa")
HOME = Renter(provider="fake", key="bbbbbbbb")


class World:
    """One run in the hands of its driver, at one provider."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.provider = FakeProvider(self.clock)
        self.store = Store(folder / "towline.db", Redactor(), self.clock)
        task = {"name": "n", "command": "true", "resources": {"provider": "local"}}
        run = RunRecord(
            id=RUN, name="n", state=RunState.ACTIVE, task={"spec": task}, provider="fake",
            results_dir="", created_at=self.clock.now(),
        )  # fmt: skip
        self.store.create_run(run, lambda _name: str(folder))
        journal = self.store.take_lease(RUN)
        home = Home(folder / "h")
        home.prepare()
        self.ctx = Context(
            run=journal.run(), task=taskfile.validate(task, where="t"), base=folder,
            provider_of=self.provider_of, dialer=self, clock=self.clock, journal=journal,
            files=home.run_files(RUN), redactor=Redactor(), secrets={},
            new_key_pair=lambda comment: ("private", f"ssh-ed25519 AAAA {comment}"),
        )  # fmt: skip

    def provider_of(self, name):
        if self.provider is None:
            raise errors.CredentialsError(f"there is no api key for {name}", hint="export KEY")
        return self.provider

    async def probe(self, _address, _timeout_s):
        return Banner(accepts=True, text="SSH-2.0-fake", detail="SSH answers")

    def rented(self, renter=None, **facts):
        """An instance of the run, as an earlier driver left it."""
        number = self.ctx.journal.intend("fake", TAG, OFFER, renter)
        made = self.provider.place(TAG, **facts)
        self.ctx.journal.rented(number, InstanceId(made.id), self.clock.now(), 1.0)
        return made

    def row(self):
        return self.store.ledger(RUN)[-1]


@pytest.fixture
def world(tmp_path: Path):
    made = World(tmp_path)
    yield made
    made.store.close()


def test_what_is_rented_is_written_down_with_the_account_and_when_it_was_seen(world):
    world.provider.account, world.provider.number = WORK, "acct-7"
    asyncio.run(acquire.act(world.ctx))
    row = world.row()
    assert row.renter == WORK.known_as("acct-7")
    assert row.seen_at is not None
    assert row.tick is not None


def test_another_account_neither_takes_an_instance_up_nor_ends_it(world):
    made = world.rented(WORK)
    other = FakeProvider(world.clock)
    other.account, world.provider = HOME, other
    for work in (acquire.look, release.act):
        with pytest.raises(errors.OtherAccount, match=made.id):
            asyncio.run(work(world.ctx))
    assert other.asked("terminate") == []
    assert world.row().gone_at is None


def test_another_account_does_not_say_that_a_training_is_lost(world):
    world.rented(WORK)
    other = FakeProvider(world.clock)
    other.account, world.provider = HOME, other
    world.clock.advance(600)
    asyncio.run(world.ctx.require_alive())


def test_an_instance_that_lists_may_not_show_yet_is_not_lost(world):
    world.rented()
    world.provider.instances.clear()
    asyncio.run(world.ctx.require_alive())
    world.clock.advance(world.provider.features.settle_s)
    with pytest.raises(errors.InstanceLost):
        asyncio.run(world.ctx.require_alive())


def test_another_account_does_not_clear_what_was_left_either(world):
    """The ledger is closed, and this account has no address of the run: the other may have one."""
    world.rented(WORK)
    world.ctx.journal.gone(1, "proven before")
    other = FakeProvider(world.clock)
    other.account, world.provider = HOME, other
    with pytest.raises(errors.OtherAccount):
        asyncio.run(release.act(world.ctx))


def test_a_new_key_of_the_account_goes_on_and_is_remembered(world):
    world.rented(WORK)
    world.provider.account = HOME  # which is shown the instance
    found = asyncio.run(release.act(world.ctx))
    assert found["gone"] is True
    assert world.provider.instances == {}
    assert world.row().renter == HOME


def test_a_release_without_a_key_can_be_taken_up_again(world):
    world.rented(WORK)
    world.provider = None
    with pytest.raises(errors.ReleaseUnconfirmed, match="no api key for fake") as caught:
        asyncio.run(release.act(world.ctx))
    assert (caught.value.exit_code, caught.value.resumable) == (6, True)
    assert caught.value.hint == "export KEY"


@pytest.mark.parametrize("jump_s", [-3600.0, 3600.0])
def test_a_lost_create_is_looked_for_by_the_clock_that_never_jumps(world, jump_s):
    world.ctx.journal.intend("fake", TAG, OFFER)
    world.clock.jump(jump_s)
    began = world.clock.monotonic()
    assert not asyncio.run(adopt(world.ctx))
    settle_s = world.provider.features.settle_s
    assert settle_s <= world.clock.monotonic() - began < settle_s + 4


def test_a_clock_that_is_set_ahead_does_not_end_the_boot(world):
    class Booting(FakeProvider):
        async def get(self, instance_id):
            found = await super().get(instance_id)
            if world.clock.monotonic() < until:
                world.clock.jump(60.0)
                return dataclasses.replace(found, status=InstanceStatus.BUILDING, address=None)
            return found

    until = world.clock.monotonic() + 60
    world.provider = Booting(world.clock)
    asyncio.run(acquire.act(world.ctx))
    assert world.provider.asked("terminate") == []


class WithoutAddress(FakeProvider):
    """Its instances get an address only when one is attached."""

    attached = False

    async def get(self, instance_id):
        found = await super().get(instance_id)
        address = found.address if found and self.attached else None
        return found and dataclasses.replace(found, address=address)

    async def attach_address(self, instance, memo):
        await super().attach_address(instance, memo)
        self.attached = True


@pytest.mark.parametrize("times", [1, 4])
def test_an_address_that_is_refused_a_few_times_is_asked_for_again(world, times):
    world.provider = WithoutAddress(world.clock)
    world.provider.faults["attach_address"] = [errors.ProviderError("too early")] * times
    asyncio.run(acquire.act(world.ctx))
    assert world.provider.asked("terminate") == []


def test_an_address_that_is_refused_for_good_ends_the_instance(world):
    world.provider = WithoutAddress(world.clock)
    world.provider.faults["attach_address"] = [Forever, errors.ProviderError("no network")]
    with pytest.raises(errors.NoCapacity):
        asyncio.run(acquire.act(world.ctx))
    assert world.provider.instances == {}
    assert len(world.provider.asked("attach_address")) < 20


@pytest.mark.parametrize("kinds", [("key", "address"), None])
def test_what_could_not_be_listed_is_named_and_the_instance_is_not_blamed(world, kinds):
    world.provider = FakeProvider(world.clock, leftovers=kinds)
    made = world.rented()
    world.provider.faults["leftovers"] = [Forever, SILENT]
    with pytest.raises(errors.ReleaseUnconfirmed) as caught:
        asyncio.run(release.act(world.ctx))
    assert "keys and addresses" in caught.value.message
    assert made.id not in caught.value.message
    assert world.row().gone_at is not None
    ended = len(world.provider.asked("terminate"))
    world.provider.faults.clear()
    asyncio.run(release.act(world.ctx))
    assert len(world.provider.asked("terminate")) == ended


def test_keys_that_could_not_be_listed_are_told_and_cost_nothing(world):
    world.provider = FakeProvider(world.clock, leftovers=("key",))
    world.rented()
    world.provider.faults["leftovers"] = [Forever, SILENT]
    asyncio.run(release.act(world.ctx))
    notes = [one.data["text"] for one in world.store.events(RUN) if one.kind == "note"]
    assert any("keys of the run at fake may still be there" in text for text in notes)
