"""Promise 1, in the program's own answers: what a model of it is held to, and some of it by itself."""

import json
import subprocess
import sys

import pytest

from tests.storm_real.__main__ import can_run
from tests.storm_real.histories import record

PHASES = {"none", "running", "ended", "interrupted"}


@pytest.fixture(scope="module")
def histories():
    return {seed: record(seed, 7) for seed in (1, 3)}


def test_a_history_is_the_same_each_time(histories):
    assert record(1, 7) == histories[1]


def test_a_history_is_plain_data(histories):
    assert json.loads(json.dumps(histories[1])) == histories[1]


def test_nothing_that_happens_takes_an_end_or_a_start_back(histories):
    for history in histories.values():
        phases = [one["answer"]["phase"] for one in history if "phase" in one["answer"]]
        assert set(phases) <= PHASES
        order = ["none", "running", "ended"]
        ranks = [min(order.index(one) if one in order else 2, 2) for one in phases]
        assert ranks == sorted(ranks)


def test_the_first_start_rules(histories):
    for history in histories.values():
        epochs = [one["answer"]["epoch"] for one in history if one["answer"].get("started")]
        assert len(set(epochs)) <= 1


@pytest.mark.netns
@pytest.mark.skipif(bool(can_run()), reason=can_run() or "")
def test_a_disk_that_fills_up_belongs_to_a_history():
    private = ["unshare", "--mount", "--propagation", "private", sys.executable, "-m"]
    argv = [*private, "tests.storm_real.histories", "2"]
    done = subprocess.run(argv, check=True, capture_output=True, text=True, timeout=50)
    history = json.loads(done.stdout)
    assert {"refused": "disk_full"} in [one["answer"] for one in history]
