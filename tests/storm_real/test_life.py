"""All promises, on real processes: a few lives of `make storm-real`, and what is drawn for the rest."""

import pytest

from tests.contracts.test_ssh import SSHD
from tests.storm_real.__main__ import can_run, live, told
from tests.storm_real.faults import FAULTS
from tests.storm_real.scenario import TYPED, draw

needs_namespaces = pytest.mark.skipif(
    bool(can_run()) or SSHD is None, reason=can_run() or "no OpenSSH server here"
)


def test_a_seed_draws_the_same_life_each_time():
    assert [draw(seed) for seed in range(50)] == [draw(seed) for seed in range(50)]


def test_every_fault_and_every_command_comes_up():
    strikes = [one for seed in range(3000) for one in draw(seed)["strikes"]]
    possible = set(FAULTS)
    if not any(draw(seed)["clocks"] for seed in range(300)):  # libfaketime is not here
        possible = {name for name in possible if "clock_" not in name}
    assert {one["fault"] for one in strikes if "fault" in one} == possible
    assert {tuple(one["typed"]) for one in strikes if "typed" in one} == set(TYPED)


@pytest.mark.slow
@pytest.mark.sshd
@pytest.mark.netns
@needs_namespaces
@pytest.mark.timeout(130)
@pytest.mark.parametrize("seed", [437, 538])
def test_a_life(seed):
    report = live(seed)
    assert not report["wrong"], told(report)
    assert report["struck"]
