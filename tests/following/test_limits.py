"""A limit ends a training when its time has come, by the instance's own clock, and no sooner."""

import asyncio
from types import SimpleNamespace

import pytest

from towline.core.task import Limits, TaskSpec
from towline.core.units import Duration
from towline.steps.follow import _Follower


class Line:
    """A line to a training that ends when it is asked to, or never."""

    def __init__(self, phase="ended"):
        self.phase, self.asked = phase, []

    async def call(self, verb, args):
        self.asked.append((verb, args))
        return {"phase": self.phase, "exit": None, "guard": None}


@pytest.fixture
def follower(driver):
    """Makes a follower of a training with these limits, at a dollar an hour."""

    def make(**limits):
        driver.task = TaskSpec(limits=Limits(**limits))
        ctx = driver.context()
        ctx.ledger_row = lambda: SimpleNamespace(price_usd_per_h=1.0)
        return _Follower(ctx)

    return make


def watch(follower, line):
    asyncio.run(follower._watch_limits(line))
    return follower.limit


def test_a_wall_clock_an_hour_ahead_ends_nothing(driver, follower):
    one, line = follower(max_duration=Duration(10)), Line()
    one._remark({"age_s": 2.0})
    driver.clock._now += 3600
    assert watch(one, line) is None
    driver.clock.advance(7.9)
    assert watch(one, line) is None
    driver.clock.advance(0.2)
    assert watch(one, line) == "max_duration of 10 s reached"
    assert line.asked == [("halt", {"grace_s": 60.0})]
    assert watch(one, line) == "max_duration of 10 s reached"
    assert len(line.asked) == 1


def test_the_instances_word_replaces_what_was_reckoned(driver, follower):
    one, line = follower(max_duration=Duration(100)), Line()
    one._remark({"age_s": 2.0})
    driver.clock.advance(50)
    one._remark({"age_s": 101.0})  # this machine has slept
    assert watch(one, line) is not None


def test_without_the_instances_word_nothing_is_ended(driver, follower):
    one, line = follower(max_duration=Duration(10), max_cost=0.0), Line()
    driver.clock.advance(1000)
    assert watch(one, line) is None
    one._remark({"age_s": None})
    assert watch(one, line) is None


def test_the_training_ends_before_its_money_does(driver, follower):
    one, line = follower(max_cost=1.0, on_stop_grace=Duration(7)), Line()
    one._remark({"age_s": 2879.0})
    assert watch(one, line) is None
    driver.clock.advance(2)
    assert watch(one, line) == "max_cost of $1.00 reached ($0.20 of it is kept for the way home)"
    assert line.asked == [("halt", {"grace_s": 7.0})]


def test_what_does_not_end_is_said_and_not_waited_for(driver, follower):
    one = follower(max_duration=Duration(10))
    one._remark({"age_s": 11.0})
    watch(one, Line("running"))
    assert one._undying["phase"] == "running"
    assert any("did not end, not even by SIGKILL" in note for note in driver.notes())


def test_what_the_command_detached_is_told_once(driver, follower):
    one = follower()
    for _ in range(3):
        one._remark({"idle_s": 1.0, "detached": {"code": 0, "processes": 2}})
    one._remark({"idle_s": 1.0, "detached": None})
    (note,) = driver.notes()
    assert "the command ended (exit code 0), 2 processes that it detached go on" in note
    assert "towline stop r" in note
