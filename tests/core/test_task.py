"""The task: one place for every default, and nothing that changes behind a step's back."""

import dataclasses

import pytest

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
        ({"max_cost": 10, "max_duration": Duration(3 * 3600)}, 2.0, 6.0),
        ({"max_cost": 5, "max_duration": Duration(3 * 3600)}, 2.0, 5.0),
        ({"max_cost": 5}, 2.0, 5.0),
        ({"max_cost": 5}, 0.0, 0.0),
        ({}, 2.0, None),
    ],
)
def test_a_run_may_cost_the_lower_of_its_limits(limits, price, ceiling):
    assert Limits(**limits).ceiling_usd(price) == ceiling
