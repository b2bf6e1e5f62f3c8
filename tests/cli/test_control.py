"""Detach, attach, resume, stop, abort: two processes and one run."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import psutil
import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")


@pytest.fixture
def patient(laptop):
    """A laptop whose training waits for `go`."""
    laptop.be_patient()
    return laptop


def detached(laptop):
    laptop("train", "-y", "--detach")
    laptop.wait_for_epoch()


def driver_pid(laptop):
    return int(re.search(r"driver +process (\d+)", laptop("status").stdout)[1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_training_detaches_and_the_run_goes_on(patient, number):
    process = patient.popen("train", "-y")
    patient.wait_for_epoch()
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=20)
    assert (process.returncode, stderr) == (130, "")
    assert stdout.endswith(
        "Detached. The run goes on in the background; `towline attach noop` returns,"
        " `towline stop noop` ends it.\n"
    )
    assert patient.json("status")["state"] == "active"
    assert driver_pid(patient) != process.pid
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("wait").stdout
    assert patient.is_clean()


def test_ctrl_c_before_the_training_detaches_too(patient):
    process = patient.popen("train", "-y")
    for line in process.stdout:
        if line.startswith("Waiting for SSH"):
            break
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)
    assert process.returncode == 130
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("wait").stdout


def test_a_second_ctrl_c_ends_the_process_at_once(patient):
    process = patient.popen("train", "-y")
    patient.wait_for_epoch()
    process.send_signal(signal.SIGINT)
    time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=5)
    assert process.returncode == 130
    patient.go.touch()  # a background driver had been started by then
    patient.wait_until(lambda: patient.rows("SELECT 1 FROM runs WHERE state = 'succeeded'"))


def test_detach_leaves_the_run_to_a_background_driver(patient):
    stdout = patient("train", "-y", "--detach").stdout
    assert "goes on in the background; `towline attach noop` shows it" in stdout
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("wait").stdout
    log = patient.home / "runs" / patient.json("status")["id"] / "driver.log"
    assert log.stat().st_mode & 0o777 == 0o600
    assert "Terminating: done" in log.read_text()
    assert patient.is_clean()


def test_detach_with_json_prints_the_status(patient):
    status = json.loads(patient("train", "-y", "--detach", "--json").stdout)
    assert status["state"] == "active"


def test_attach_shows_what_was_and_what_comes(patient):
    detached(patient)
    process = patient.popen("attach")
    seen = []
    for line in process.stdout:
        seen.append(line.rstrip("\n"))
        if line.startswith("| epoch 1/2"):
            break
    patient.go.touch()
    rest = process.stdout.read()
    assert process.wait(timeout=10) == 0
    assert seen[0].startswith("Renting: done")
    assert "Training ..." in seen
    assert "| epoch 2/2 loss=0.25\n" in rest
    assert rest.index("| epoch 2/2") < rest.index("\nTraining: done")
    assert "Model: runs/noop/model.pt" in rest
    process.stdout.close()
    process.stderr.close()


def test_ctrl_c_leaves_an_attached_run_alone(patient):
    detached(patient)
    driver = driver_pid(patient)
    process = patient.popen("attach")
    while not process.stdout.readline().startswith("| epoch 1/2"):
        pass
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=10)
    assert (process.returncode, stderr) == (130, "")
    assert "The run is left alone; `towline attach noop` returns." in stdout
    assert driver_pid(patient) == driver


def test_a_second_driver_is_refused_with_11(patient):
    detached(patient)
    done = patient("resume", code=11)
    assert str(driver_pid(patient)) in done.stderr
    assert "towline attach noop" in done.stderr
    assert done.stdout == ""


def test_a_run_without_a_driver_is_said_to_be_so_and_resume_takes_it_up(patient):
    detached(patient)
    psutil.Process(driver_pid(patient)).kill()
    for command in ("attach", "wait"):
        done = patient(command, code=5)
        assert "no process drives it" in done.stderr
        assert "hint: `towline resume noop`" in done.stderr
    assert "active, no driver" in patient("ls").stdout
    assert "none: towline resume noop" in patient("status").stdout
    patient.go.touch()
    stdout = patient("resume").stdout
    assert "Renting" not in stdout
    assert stdout.startswith("Training (attempt 2) ...\n")
    assert "Model: runs/noop/model.pt" in stdout


def test_a_key_that_is_away_ends_nothing_and_the_run_can_be_resumed(patient):
    detached(patient)
    psutil.Process(driver_pid(patient)).kill()
    ((run_id,),) = patient.rows("SELECT id FROM runs")
    key = patient.home / "runs" / run_id / "key"
    key.rename(key.with_name("key.away"))
    done = patient("resume", code=5)
    assert "key can't be read: No such file or directory" in done.stderr
    assert "Nothing was ended: the training goes on on the instance." in done.stdout
    assert "`towline resume noop` goes on with the run" in done.stdout
    key.with_name("key.away").rename(key)
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("resume").stdout


def test_sigterm_ends_a_background_driver_and_not_the_run(patient):
    detached(patient)
    driver = psutil.Process(driver_pid(patient))
    driver.send_signal(signal.SIGHUP)
    driver.send_signal(signal.SIGTERM)
    driver.wait(10)
    assert patient.json("status")["state"] == "active"
    assert "active, no driver" in patient("status").stdout


def test_resume_all_takes_up_every_run(patient):
    for _ in range(2):
        detached(patient)
        psutil.Process(driver_pid(patient)).kill()
    patient.go.touch()
    stdout = patient("resume", "--all").stdout
    assert "[noop] Training (attempt 2) ..." in stdout
    assert "[noop-2] Training (attempt 2) ..." in stdout
    assert {run["state"] for run in patient.json("ls")} == {"succeeded"}
    assert "Nothing to resume" in patient("resume", "--all").stdout
    assert "not both" in patient("resume", "noop", "--all", code=2).stderr


def test_an_error_that_can_be_resumed_says_what_still_runs_and_what_it_costs(patient):
    patient.settle("{price_usd_per_hour: 2.5}")
    process = patient.popen("train", "-y")
    patient.wait_for_epoch()
    results = patient.project / "runs" / "noop"
    results.rmdir()
    results.write_text("in the way")
    patient.go.touch()
    stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 5, stderr
    assert "\n\nhint: " in stderr
    assert " still runs and costs $2.50 an hour.\n" in stdout
    assert "`towline resume noop` goes on with the run, `towline abort noop` ends it." in stdout
    results.unlink()
    assert "Model: runs/noop/model.pt" in patient("resume").stdout


def test_stop_brings_home_what_there_is(patient):
    detached(patient)
    stdout = patient("stop").stdout
    assert "Run noop: stopped; what came home is in runs/noop" in stdout
    assert (patient.project / "runs/noop/output/early.txt").read_text() == "early"
    assert patient.json("status")["state"] == "stopped"
    patient("wait", code=3)  # no model is home
    assert patient.is_clean()


def test_stop_drives_a_run_that_nobody_drives(patient):
    detached(patient)
    psutil.Process(driver_pid(patient)).kill()
    assert "Run noop: stopped" in patient("stop").stdout


def test_abort_discards(patient):
    process = patient.popen("train", "-y")
    patient.wait_for_epoch()
    assert "Aborted: what was on the instance is discarded." in patient("abort").stdout
    stdout, _ = process.communicate(timeout=10)
    assert "Aborted" in stdout
    assert patient.json("status")["state"] == "aborted"
    assert not (patient.project / "runs/noop/output").exists()
    assert patient.is_clean()


def test_logs_follow_until_the_run_ends(patient):
    detached(patient)
    process = patient.popen("logs", "-f")
    assert process.stdout.readline() == "epoch 1/2 loss=0.5\n"
    patient.go.touch()
    assert process.communicate(timeout=20) == ("epoch 2/2 loss=0.25\n", "")
    assert process.returncode == 0


def test_a_live_instance_can_be_reached(patient):
    detached(patient)
    run_id = patient.json("status")["id"]
    assert patient("ssh", "noop", "echo", "a  b").stdout == "a  b\n"
    assert patient("ssh", "noop", "echo $((6 * 7)); exit 3", code=3).stdout == "42\n"
    assert patient.json("gc", "--dry-run")["claimed"][0]["tag"] == f"towline-{run_id}"
    fetched = patient("fetch").stdout
    assert "1 file, 5 B, each verified" in fetched
    assert (patient.project / "runs/noop/output/early.txt").read_text() == "early"
    missing = patient("fetch", "noop", "*.nosuch", code=2)
    assert "no file fits *.nosuch" in missing.stderr
    assert "output/early.txt" in missing.stderr


def test_a_shell_is_the_system_s_ssh(patient):
    detached(patient)
    fake = patient.root / "bin"
    fake.mkdir()
    (fake / "ssh").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\nexit 7\n')
    (fake / "ssh").chmod(0o755)
    env = patient.env | {"PATH": f"{fake}:{os.environ['PATH']}"}
    done = patient("ssh", code=7, env=env)
    assert "StrictHostKeyChecking=yes" in done.stdout
    env["PATH"] = str(patient.project)
    missing = patient("ssh", code=2, env=env)
    assert "there is no `ssh` on this machine" in missing.stderr


def test_an_orphan_is_listed_and_ended(patient):
    """The journal's word that a run is over makes its instance an orphan."""
    import sqlite3

    detached(patient)
    psutil.Process(driver_pid(patient)).kill()
    with sqlite3.connect(patient.home / "towline.db") as db:
        db.execute("UPDATE runs SET state = 'failed', ended_at = 1")
    db.close()
    orphan = patient.json("gc", "--dry-run")["orphans"][0]
    keys = {"provider", "kind", "id", "tag", "since", "price_usd_per_hour"}
    assert orphan.keys() == keys
    assert "orphan: " in patient("gc", "--dry-run").stdout
    swept = patient.json("gc")
    assert [row["id"] for row in swept["ended"]] == [orphan["id"]]
    assert swept.keys() == {"orphans", "claimed", "foreign", "unreachable", "ended", "failed"}
    assert patient("gc").stdout == "no orphans\n"
    assert patient.is_clean()


BROKEN = """
import sys, types
from towline.cli import background, main
background.sys = types.SimpleNamespace(executable="/nonexistent/python")
sys.exit(main.run_command(sys.argv[1:]))
"""


def test_a_process_that_cannot_be_started_is_said_and_the_run_can_be_resumed(patient):
    argv = [sys.executable, "-c", BROKEN, "train", "-y"]
    options = {"cwd": patient.project, "stdout": -1, "stderr": -1, "text": True}
    process = subprocess.Popen(argv, env=patient.env, **options)
    patient.wait_for_epoch()
    process.send_signal(signal.SIGINT)
    _stdout, stderr = process.communicate(timeout=20)
    assert process.returncode == 5
    assert "no background driver can be started: No such file or directory" in stderr
    assert "hint: `towline resume " in stderr
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("resume").stdout


def test_a_driver_whose_log_cannot_be_written_drives_all_the_same(patient):
    process = patient.popen("train", "-y", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    patient.wait_for_epoch()
    ((run_id,),) = patient.rows("SELECT id FROM runs")
    (patient.home / "runs" / run_id / "driver.log").mkdir()
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("wait").stdout


def test_a_background_driver_that_does_not_start_is_said_so(patient):
    # a package that fails to import stands in for an installation that broke meanwhile
    program = (
        "import sys\n"
        "from towline.cli import background, main\n"
        "background.sys.executable = '/bin/false'\n"
        "sys.exit(main.run_command(['train', '-y', '--detach']))\n"
    )
    done = subprocess.run(
        [*patient.argv()[:1], "-c", program],
        env=patient.env, cwd=patient.project, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 5
    assert "has not started; its output is in" in done.stderr
    assert "towline resume noop" in done.stderr


def test_a_provider_that_does_not_answer_makes_gc_4(laptop):
    laptop.settle("{faults: {list: unavailable}}")
    found = laptop.json("gc", "--dry-run", code=4)
    assert found["unreachable"][0]["provider"] == "local"
    assert "no answer from local" in laptop("gc", code=4).stdout
    assert "BAD  provider local:" in laptop("doctor", code=2).stdout
