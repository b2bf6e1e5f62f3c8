"""Promise 2: whatever a provider's call does, one instance at most, and none is left."""

import pytest


@pytest.mark.parametrize("fault", ["lost_reply_1", "late_1"])
def test_instance_whose_create_reply_was_lost_is_adopted(job, fault):
    job.config(faults={"create": fault})
    done = job.run("train", "-y", check=0)
    assert "carries this run's tag" in done.stdout
    assert job.receipt()["release"]["gone"] is True
    assert job.left() == []


def test_next_offer_is_tried_when_one_has_no_capacity(job):
    offers = [{"type": "cheap", "price_usd_per_hour": 1}, {"type": "dear", "price_usd_per_hour": 2}]
    job.config(offers=offers, faults={"create": "no_capacity_1"})
    done = job.run("train", "-y", check=0)
    assert "trying the next offer" in done.stdout
    assert job.receipt()["instance"]["type"] == "dear"


@pytest.mark.parametrize("fault", ["no_capacity", "quota", "refuse"])
def test_refusal_is_4_and_nothing_is_rented(job, fault):
    job.config(faults={"create": fault})
    done = job.run("train", "-y", check=4)
    assert "hint:" in done.stderr
    assert job.left() == []


def test_instance_that_never_becomes_active_is_ended(job):
    job.config(faults={"boot": "never"})
    job.task(limits={"boot_timeout": "1s"})
    job.run("train", "-y", check=4)
    assert job.left() == []


def test_silent_api_at_the_end_is_asked_again(job):
    job.config(faults={"terminate": "unavailable_3", "get": "unavailable_2"})
    job.run("train", "-y", check=0)
    assert job.receipt()["release"]["gone"] is True
    assert job.left() == []
