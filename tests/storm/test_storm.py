"""A sample of the storm in the suite; `make storm N=100000` is the whole of it."""

import copy

import pytest

from tests.storm import install, oracle
from tests.storm.__main__ import lived, names
from tests.storm.plan import draw
from tests.storm.shrink import shrunk

SAMPLE = range(1, 61)


@pytest.fixture(autouse=True)
def _clean():
    yield
    install.clean()


@pytest.mark.parametrize("name", names())
def test_an_untroubled_life_ends_well_at_every_provider(name):
    plan = draw(1, [name], faults=False)
    plan["job"] |= {"code": 0, "every_s": 2.0}
    plan["task"]["limits"] = {}
    life = lived(plan)
    assert life.world.broken == []
    assert life.commands == [("train", 0, "succeeded")]


def test_no_invariant_breaks_in_a_sample_of_lives():
    broken = {}
    for seed in SAMPLE:
        life = lived(draw(seed, names()))
        if life.world.broken:
            broken[seed] = life.world.broken
    assert broken == {}


def test_a_seed_lives_the_same_life_again():
    for seed in (3, 11, 19, 42):
        plan = draw(seed, names())
        assert plan == draw(seed, names())
        first, again = lived(plan), lived(copy.deepcopy(plan))
        assert first.world.story == again.world.story
        assert first.commands == again.commands


def test_a_failing_plan_is_made_smaller():
    """Two of its faults are needed; one more, and all that is odd in the world, goes."""

    def fails(plan):
        kinds = {fault["what"] for fault in plan["faults"]}
        return {"kill", "locked"} <= kinds

    plan = draw(5, names())
    plan["faults"] = [
        {"t": 1.0, "what": "kill"}, {"t": 2.0, "what": "reboot"}, {"t": 3.0, "what": "locked", "s": 60.0},
        {"t": 4.0, "what": "line_cut"}, {"t": 5.0, "what": "lose"},
    ]  # fmt: skip
    small = shrunk(plan, fails)
    assert [fault["what"] for fault in small["faults"]] == ["kill", "locked"]
    assert small["faults"][1]["s"] < 60.0
    assert small["task"]["limits"] == {}
    assert plan["faults"][1]["what"] == "reboot"  # the one that was given is not changed


def test_a_real_failure_is_made_smaller_and_lives_again():
    """A judge that can't stand a kill: of many faults only that one is left."""

    def fails(plan):
        return any(" dies: " in text for _at, text in lived(plan).world.story)

    plan = draw(8, ["lambda"], faults=False)
    plan["job"] |= {"epochs": 3, "every_s": 2.0}
    plan["faults"] = [
        {"t": 5.0, "what": "line_cut"}, {"at": "commit", "n": 9, "what": "kill"},
        {"t": 12.0, "what": "api_down", "s": 10.0},
    ]  # fmt: skip
    small = shrunk(plan, fails)
    assert [fault["what"] for fault in small["faults"]] == ["kill"]
    assert lived(small).world.trace() == lived(small).world.trace()


def test_an_invariant_is_told_once():
    life = lived(draw(1, ["lambda"], faults=False))
    life.world.breaks(oracle.BUG, "first")
    life.world.breaks(oracle.BUG, "second")
    assert life.world.broken == [(oracle.BUG, "first")]
