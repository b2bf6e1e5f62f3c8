"""Promise 2 on the instance itself: when nobody comes back, it ends."""

import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.onboard.machine import Machine, wait_for, with_root
from towline.onboard import guard


def guards(machine):
    """Living guard processes of a run."""
    found = []
    for process in machine.processes():
        try:
            mine = process.environ().get("TOWLINE_RUN_ID") == machine.run
            if mine and process.cmdline()[-1:] in (["guard"], ["rearm"]):
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def arm(machine, *, end_argv=(), epoch=1, reboot=False, age=None, **limits):
    """Arm it with some limits; its age is that of the machine's first arming."""
    touch = ["touch", str(machine.home / "instance-ended")]
    said = machine.ask(
        "guard",
        epoch=epoch,
        end_argv=touch if end_argv == () else end_argv,
        reboot=reboot,
        age={"known_s": 0.0, "wall_s": 0.0, "boot_s": 0.0, "own_boot": False, **(age or {})},
        limits={
            "training_s": None, "why": "the limit", "lifetime_s": None, "grace_s": 3600.0,
            "stop_grace_s": 20.0, **limits,
        },
    )  # fmt: skip
    assert said["armed"]
    return said


def ended(machine):
    return (machine.home / "instance-ended").exists()


def silent(machine):
    arm(machine, grace_s=0.3)
    wait_for(lambda: ended(machine))
    return machine.state()["guard"]["reason"]


def training(machine):
    machine.start("sleep 2.2")
    arm(machine, grace_s=0.3)
    wait_for(lambda: machine.marker("exit") is not None)
    early = ended(machine)
    wait_for(lambda: ended(machine))
    return early, machine.state()


def time_is_up(machine):
    machine.start("echo up; sleep 30")
    arm(machine, training_s=0.5, lifetime_s=2.0)
    log, state = machine.follow()
    wait_for(lambda: ended(machine))
    return log, state


def no_way_to_end_itself(machine):
    machine.start("sleep 30")
    arm(machine, training_s=0.5, lifetime_s=1.5, end_argv=None)
    state = machine.to_the_end()
    wait_for(lambda: not guards(machine))
    return state


def new_orders(machine):
    arm(machine, grace_s=4.0)
    first = guards(machine)
    arm(machine, grace_s=3600.0, epoch=2)
    time.sleep(5.5)
    return first, guards(machine), ended(machine)


def stricter_orders(machine):
    arm(machine)
    arm(machine, lifetime_s=0.2, epoch=2)
    wait_for(lambda: ended(machine))
    return machine.state()["guard"]["reason"]


def visited(machine):
    arm(machine, grace_s=1.5)
    for _ in range(12):
        machine.ask("follow", log=machine.layout.log, offset=0)
        time.sleep(0.25)
    return ended(machine), len(guards(machine))


def installing(machine):
    """A verb whose frames come for longer than the grace, as an upload's do."""
    (machine.bin / "uv").write_text("#!/bin/sh\nfor i in $(seq 10); do echo $i; sleep 0.2; done\n")
    (machine.bin / "uv").chmod(0o755)
    arm(machine, grace_s=1.6)
    frames, _made = machine.answer(
        machine.open(
            "equip", requirements=["--no-index"], key="k", image=None, cwd=machine.layout.code
        )
    )
    return len(frames), ended(machine), len(guards(machine))


def released(machine):
    arm(machine)
    pids = guards(machine)
    guard.dismiss(str(machine.control))  # as `leave` does first of all, where it can kill nobody
    wait_for(lambda: not guards(machine))
    return pids


def killed(machine):
    arm(machine)
    for pid in guards(machine):
        psutil.Process(pid).kill()
    wait_for(lambda: not guards(machine))
    arm(machine, grace_s=0.3)
    wait_for(lambda: ended(machine))
    return machine.state()["guard"]


def robbed(machine):
    """Its folder is taken away, and not by `leave`: no proof that the run is over."""
    arm(machine, grace_s=1.5)
    shutil.rmtree(machine.root)
    wait_for(lambda: ended(machine))


def misled(machine):
    """Its orders turn to garbage."""
    arm(machine, grace_s=1.5)
    (machine.control / "guard.json").write_text('{"grace_s": 36')
    wait_for(lambda: ended(machine))


def refused(machine):
    """The end command fails the first time."""
    tried = machine.home / "tried"
    script = f"test -e {tried} && touch {machine.home}/instance-ended; touch {tried}; exit 1"
    arm(machine, grace_s=0.3, end_argv=["sh", "-c", script])
    wait_for(lambda: ended(machine))


def asked_to_end(machine):
    """A training that was asked to end, and can't be ended, is no company for ever."""
    machine.start("trap '' TERM; while :; do sleep 0.05; done")
    (machine.control / "halted.json").write_text('{"age_s": -100}')
    arm(machine, grace_s=0.3, stop_grace_s=1.0)
    wait_for(lambda: ended(machine))
    return machine.state()["phase"]


def older_than_thought(machine):
    """The limits count from the create; what the driver measured before the arming is in."""
    arm(machine, lifetime_s=100.0, age={"known_s": 99.0})
    wait_for(lambda: ended(machine))
    return machine.marker("age")["age_s"]


def armed_by_another(machine):
    """A later driver's idea of the age has no weight against the instance's own."""
    arm(machine, lifetime_s=100.0, age={"known_s": 10.0})
    said = arm(machine, lifetime_s=100.0, age={"known_s": None, "wall_s": 3600.0}, epoch=2)
    return said["age_s"]


def after_a_reboot(machine):
    arm(machine, grace_s=0.3, end_argv=["touch", "instance-ended"])
    for pid in guards(machine):
        psutil.Process(pid).kill()
    wait_for(lambda: not guards(machine))
    arm(machine, epoch=2)
    for pid in guards(machine):
        psutil.Process(pid).kill()
    wait_for(lambda: not guards(machine))
    said = machine.ask("rearm")
    return said, len(guards(machine)), machine.ask("rearm")


CASES = (silent, training, time_is_up, no_way_to_end_itself, new_orders, stricter_orders, visited)
CASES += (installing, released, killed, robbed, misled, refused, asked_to_end)
CASES += (older_than_thought, armed_by_another, after_a_reboot)


@pytest.fixture(scope="module")
def outcome():
    """Every case on a machine of its own, all at the same time: a guard looks once a second."""
    machines = [Machine() for _ in CASES]
    try:
        with ThreadPoolExecutor(len(CASES)) as pool:
            running = {
                case: pool.submit(case, machine)
                for case, machine in zip(CASES, machines, strict=True)
            }
        yield lambda case: running[case].result()
    finally:
        for machine in machines:
            machine.close()


def test_an_instance_nobody_comes_back_to_ends_itself(outcome):
    assert "nobody came" in outcome(silent)


def test_a_running_training_is_left_in_peace_and_counts_as_company(outcome):
    early, state = outcome(training)
    assert not early
    assert (state["phase"], state["exit"]["code"]) == ("ended", 0)
    assert "nobody came" in state["guard"]["reason"]


def test_at_the_limit_the_training_is_ended_and_then_the_instance(outcome):
    log, state = outcome(time_is_up)
    assert log == b"up\n"
    assert state["exit"]["signal"] == 15
    assert "limit" in state["guard"]["reason"]


def test_an_instance_that_cannot_end_itself_ends_the_training(outcome):
    state = outcome(no_way_to_end_itself)
    assert state["phase"] == "ended"
    assert "limit" in state["guard"]["reason"]


def test_new_orders_are_obeyed_by_the_one_guard(outcome):
    first, later, is_ended = outcome(new_orders)
    assert len(first) == 1
    assert later == first
    assert not is_ended


def test_stricter_orders_are_obeyed_too(outcome):
    assert "limit" in outcome(stricter_orders)


def test_a_driver_that_looks_in_keeps_the_instance(outcome):
    assert outcome(visited) == (False, 1)


@pytest.mark.slow
def test_a_driver_that_is_at_work_keeps_the_instance_however_long_it_takes(outcome):
    frames, is_ended, watching = outcome(installing)
    assert frames >= 20
    assert not is_ended
    assert watching == 1


def test_a_guard_whose_run_was_released_goes_away(outcome):
    assert len(outcome(released)) == 1


def test_a_guard_that_was_killed_is_armed_again(outcome):
    assert "nobody came" in outcome(killed)["reason"]


def test_a_guard_whose_folder_was_taken_away_ends_the_instance_all_the_same(outcome):
    outcome(robbed)


def test_orders_that_cannot_be_read_any_more_stand_as_they_were(outcome):
    outcome(misled)


def test_an_end_command_that_failed_is_begun_again(outcome):
    outcome(refused)


def test_a_training_that_cannot_be_ended_keeps_no_instance(outcome):
    assert outcome(asked_to_end) == "running"


def test_the_time_before_the_arming_counts(outcome):
    assert outcome(older_than_thought) > 99


def test_the_age_is_the_instances_own_whatever_clock_the_next_driver_has(outcome):
    assert 10 < outcome(armed_by_another) < 60


def test_a_guard_is_started_again_by_its_old_orders(outcome):
    said, count, again = outcome(after_a_reboot)
    assert (said, count) == ({"armed": True, "started": True}, 1)
    assert again["started"] is False


# -- with faults that need root to be made ----------------------------------------------------------


def test_on_a_full_disk_the_exit_code_is_kept_and_the_instance_ends(here, small_disk):
    small_disk(here)
    arm(here, grace_s=1.5)
    fill = "cat /dev/zero > $TOWLINE_OUTPUT/big; printf x > $TOWLINE_OUTPUT/more; exit 7"
    here.start(fill)
    wait_for(lambda: here.state()["phase"] == "ended")
    assert os.statvfs(here.root).f_bavail == 0
    assert here.state()["exit"]["code"] == 7
    wait_for(lambda: ended(here))
    wait_for(lambda: "nobody came" in here.state()["guard"]["reason"])


def test_a_new_driver_is_obeyed_on_a_full_disk(here, small_disk):
    small_disk(here)
    arm(here)
    here.start("cat /dev/zero > $TOWLINE_OUTPUT/big; exit 0")
    wait_for(lambda: here.state()["phase"] == "ended")
    for epoch in (2, 3, 4):
        arm(here, epoch=epoch)
    arm(here, grace_s=0.3, epoch=5)
    wait_for(lambda: ended(here))


def test_a_process_that_the_guard_may_not_end_keeps_no_instance(machines):
    """Root's under a user's run; like one that the kernel holds, it does not go."""
    machine, rooted = with_root(machines)
    arm(machine, training_s=0.5, stop_grace_s=0.3, lifetime_s=3.0)
    machine.start(f"exec {rooted} sleep 60")
    wait_for(lambda: ended(machine))
    state = machine.state()
    assert (state["phase"], state["guard"]["limit"]) == ("running", "the limit")
