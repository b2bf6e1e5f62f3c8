"""The promises on a whole run: secrets, limits, keeping, stalled drivers."""

import base64
import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.job.test_bad_input import POWERLESS, needs_setpriv

TOKEN = "canary-5f2a9c8e7d6b/+value"


def test_named_secret_reaches_the_training_and_no_file(job):
    job.python(
        """
        import base64, os, sys
        token = os.environ["MY_TOKEN"]
        print("raw", token)
        print("coded", base64.b64encode(token.encode()).decode())
        print("hex", token.encode().hex(), file=sys.stderr)
        print('{"type": "progress", "data": {"epoch": 1, "total_epochs": 1}}', token)
        print("password=hunter2 and cw_abcdef1234567")
        open(os.environ["TOWLINE_OUTPUT"] + "/model.pt", "w").write(str(len(token)))
        """,
        secrets=["MY_TOKEN"],
    )
    job.environment["MY_TOKEN"] = TOKEN
    done = job.run("train", "-y", "-v", check=0)
    assert (job.project / "runs" / "job" / "model.pt").read_text() == str(len(TOKEN))
    coded = base64.b64encode(TOKEN.encode())[:24]
    needles = [TOKEN.encode(), coded, TOKEN.encode().hex().encode(), b"hunter2", b"abcdef1234567"]
    kept = [p for p in job.root.rglob("*") if p.is_file() and p.name != "train.py"]
    texts = [path.read_bytes() for path in kept] + [(done.stdout + done.stderr).encode()]
    assert not [needle for needle in needles for text in texts if needle in text]
    log = (job.project / "runs" / "job" / "training.log").read_text()
    assert "raw ***REDACTED***" in log
    assert "password=***REDACTED*** and cw_***REDACTED***" in log


def test_secret_in_the_task_itself_is_refused(job):
    job.task(env={"WANDB_API_KEY": "0123456789abcdef0123"})
    done = job.run("train", "-y", check=2)
    assert "secrets:" in done.stderr
    assert "0123456789abcdef" not in done.stderr


def test_secret_that_is_not_set_is_named(job):
    job.task(secrets=["NOT_SET_ANYWHERE"])
    assert "NOT_SET_ANYWHERE" in job.run("train", "-y", check=2).stderr


def test_time_limit_ends_the_training_and_brings_home_what_there_is(job):
    job.task("echo partial > $TOWLINE_OUTPUT/last.pt; sleep 60", limits={"max_duration": "3s"})
    done = job.run("train", "-y", check=3)
    assert "max_duration" in done.stderr
    assert (job.project / "runs" / "job" / "last.pt").read_text() == "partial\n"
    assert job.left() == []


def test_cost_limit_ends_the_training(job):
    job.config(price_usd_per_hour=3600.0)  # a dollar a second
    job.task("sleep 60", limits={"max_cost": 10})
    done = job.run("train", "-y")
    assert done.returncode in (3, 5)  # 5: the way home took longer than the second that was left
    assert "max_cost of $10.00 reached ($2.00 of it is kept for the way home)" in done.stderr
    assert 8 < job.receipt()["cost_usd"] < 11  # the cap, and the second between two looks
    assert job.left() == []


def test_kept_instance_can_be_looked_at_and_is_ended_by_stop(job):
    job.task("echo 1 > $TOWLINE_OUTPUT/model.pt", on_success={"keep": "10m"})
    job.run("train", "-y", "--detach", check=0)
    deadline = time.monotonic() + 20
    while "kept" not in job.run("events", "--json").stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert job.run("ssh", "job", "--", "cat towline/*/output/model.pt").stdout == "1\n"
    job.run("stop", "job", check=0)
    assert job.status()["state"] == "succeeded"
    assert job.left() == []


@needs_setpriv
def test_model_that_cannot_be_written_here_waits_on_the_instance(job):
    results = job.project / "runs" / "job"
    job.task(f"echo 1 > $TOWLINE_OUTPUT/model.pt; chmod 555 {results}")
    done = job.run("train", "-y", prefix=POWERLESS, check=5)
    assert "towline resume" in done.stderr
    assert job.left() != []  # never terminated before its model is safe
    results.chmod(0o755)
    job.run("resume", prefix=POWERLESS, check=0)
    assert (results / "model.pt").read_text() == "1\n"
    assert job.left() == []


@pytest.mark.slow
def wait_until_driven_by(job, pid):
    """Wait until the journal says that this process holds the run's lease."""
    deadline = time.monotonic() + 15
    with contextlib.closing(sqlite3.connect(job.home / "towline.db")) as db:
        while True:
            ((holder,),) = db.execute("SELECT lease_holder_json FROM runs").fetchall()
            if holder and json.loads(holder)["pid"] == pid:
                return
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_driver_that_was_stopped_and_wakes_up_can_do_nothing_more(job):
    """The laptop's lid: another process took the run over meanwhile."""
    job.python(
        """
        import os, time
        print("started", flush=True)
        time.sleep(22)
        open(os.environ["TOWLINE_OUTPUT"] + "/model.pt", "w").write("once")
        """
    )
    argv = [sys.executable, "-m", "towline", "train", "-y"]
    first = subprocess.Popen(
        argv, cwd=job.project, env=job.environment, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 15
        while "started" not in job.run("logs").stdout:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        os.kill(first.pid, signal.SIGSTOP)
        assert job.run("resume").returncode == 11  # its lease still holds
        time.sleep(15.5)
        second = subprocess.Popen(
            [sys.executable, "-m", "towline", "resume"], cwd=job.project, env=job.environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        wait_until_driven_by(job, second.pid)
        os.kill(first.pid, signal.SIGCONT)
        said = first.communicate(timeout=30)[0]
        assert first.returncode == 11, said
        assert "taken over" in said
        said = second.communicate(timeout=40)[0]
        assert second.returncode == 0, said
    finally:
        first.kill()
        first.communicate()
    assert (job.project / "runs" / "job" / "training.log").read_text() == "started\n"
    assert json.loads(job.run("status", "--json").stdout)["state"] == "succeeded"
    assert job.left() == []
