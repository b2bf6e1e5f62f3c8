"""What every driver of a cloud must do: the provider's contract, and the faults of an HTTP API.

A test module subclasses `CloudSuite` and sets `cloud_class`, `provider_name`, `keys` and `need`.
"""

import asyncio
import copy
import json
import random
from urllib.parse import urlencode, urlsplit

import pytest

from tests.contracts.mutations import DROPPED, at, mutations
from tests.contracts.provider_suite import ProviderSuite, Subject, fresh_tag, gone, key_pair, rented
from towline import errors
from towline.clock import RealClock
from towline.core.instance import InstanceStatus
from towline.core.task import Resources
from towline.market import ask
from towline.providers import make
from towline.ssh.client import SshDialer

KEYS, HOST_KEYS = key_pair(), key_pair()
_ODD = (None, 0, -1, 0.5, True, "", "text", "0.5x H100", [], {}, [None], 10**30)


class Spoil:
    """Puts an odd value into one field of one row of whatever lists a provider answers with."""

    def start(self, seed):
        self.dice, self.what = random.Random(seed), []

    def answer(self, answer):
        status, body, headers = answer
        if not isinstance(body, dict | list) or status != 200:
            return answer
        body = copy.deepcopy(body)
        places = list(self._rows(body))
        if places:
            row = self.dice.choice(places)
            field, value = self.dice.choice(sorted(row)), self.dice.choice(_ODD)
            self.what.append((field, value))
            row[field] = value
        return status, body, headers

    def _rows(self, value):
        """Every object within it; what tells of pages is none of a list's rows."""
        inner = value.items() if isinstance(value, dict) else enumerate(value)
        for key, one in inner:
            if key in {"links", "meta"}:
                continue
            if isinstance(one, dict) and one:
                yield one
            if isinstance(one, dict | list):
                yield from self._rows(one)


def straight(cloud):
    """`Api._ask` without a socket: thousands of answers are asked for."""

    async def ask(api, method, path, body, params):
        query = "?" + urlencode(params) if params else ""
        headers = {key.lower(): value for key, value in api._headers().items()}
        raw = b"" if body is None else json.dumps(body).encode()
        target = urlsplit(api._base_url + path).path + query
        status, answer, more = cloud.answer(method, target, headers, raw)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return status, "" if answer is None else text, more

    return ask


def swapped(call, changed):
    """What lets one call be answered otherwise."""
    return lambda name, answer: changed if name == call else answer


class CloudSuite(ProviderSuite):
    cloud_class = None
    provider_name = ""
    keys = {"api_key": "test"}  # noqa: RUF012 - set once by each class
    need = Resources(gpu="H100:1")
    expect = {}  # noqa: RUF012
    #: names of the fake's calls
    create_call, list_call, get_call, terminate_call = (
        "launch",
        "list_instances",
        "get_instance",
        "terminate",
    )
    #: what each instance has besides what `create` made before it, such as an address of its own
    own_things = 0
    #: how long a provider waits that is to give up soon
    quick_s = 0.3
    #: calls whose failure keeps nothing from being listed: they tell prices
    dispensable = ()
    #: more settings of the account
    settings = {}  # noqa: RUF012

    @pytest.fixture
    def cloud(self, request):
        """A stand-in; its machines are real where a test logs in, else they only greet."""
        boxes = request.node.get_closest_marker("logs_in") is not None
        with self.cloud_class(boxes=boxes) as cloud:
            yield cloud
            assert cloud.violations == [], cloud.violations

    @pytest.fixture
    def subject(self, cloud):
        return self.subject_of(cloud)

    def subject_of(self, cloud, **settings):
        def fresh():
            return make(
                self.provider_name, home=cloud.folder, keys=self.keys, dialer=SshDialer(),
                clock=RealClock(), settings={
                    "base_url": cloud.base_url, "ssh_user": cloud.user, "ssh_port": cloud.ssh_port,
                    "timeout_s": 5, **self.settings, **settings,
                },
            )  # fmt: skip

        user_data = fresh().features.host_key_grade == "A"
        return Subject(
            fresh=fresh, need=self.need, expect=self.expect, private_key=KEYS[0],
            public_key=KEYS[1], host_keys=HOST_KEYS if user_data else None,
        )  # fmt: skip

    def quick(self, cloud):
        """A provider that gives up on a silent API soon, but not on one that is merely busy."""
        cloud.timeout_s = 2 * self.quick_s
        return self.subject_of(cloud, timeout_s=self.quick_s).fresh()

    # -- offers ---------------------------------------------------------------------------------

    def test_offers_fit_the_need_and_say_what_they_are(self, subject):
        offers = asyncio.run(subject.fresh().offers(self.need))
        assert offers
        for offer in offers:
            assert (offer.gpu, offer.gpus) == ("H100", 1)
            assert offer.price_usd_per_h > 0

    def test_a_gpu_that_nobody_has_gets_no_offer(self, subject):
        assert asyncio.run(subject.fresh().offers(Resources(gpu="V100:7"))) == []

    def test_a_need_that_is_no_gpu_is_an_error(self, subject):
        with pytest.raises(errors.SpecError):
            asyncio.run(subject.fresh().offers(Resources(gpu="many")))

    def test_an_odd_row_of_its_lists_breaks_nothing_and_is_never_offered_for_nothing(
        self, cloud, subject, monkeypatch
    ):
        """Whatever one row holds: no exception but our own, and no offer without a price."""

        async def scenario():
            provider = subject.fresh()
            usual = len(await provider.offers(Resources()))
            assert usual
            spoil, effect = Spoil(), cloud._effect
            monkeypatch.setattr(cloud, "_effect", lambda *one: spoil.answer(effect(*one)))
            for seed in range(self.spoilt_rows):
                spoil.start(seed)
                found = await ask([self.provider_name], lambda _name: provider, Resources())
                assert all(one.price_usd_per_h > 0 for one in found.offers), spoil.what
                kinds = {type(failure) for failure in found.failures.values()}
                assert errors.DriverBug not in kinds, (spoil.what, found.failures)

        asyncio.run(scenario())

    #: how many odd rows are tried
    spoilt_rows = 15

    # -- what is ours ---------------------------------------------------------------------------

    def test_what_create_made_besides_the_instance_can_be_removed(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            await gone(provider, made.id)
            for one in await provider.leftovers(subject.memos):
                assert one.tag == made.tag
                await provider.remove(one)
                await provider.remove(one)
            assert await provider.leftovers(subject.memos) == []
            assert cloud.left_over() == []

        asyncio.run(scenario())

    def test_a_repeated_create_makes_no_second_key(self, cloud, subject):
        async def scenario():
            provider, tag = subject.fresh(), fresh_tag()
            cloud.fail(self.create_call, "503")
            with pytest.raises(errors.ProviderUnavailable):
                await rented(subject, provider, tag)
            before = len(cloud.left_over())
            await rented(subject, provider, tag)
            assert len(cloud.left_over()) == before + self.own_things
            assert len(await provider.list_tagged()) == 1

        asyncio.run(scenario())

    def test_machines_of_others_are_not_listed(self, cloud, subject):
        for name in (
            "web-1",
            "towline",
            "towline-abcdefghzz",
            f"{fresh_tag()}x",
            f"x{fresh_tag()}",
        ):
            cloud.place_foreign(name)
        assert asyncio.run(subject.fresh().list_tagged()) == []

    # -- failures -------------------------------------------------------------------------------

    def test_a_wrong_key_is_said_to_be_one(self, cloud):
        wrong = type(self)()
        wrong.keys = dict.fromkeys(self.keys, "wrong")
        with pytest.raises(errors.ProviderAuthError):
            asyncio.run(wrong.subject_of(cloud).fresh().list_tagged())

    @pytest.mark.parametrize(
        ("kind", "error"),
        [
            ("500", errors.ProviderUnavailable),
            ("reset", errors.ProviderUnavailable),
            ("500_after", errors.ProviderUnavailable),
            ("reset_after", errors.ProviderUnavailable),
            ("garbage_after", errors.ProviderReplyError),
            ("timeout_after", errors.ProviderUnavailable),
            ("429", errors.RateLimited),
            ("402", errors.PaymentNeeded),
            ("403", errors.ProviderAuthError),
        ],
    )
    def test_what_create_fails_with(self, cloud, kind, error):
        async def scenario():
            subject, tag = self.subject_of(cloud), fresh_tag()
            provider = self.quick(cloud) if kind == "timeout_after" else subject.fresh()
            offer = (await provider.offers(self.need))[0]
            cloud.fail(self.create_call, kind)
            with pytest.raises(error):
                await provider.create(offer, subject.order(tag))
            happened = kind.endswith("_after")
            assert len(cloud.alive()) == happened
            assert [one.tag for one in await subject.fresh().list_tagged()] == [tag] * happened

        asyncio.run(scenario())

    @pytest.mark.parametrize("kind", ["500", "reset", "429"])
    def test_a_passing_failure_of_a_read_is_repeated(self, cloud, subject, kind):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.fail(self.list_call, kind)
            assert [one.id for one in await provider.list_tagged()] == [made.id]

        asyncio.run(scenario())

    def check_refusal(self, cloud, subject, spoil, error):
        """Once an account or a stock is spoilt, create says so plainly, and nothing is made."""

        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            spoil(cloud)
            with pytest.raises(error):
                await provider.create(offer, subject.order(fresh_tag()))
            assert await provider.list_tagged() == []

        asyncio.run(scenario())

    def check_being_deleted(self, cloud, subject):
        """An instance whose end was asked for may still bill, where the provider shows it."""

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.delete_s = 5.0
            await provider.terminate(made.id)
            assert (await provider.get(made.id)).status is InstanceStatus.TERMINATING

        asyncio.run(scenario())

    def test_a_list_that_can_not_be_read_is_no_empty_list(self, cloud, subject):
        cloud.fail(self.list_call, "garbage")
        with pytest.raises(errors.ProviderReplyError):
            asyncio.run(subject.fresh().list_tagged())

    @pytest.mark.parametrize("what", ["list_tagged", "leftovers"])
    def test_null_in_place_of_a_list_is_no_empty_list(self, cloud, subject, what):
        """Promise 2: an address that nobody read bills on."""

        async def ask():
            provider = subject.fresh()
            return await (
                provider.list_tagged() if what == "list_tagged" else provider.leftovers({})
            )

        asyncio.run(ask())
        lists = {name for _at, name, _fault in cloud.audit if cloud.lists(name)}
        if not lists:
            pytest.skip("it has no such list, or answers in XML, which knows no null")
        for name in sorted(lists):
            cloud.fail(name, "null")
            with pytest.raises(errors.ProviderReplyError):
                asyncio.run(ask())
            assert not cloud.faults

    def test_what_is_left_is_of_a_kind_that_the_features_name(self, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            await gone(provider, made.id)
            found = {one.kind for one in await provider.leftovers(subject.memos)}
            assert found <= set(provider.features.leftovers)

        asyncio.run(scenario())

    def test_an_account_is_told_from_another_by_what_is_no_secret(self, cloud, subject):
        other = type(self)()
        other.keys = {name: f"another-{value}" for name, value in self.keys.items()}
        one, same, another = (
            made.fresh().renter() for made in (subject, subject, other.subject_of(cloud))
        )
        assert one == same
        assert one.has_key_of(same)
        assert not one.has_key_of(another)
        assert one.differing(another) == []
        for value in self.keys.values():
            assert not any(value[at : at + 5] in one.key for at in range(len(value) - 4))

    def test_another_address_is_another_account(self, cloud, subject):
        elsewhere = self.subject_of(cloud, base_url=f"{cloud.base_url}/elsewhere")
        one, other = subject.fresh().renter(), elsewhere.fresh().renter()
        assert one.differing(other) == ["base_url"]
        assert not one.has_key_of(other)

    def test_the_accounts_own_id_is_the_same_for_every_process(self, subject):
        ids = {asyncio.run(subject.fresh().account_id()) for _ in range(2)}
        assert len(ids) == 1

    def test_an_errored_instance_is_dead_and_can_be_ended(self, cloud, subject):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            self.break_machine(cloud, cloud.machines[made.id])
            assert (await provider.get(made.id)).status is InstanceStatus.DEAD
            assert [one.id for one in await provider.list_tagged()] == [made.id]
            await gone(provider, made.id)
            assert cloud.alive() == []

        asyncio.run(scenario())

    def break_machine(self, cloud, machine):
        machine.status = "error"

    # -- answers that are none ------------------------------------------------------------------

    @pytest.mark.parametrize("kind", ["refused", "unsuccessful", "failed"])
    def test_a_failure_with_a_good_status_is_no_success(self, cloud, subject, kind):
        async def scenario():
            provider = subject.fresh()
            offer = (await provider.offers(self.need))[0]
            made = await rented(subject, provider)
            order = subject.order(fresh_tag())
            for name, asked_for in (
                (self.terminate_call, lambda: provider.terminate(made.id)),
                (self.get_call, lambda: provider.get(made.id)),
                (self.list_call, provider.list_tagged),
                (self.create_call, lambda: provider.create(offer, order)),
            ):
                cloud.fail(name, kind)
                with pytest.raises(errors.ProviderReplyError):
                    await asked_for()
                assert cloud.faults == []
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    def test_a_404_of_another_server_says_nothing_of_an_instance(self, cloud, subject):
        """A wrong `base_url` is not "gone", nor is what a proxy answers."""

        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            for name, asked_for in (
                (self.get_call, provider.get),
                (self.terminate_call, provider.terminate),
            ):
                cloud.fail(name, "no such page")
                with pytest.raises(errors.ProviderError) as caught:
                    await asked_for(made.id)
                assert not isinstance(caught.value, errors.NotFound)
                assert cloud.faults == []
            assert [one.id for one in cloud.alive()] == [made.id]

        asyncio.run(scenario())

    @pytest.mark.parametrize("status", ["400", "409"])
    def test_a_refused_end_counts_for_nothing_once_the_instance_is_on_its_way_out(
        self, cloud, subject, status
    ):
        async def scenario():
            provider = subject.fresh()
            made = await rented(subject, provider)
            cloud.fail(self.terminate_call, status)
            with pytest.raises(errors.ProviderError):
                await provider.terminate(made.id)
            assert [one.id for one in cloud.alive()] == [made.id]
            cloud.delete_s = 5.0
            await provider.terminate(made.id)
            found = await provider.get(made.id)
            if found is None or found.status is InstanceStatus.TERMINATING:
                cloud.fail(self.terminate_call, status)
                await provider.terminate(made.id)

        asyncio.run(scenario())

    # -- lists ----------------------------------------------------------------------------------

    def asked_by(self, cloud, asked):
        """Names of the calls that something makes, but for those that log in."""
        before = len(cloud.audit)
        asyncio.run(asked)
        aside = {"sign_in", "log_in", "list_versions", *self.dispensable}
        return {name for _at, name, _kind in cloud.audit[before:]} - aside

    @pytest.mark.parametrize("kind", ["null", "garbage", "refused", "no such page"])
    def test_no_list_that_can_not_be_read_passes_for_an_empty_one(self, cloud, subject, kind):
        """Promise 2: what is left behind and unseen is left behind."""

        asyncio.run(rented(subject, subject.fresh()))
        for asked_for in (
            lambda provider: provider.list_tagged(),
            lambda provider: provider.leftovers(subject.memos),
        ):
            for name in self.asked_by(cloud, asked_for(subject.fresh())):
                cloud.fail(name, kind)
                with pytest.raises(errors.ProviderError):
                    asyncio.run(asked_for(subject.fresh()))
                assert cloud.faults == []

    @pytest.mark.parametrize(
        "sign",
        [
            {"next_cursor": "x"}, {"nextToken": "x"}, {"has_more": True}, {"total": 99},
            {"pagination": {"next_page": 2}}, {"links": [{"rel": "next", "href": "x"}]},
            {"page": 1, "total_pages": 2},
        ],
        ids=str,
    )  # fmt: skip
    def test_a_list_that_goes_on_in_an_unknown_way_is_an_error(self, cloud, subject, sign):
        """What a list lacks would pass for gone."""

        def distort(name, answer):
            status, body, headers = answer
            if name != self.list_call or not isinstance(body, dict):
                return answer
            return status, {**body, **sign}, headers

        async def scenario():
            provider = subject.fresh()
            await rented(subject, provider)
            answers = []
            cloud.distort = lambda name, answer: answers.append((name, answer)) or answer
            await provider.list_tagged()
            told = next(answer[1] for name, answer in answers if name == self.list_call)
            if not isinstance(told, dict):
                pytest.skip("its list is nothing but rows")
            cloud.distort = distort
            with pytest.raises(errors.ProviderReplyError):
                await provider.list_tagged()

        asyncio.run(scenario())

    #: what of the stand-in says how many rows are in one answer; None: its lists have no pages
    page_size = None

    def test_every_list_is_read_to_its_last_page(self, cloud, subject):
        if self.page_size is None:
            pytest.skip("its lists have no pages")
        setattr(cloud, self.page_size, 1)

        async def scenario():
            made = [await rented(subject, subject.fresh()) for _ in range(3)]
            listed = await subject.fresh().list_tagged()
            assert sorted(one.id for one in listed) == sorted(one.id for one in made)
            left = await subject.fresh().leftovers(subject.memos)
            assert sorted(one.id for one in left) == sorted(
                map(self.leftover_id, cloud.left_over())
            )

        asyncio.run(scenario())

    def leftover_id(self, own):
        """A leftover's id as the driver gives it, of the one that the stand-in knows."""
        return own

    # -- odd answers ----------------------------------------------------------------------------

    #: of so many odd answers one is tried, where each takes its time
    one_odd_of = 1

    def test_no_odd_answer_breaks_out_or_hides_what_is_ours(self, monkeypatch):
        """Each part of each answer is dropped or replaced: nothing but our errors comes out, no
        instance counts as gone, and nothing of ours disappears from a list."""
        with self.cloud_class(boxes=False) as cloud:
            subject = self.subject_of(cloud)
            made = asyncio.run(rented(subject, subject.fresh()))
            monkeypatch.setattr("towline.providers.http.Api._ask", straight(cloud))
            for asked_for in (
                lambda provider: provider.get(made.id),
                lambda provider: provider.list_tagged(),
                lambda provider: provider.leftovers(subject.memos),
            ):
                asyncio.run(self.try_odd_answers(cloud, subject, made.tag, asked_for))

    async def try_odd_answers(self, cloud, subject, tag, asked_for):
        answers = {}

        def keep(name, answer):
            answers.setdefault(name, answer)
            return answer

        cloud.distort = keep
        usual = await asked_for(subject.fresh())
        cases = [
            (name, answer, *case)
            for name, answer in answers.items()
            for case in mutations(answer[1])
        ]
        for name, answer, path, odd, changed in cases[:: self.one_odd_of]:
            cloud.distort = swapped(name, (answer[0], changed, answer[2]))
            case = f"{name} with {odd!r} at {path}"
            try:
                found = await asked_for(subject.fresh())
            except errors.TowlineError:
                continue
            except Exception as error:
                raise AssertionError(case) from error
            # in these it names another, or says that there is none
            plain = odd in (None, "odd", []) or (odd is DROPPED and isinstance(path[-1], int))
            if plain and tag in str(at(answer[1], path)):
                continue
            assert found is not None, case
            assert not isinstance(usual, list) or len(found) >= len(usual), case

    def test_check_finds_nothing_wrong(self, subject):
        findings = asyncio.run(subject.fresh().check())
        assert findings
        assert [one for one in findings if one.fix is not None] == []
