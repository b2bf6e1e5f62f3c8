"""Promises 1 and 2: what ends a run, and what only ends one driver's work on it."""

import asyncio
from types import SimpleNamespace

import pytest

from tests.clock import FakeClock
from towline import errors, runner
from towline.core.redact import Redactor
from towline.core.run import Outcome, RunRecord, RunState, StepName, Wish
from towline.store.journal import Store

BEFORE = [StepName.ACQUIRE, StepName.CONNECT, StepName.DELIVER, StepName.EQUIP]
AFTER = [StepName.EXECUTE, StepName.FOLLOW, StepName.GATHER]
#: the words by which a training may end; all other trouble is none
WORDS = {
    StepName.EXECUTE: {errors.NotStarted, errors.InstanceLost, errors.LimitReached},
    StepName.FOLLOW: {errors.TrainingFailed, errors.InstanceLost, errors.LimitReached},
    StepName.GATHER: {errors.ArtifactMissing, errors.InstanceLost, errors.LimitReached},
}
NOBODY = (errors.LeaseLost, errors.Fenced)  # another driver owns the run: nothing of ours counts


def every(kind=errors.TowlineError):
    """All kinds of errors there are."""
    found = {kind}
    for leaf in kind.__subclasses__():
        found |= every(leaf)
    return found


KINDS = sorted(every() - set(NOBODY) - {errors.TowlineError}, key=lambda kind: kind.__name__)


class Life:
    """A run whose steps do as they are told: an exception to raise, or a result."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.store = Store(folder / "towline.db", Redactor(), self.clock)
        record = RunRecord(
            id="abcdefgh23", name="r", state=RunState.ACTIVE, task={}, provider="p",
            results_dir="", created_at=self.clock.now(),
        )  # fmt: skip
        self.run = self.store.create_run(record, lambda _name: str(folder))
        self.acts = {}
        self.looks = {}
        self.taken = []
        self.outlived, self.rented = False, None

    def step(self, name):
        async def look(_ctx):
            return self._do(self.looks.get(name))

        async def act(_ctx):
            self.taken.append(name)
            return self._do(self.acts.get(name)) or {}

        return SimpleNamespace(name=name, look=look, act=act)

    def _do(self, told):
        if isinstance(told, BaseException):
            raise told
        return told

    def drive(self, monkeypatch):
        """One driver's work."""
        monkeypatch.setattr(runner, "STEPS", {name: self.step(name) for name in StepName})
        journal = self.store.take_lease(self.run.id)
        self.taken.clear()

        async def hang_up():
            """There is no line."""

        ctx = SimpleNamespace(
            run=journal.run(), journal=journal, clock=self.clock, hang_up=hang_up,
            attempts=lambda: self.store.attempts(self.run.id), note=lambda _text: None,
            is_paid_up=lambda _since: self.outlived, ledger_row=lambda: self.rented,
        )  # fmt: skip
        try:
            return asyncio.run(runner.drive(ctx))
        finally:
            self.run = self.store.run(self.run.id)

    def interrupt(self, name):
        """A driver that was killed in this step."""
        journal = self.store.take_lease(self.run.id)
        for step in StepName:
            number = journal.begin(step)
            if step is name:
                break
            journal.finish(step, number, Outcome.DONE, {})
        journal.release_lease()


@pytest.fixture
def life(tmp_path):
    made = Life(tmp_path)
    yield made
    made.store.close()


@pytest.mark.parametrize("step", AFTER)
@pytest.mark.parametrize("kind", KINDS)
def test_only_a_word_of_the_end_ends_a_training(life, step, kind, monkeypatch):
    life.acts[step] = kind("trouble")
    if kind in WORDS[step]:
        life.drive(monkeypatch)
        assert life.run.state is RunState.FAILED
        assert StepName.RELEASE in life.taken
        return
    with pytest.raises(errors.TowlineError) as raised:
        life.drive(monkeypatch)
    assert life.run.state is RunState.ACTIVE
    assert life.run.error is None
    assert StepName.RELEASE not in life.taken
    assert raised.value.resumable
    del life.acts[step]
    assert life.drive(monkeypatch).state is RunState.SUCCEEDED


@pytest.mark.parametrize("kind", [errors.SpecError, errors.ProviderAuthError, errors.CommandFailed])
def test_trouble_while_following_says_that_the_training_goes_on(life, kind, monkeypatch):
    life.acts[StepName.FOLLOW] = kind("the cat ate it", hint="feed it")
    with pytest.raises(
        errors.RunHeld, match="the cat ate it; what runs on the instance goes on"
    ) as e:
        life.drive(monkeypatch)
    assert e.value.exit_code == 5
    assert "feed it" in e.value.hint
    assert "towline resume r" in e.value.hint


@pytest.mark.parametrize("step", [*AFTER, StepName.RELEASE])
def test_a_bug_of_ours_is_no_end_of_a_training(life, step, monkeypatch):
    life.acts[step] = ZeroDivisionError("oh")
    with pytest.raises(ZeroDivisionError):
        life.drive(monkeypatch)
    assert life.run.state is RunState.ACTIVE
    assert life.run.error is None
    del life.acts[step]
    assert life.drive(monkeypatch).state is RunState.SUCCEEDED


@pytest.mark.parametrize("step", BEFORE)
@pytest.mark.parametrize(
    "trouble", [errors.SpecError("s"), errors.NotReady("n"), errors.NoCapacity("c"), ValueError()]
)
def test_before_the_start_trouble_releases_at_once(life, step, trouble, monkeypatch):
    life.acts[step] = trouble
    if isinstance(trouble, ValueError):
        with pytest.raises(ValueError):
            life.drive(monkeypatch)
    else:
        life.drive(monkeypatch)
    assert life.run.state is RunState.FAILED
    assert life.taken[-1] is StepName.RELEASE
    assert StepName.EXECUTE not in life.taken


def test_an_instance_of_a_shell_with_the_key_waits_for_it(life, monkeypatch):
    life.rented = "a row"
    life.acts[StepName.CONNECT] = errors.CredentialsError("there is no key")
    with pytest.raises(errors.RunHeld):
        life.drive(monkeypatch)
    del life.acts[StepName.CONNECT]
    assert life.drive(monkeypatch).state is RunState.SUCCEEDED


@pytest.mark.parametrize("kind", KINDS)
def test_a_release_that_fails_is_tried_once_and_said_loudly(life, kind, monkeypatch):
    life.acts[StepName.RELEASE] = kind("no key in this shell")
    with pytest.raises(errors.TowlineError) as raised:
        life.drive(monkeypatch)
    assert life.taken.count(StepName.RELEASE) == 1
    assert life.run.state is RunState.ACTIVE
    if not kind.resumable:
        assert raised.value.exit_code == 6
        assert "no key in this shell" in raised.value.message


def test_stop_looks_for_a_start_that_is_not_on_record(life, monkeypatch):
    life.interrupt(StepName.EXECUTE)
    life.store.set_wish(life.run.id, Wish.STOP)
    life.looks[StepName.EXECUTE] = {"started_at": 1.0}
    life.acts[StepName.FOLLOW] = {"stopped": "by the user's wish"}
    life.drive(monkeypatch)
    assert life.taken == [StepName.FOLLOW, StepName.GATHER, StepName.RELEASE]
    assert life.run.state is RunState.STOPPED


def test_stop_starts_nothing_that_the_look_did_not_find(life, monkeypatch):
    life.interrupt(StepName.EXECUTE)
    life.store.set_wish(life.run.id, Wish.STOP)
    life.drive(monkeypatch)
    assert life.taken == [StepName.RELEASE]


def test_stop_that_can_not_look_ends_nothing(life, monkeypatch):
    life.interrupt(StepName.EXECUTE)
    life.store.set_wish(life.run.id, Wish.STOP)
    life.looks[StepName.EXECUTE] = errors.ConnectionLost("away")
    with pytest.raises(errors.ConnectionLost):
        life.drive(monkeypatch)
    assert life.taken == []
    assert life.run.state is RunState.ACTIVE


@pytest.mark.parametrize("step", AFTER)
def test_the_end_of_the_limits_ends_whatever_is_under_way(life, step, monkeypatch):
    """Promise 5: an instance that can't be reached, or a way home that takes too long, costs no more."""

    async def endless(_ctx):
        life.outlived = True
        await asyncio.get_running_loop().create_future()

    life.step = lambda name, usual=life.step: (
        SimpleNamespace(name=name, look=usual(name).look, act=endless)
        if name is step
        else usual(name)
    )
    life.drive(monkeypatch)
    assert life.run.state is RunState.FAILED
    assert life.run.error["kind"] == "LimitReached"
    assert life.taken[-1] is StepName.RELEASE
