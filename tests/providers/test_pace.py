"""Calls of one kind keep their distance."""

import asyncio

from tests.clock import FakeClock
from towline.providers.pace import Pace


def turns(clock, pace, *kinds):
    """When each of these calls had its turn, asked for at the same moment."""

    async def one(kind):
        await pace.turn(kind)
        return clock.monotonic() - 1000.0

    async def scenario():
        return [await one(kind) for kind in kinds]

    return asyncio.run(scenario())


def test_the_first_call_of_a_kind_waits_for_nothing():
    clock = FakeClock()
    assert turns(clock, Pace(clock, {"get": 2.0, "list": 1.0}), "get", "list") == [0.0, 0.0]


def test_a_call_that_comes_too_soon_waits_for_its_turn():
    clock = FakeClock()
    assert turns(clock, Pace(clock, {"get": 2.0}), "get", "get", "get") == [0.0, 2.0, 4.0]


def test_a_call_that_comes_late_does_not_wait():
    clock = FakeClock()
    pace = Pace(clock, {"get": 2.0})
    turns(clock, pace, "get")
    clock.advance(5.0)
    turns(clock, pace, "get")
    assert clock.slept == []


def test_calls_at_one_moment_queue_up():
    clock = FakeClock()
    pace = Pace(clock, {"get": 2.0})
    wanted = []
    clock.sleep = lambda seconds: wanted.append(seconds) or asyncio.sleep(0)

    async def scenario():
        await asyncio.gather(*(pace.turn("get") for _ in range(4)))

    asyncio.run(scenario())
    assert wanted == [2.0, 4.0, 6.0]
