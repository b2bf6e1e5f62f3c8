"""What every provider must do, whatever it rents.

A test module subclasses `ProviderSuite` and gives a `subject` fixture: a `Subject` whose provider
has nothing rented yet, and which cleans up after itself.
"""

import asyncio
import dataclasses
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from towline import errors
from towline.core.instance import InstanceId, InstanceStatus, Order, run_id_from, tag_for
from towline.core.task import Resources
from towline.ports import Provider
from towline.ssh.client import SshDialer, new_key_pair


@dataclass
class Subject:
    """One provider under test."""

    #: a new object over the same account, as another process would have
    fresh: Callable[[], Provider]
    need: Resources
    #: what `features` must say: field -> value
    expect: dict[str, Any]
    #: a private key that its instances let in; None: the address carries an identity
    private_key: str | None
    public_key: str
    #: the host key that user-data carries, as (private, public) OpenSSH text
    host_keys: tuple[str, str] | None = None
    #: how long from create to active, and from there to a login, may take
    ready_within_s: float = 10.0
    #: by tag, what `attach_address` keeps
    memos: dict[str, Any] = field(default_factory=dict)

    def order(self, tag):
        private, public = self.host_keys or (None, None)
        return Order(
            tag=tag, public_key=self.public_key, host_key=private, host_public_key=public,
            lifetime_s=7200.0,
        )  # fmt: skip

    async def address(self, instance):
        """Where to log in, with the host key that must be there."""
        if instance.address.host_key is not None or instance.address.known_hosts is not None:
            return instance.address
        key = self.host_keys[1] if self.host_keys else None
        return dataclasses.replace(
            instance.address, host_key=key or await SshDialer().host_key(instance.address, 10)
        )


class Notes:
    """A `Memo` in memory."""

    def __init__(self):
        self.value = {}

    def read(self):
        return dict(self.value)

    def write(self, value):
        self.value = dict(value)


def fresh_tag():
    return tag_for(run_id_from(os.urandom(8)))


def key_pair():
    return new_key_pair("towline-test")


async def rented(subject, provider, tag=None):
    """Create one instance and wait until it is active."""
    offer = (await provider.offers(subject.need))[0]
    instance = await provider.create(offer, subject.order(tag or fresh_tag()))
    deadline, memo = time.monotonic() + subject.ready_within_s, Notes()
    while instance.status is InstanceStatus.BUILDING or instance.address is None:
        assert time.monotonic() < deadline
        if instance.status is InstanceStatus.ACTIVE:
            await provider.attach_address(instance, memo)
        await asyncio.sleep(0.02)
        instance = await provider.get(instance.id)
    subject.memos[instance.tag] = memo
    return instance


def same(one, other):
    """Whether two answers tell the same of one machine; lists may know less of its beginning."""
    return dataclasses.replace(one, started_at=None) == dataclasses.replace(other, started_at=None)


async def gone(provider, instance_id):
    """Terminate and wait for the provider's word."""
    await provider.terminate(instance_id)
    deadline = time.monotonic() + 20
    while await provider.get(instance_id) is not None:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
        await provider.terminate(instance_id)


class ProviderSuite:
    def test_features_say_what_the_provider_offers(self, subject):
        features = subject.fresh().features
        assert {name: getattr(features, name) for name in subject.expect} == subject.expect
        assert features.host_key_grade in {"A", "B", "C", "U"}

    def test_offers_name_their_provider_and_a_price(self, subject):
        provider = subject.fresh()
        offers = asyncio.run(provider.offers(subject.need))
        assert offers
        for offer in offers:
            assert offer.provider == provider.name
            assert offer.type
            assert offer.price_usd_per_h >= 0

    def test_nothing_is_listed_before_create(self, subject):
        assert asyncio.run(subject.fresh().list_tagged()) == []

    def test_a_created_instance_carries_tag_type_and_start(self, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            offer = (await provider.offers(subject.need))[0]
            before = time.time()
            made = await provider.create(offer, subject.order(tag))
            assert (made.tag, made.provider, made.type) == (tag, provider.name, offer.type)
            assert before - 2 <= made.started_at <= time.time() + 2
            assert made.price_usd_per_h == offer.price_usd_per_h

        asyncio.run(scenario())

    def test_create_get_and_list_tell_the_same_from_any_process(self, subject):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(subject.need))[0]
            made = await rented(subject, provider)
            assert made.type == offer.type
            assert same(await subject.fresh().get(made.id), made)
            (listed,) = await subject.fresh().list_tagged()
            assert same(listed, made)

        asyncio.run(scenario())

    def test_an_active_instance_has_an_address_of_the_promised_grade(self, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            assert made.status is InstanceStatus.ACTIVE
            assert 0 < made.address.port < 65536
            assert (made.address.known_hosts is None) or provider.features.host_key_grade == "U"

        asyncio.run(scenario())

    @pytest.mark.logs_in
    def test_an_active_instance_runs_a_command(self, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            dialer = SshDialer()
            deadline = time.monotonic() + subject.ready_within_s
            while not (await dialer.probe(made.address, 5)).text:
                assert time.monotonic() < deadline
                await asyncio.sleep(0.02)
            address = await subject.address(made)
            remote = await dialer.dial(address, subject.private_key, 10)
            try:
                done = await remote.run(["sh", "-c", "cat; exit 3"], b"\x00\xff over")
                assert (done.exit_status, done.stdout) == (3, b"\x00\xff over")
            finally:
                await remote.close()

        asyncio.run(scenario())

    @pytest.mark.logs_in
    def test_a_stranger_can_not_pass_for_the_instance(self, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            if made.address.known_hosts is not None:
                pytest.skip("the user's known_hosts decides")
            other = key_pair()[1]
            address = dataclasses.replace(made.address, host_key=other)
            while not (await SshDialer().probe(address, 5)).text:
                await asyncio.sleep(0.02)
            with pytest.raises(errors.HostKeyMismatch):
                await SshDialer().dial(address, subject.private_key, 10)

        asyncio.run(scenario())

    def test_an_ended_instance_is_gone_for_everyone(self, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            await gone(subject.fresh(), made.id)
            assert await subject.fresh().get(made.id) is None
            assert await subject.fresh().list_tagged() == []

        asyncio.run(scenario())

    def test_ending_one_leaves_the_other(self, subject):
        async def scenario():
            provider = subject.fresh()
            one, two = await rented(subject, provider), await rented(subject, provider)
            assert {one.id, two.id} == {found.id for found in await provider.list_tagged()}
            await gone(provider, one.id)
            (left,) = await provider.list_tagged()
            assert same(left, two)

        asyncio.run(scenario())

    def test_terminate_may_be_repeated(self, subject):
        async def scenario():
            made = await rented(subject, subject.fresh())
            for _ in range(3):
                await gone(subject.fresh(), made.id)

        asyncio.run(scenario())

    @pytest.mark.parametrize(
        "name", ["", "..", "../../etc", "towline-x", "i-0abc", "no\nsuch", "a" * 500, "\x00"]
    )
    def test_an_unknown_id_is_gone_and_ending_it_is_no_error(self, subject, name):
        async def scenario():
            provider = subject.fresh()
            assert await provider.get(InstanceId(name)) is None
            await provider.terminate(InstanceId(name))

        asyncio.run(scenario())

    @pytest.mark.parametrize("tag", ["", "web-1", "towline-", "towline-abcdefghzz", "../towline"])
    def test_a_tag_that_is_not_ours_is_refused(self, subject, tag):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(subject.need))[0]
            with pytest.raises(errors.SpecError):
                await provider.create(offer, subject.order(tag))
            assert await provider.list_tagged() == []

        asyncio.run(scenario())
