"""The task: one place for every default, and nothing that changes behind a step's back."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from towline.core.task import Artifacts, Keep, Limits, Resources, TaskSpec
from towline.core.units import Duration

CLASSES = [TaskSpec, Resources, Limits, Artifacts, Keep]


@pytest.mark.parametrize("kind", CLASSES)
def test_a_task_is_frozen(kind):
    task = kind(keep=Duration(1)) if kind is Keep else kind()
    with pytest.raises(AttributeError):
        setattr(task, dataclasses.fields(kind)[0].name, "other")


@pytest.mark.parametrize("kind", CLASSES)
def test_an_unknown_key_is_refused_in_python_too(kind):
    with pytest.raises(TypeError):
        kind(no_such_key=1)


def test_the_promised_limits_are_the_defaults():
    limits = Limits()
    assert limits.ssh_timeout == 120
    assert limits.ssh_poll == 3
    assert limits.ssh_connect_timeout == 5
    assert limits.boot_timeout == Duration.parse("10m")
    assert limits.gather_grace == Duration.parse("60m")
    assert limits.stall_after == Duration.parse("30m")
    assert limits.on_stop_grace == Duration.parse("60s")
    assert limits.max_cost is None
    assert limits.max_duration is None


def test_both_ways_out_terminate_by_default():
    task = TaskSpec()
    assert task.on_success == task.on_failure == "terminate"
    assert task.upload == "auto"
    assert task.artifacts.outputs == ["output/**"]


def test_two_tasks_share_no_mutable_default():
    one, other = TaskSpec(), TaskSpec()
    one.env["A"] = "1"
    one.artifacts.outputs.append("more")
    assert other.env == {}
    assert other.artifacts.outputs == ["output/**"]


@pytest.mark.parametrize(
    ("limits", "price", "ceiling"),
    [
        (
            {"max_cost": 10, "max_duration": Duration(3 * 3600)},
            2.0,
            8.0,
        ),  # the way home is paid too
        ({"max_cost": 5, "max_duration": Duration(3 * 3600)}, 2.0, 5.0),
        ({"max_cost": 5}, 2.0, 5.0),
        ({"max_cost": 5}, 0.0, 0.0),
        ({}, 2.0, None),
    ],
)
def test_a_run_may_cost_the_lower_of_its_limits(limits, price, ceiling):
    assert Limits(on_stop_grace=Duration(0), **limits).ceiling_usd(price) == ceiling


HOUR = 3600.0


@pytest.mark.parametrize(
    ("limits", "price", "training_s", "lifetime_s"),
    [
        ({}, 2.0, None, None),
        ({"max_cost": 5}, 0.0, None, None),  # what costs nothing never reaches a sum
        ({"max_duration": Duration(HOUR)}, 2.0, HOUR, 2 * HOUR + 60),
        # of ten hours that are paid, an hour and two minutes are kept back, the last is the end's
        ({"max_cost": 20}, 2.0, 9 * HOUR - 120, 10 * HOUR - 60),
        # one hour is paid: no more than a fifth of it is kept back
        ({"max_cost": 2}, 2.0, 0.8 * HOUR, HOUR - 60),
        ({"max_cost": 5}, HOUR, 4.0, 4.5),
        ({"max_cost": 20, "max_duration": Duration(HOUR)}, 2.0, HOUR, 2 * HOUR + 60),
        ({"max_cost": 3, "max_duration": Duration(HOUR)}, 2.0, HOUR, 1.5 * HOUR - 60),
    ],
)
def test_the_cap_is_on_everything_the_way_home_included(limits, price, training_s, lifetime_s):
    limits = Limits(**limits)
    end = limits.training_end(price)
    assert (end and end[0]) == pytest.approx(training_s)
    assert limits.lifetime_s(price) == pytest.approx(lifetime_s)


@given(
    cost=st.floats(0.01, 1e5),
    price=st.floats(0.01, 1e3),
    duration=st.none() | st.floats(0, 1e6),
    graces=st.tuples(st.floats(0, 1e6), st.floats(0, 1e4)),
)
def test_no_limits_ever_cost_more_than_the_cap(cost, price, duration, graces):
    limits = Limits(
        max_cost=cost,
        max_duration=None if duration is None else Duration(duration),
        gather_grace=Duration(graces[0]),
        on_stop_grace=Duration(graces[1]),
    )
    training_s, _why = limits.training_end(price)
    lifetime_s = limits.lifetime_s(price)
    assert 0 <= training_s <= lifetime_s + 1e-6
    assert lifetime_s / 3600 * price < cost
    assert limits.ceiling_usd(price) <= cost
    if duration is None:
        assert training_s / 3600 * price >= 0.8 * cost - 1e-9
