"""What holds on a whole run while nobody drives it: the guard, the limits, the work that goes on."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.journal import rows


@pytest.fixture
def drive(job):
    """Starts a driver in the foreground; all are killed at the end."""
    started = []

    def start(*argv):
        started.append(subprocess.Popen(
            [sys.executable, "-m", "towline", *argv], cwd=job.project, env=job.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))  # fmt: skip
        return started[-1]

    yield start
    for driver in started:
        driver.kill()
        driver.wait()


def until(fact, within_s=30):
    deadline = time.monotonic() + within_s
    while not (value := fact()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return value


def is_done(job, step):
    sql = f"SELECT 1 FROM attempts WHERE step = '{step}' AND outcome = 'done'"
    return (job.home / "towline.db").exists() and rows(job.home, sql)


def leave_alone(job, drive):
    """Start the run, and take its driver away once the training runs."""
    driver = drive("train", "-y")
    until(lambda: is_done(job, "execute"))
    driver.kill()
    driver.wait()


def guards(job):
    found = []
    for process in job.processes():
        try:
            if process.cmdline()[-1:] == ["guard"]:
                found.append(process.pid)
        except psutil.Error:
            continue
    return found


def remote(job):
    (folder,) = (job.home / "local").glob("towline-*/home/towline/*/.towline")
    return folder


def is_ending(job):
    """Whether the end of the instance has begun; a cloud's bill ends then."""
    states = (job.home / "local").glob("towline-*/state.json")
    try:
        return all(json.loads(one.read_text())["status"] == "terminating" for one in states)
    except FileNotFoundError:
        return True


def test_a_guard_that_was_killed_is_armed_again_by_the_next_driver(job, drive):
    job.task("sleep 60")
    leave_alone(job, drive)
    for pid in guards(job):
        os.kill(pid, signal.SIGKILL)
    until(lambda: not guards(job))
    drive("resume")
    until(lambda: guards(job))


def test_a_guard_that_is_killed_under_a_driver_is_armed_again_by_that(job, drive):
    job.task("sleep 60")
    drive("train", "-y")
    until(lambda: is_done(job, "execute"))
    (before,) = guards(job)
    os.kill(before, signal.SIGKILL)
    until(lambda: set(guards(job)) - {before})


@pytest.mark.slow
def test_with_the_laptop_closed_the_cap_holds_for_everything(job, drive):
    job.config(price_usd_per_hour=3600.0)  # a dollar a second
    job.task("sleep 60", limits={"max_cost": 16, "gather_grace": "1h"})
    leave_alone(job, drive)
    ((since,),) = rows(job.home, "SELECT intent_at FROM instances")
    exited = remote(job) / "exit.json"
    until(exited.exists)
    trained_s = time.time() - since
    until(lambda: is_ending(job))
    ended_s = time.time() - since
    until(lambda: not list((job.home / "local").glob("towline-*")))
    assert 12.8 - 0.1 < trained_s < 14.4
    assert ended_s < 16


def test_a_limit_that_the_guard_saw_is_told_by_the_next_driver(job, drive):
    job.task("echo 1 > $TOWLINE_OUTPUT/last.pt; sleep 60", limits={"max_duration": "4s"})
    leave_alone(job, drive)
    until((remote(job) / "exit.json").exists)
    done = job.run("resume", check=3)
    assert "max_duration of 4.0 s reached" in done.stderr
    assert (job.project / "runs" / "job" / "last.pt").exists()
    assert job.left() == []


def test_work_that_the_command_detached_is_waited_for_and_comes_home(job):
    work = "sleep 5; echo epoch 1/1; echo m > $TOWLINE_OUTPUT/model.pt"
    job.task(f"setsid sh -c '{work}' & exit 0")
    done = job.run("train", "-y", check=0)
    assert re.search(r"ended \(exit code 0\), \d process(es)? that it detached go", done.stdout)
    assert (job.project / "runs" / "job" / "model.pt").read_text() == "m\n"
    assert job.left() == []


def test_detached_work_is_ended_by_stop(job, drive):
    job.task("setsid sh -c 'echo m > $TOWLINE_OUTPUT/model.pt; sleep 60' & exit 0")
    drive("train", "-y")
    until(lambda: is_done(job, "execute"))
    until((remote(job) / "detached.json").exists)
    job.run("stop", check=0)
    assert job.status()["state"] == "stopped"
    assert (job.project / "runs" / "job" / "model.pt").read_text() == "m\n"
    assert job.left() == []
