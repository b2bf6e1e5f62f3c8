"""A run whose task another version of towline stored: it is looked at, brought home and ended."""

import contextlib
import json
import os
import signal
import sqlite3

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")
#: what a newer version might store
NEWER = {"priority": "high", "limits": {"max_cost": {"eur": 5}, "stall_after": "never"}}


def store_anew(laptop, change):
    """Change the stored task behind towline's back."""
    with contextlib.closing(sqlite3.connect(laptop.home / "towline.db")) as db, db:
        ((text,),) = db.execute("SELECT task_json FROM runs")
        db.execute("UPDATE runs SET task_json = ?", [json.dumps(change(json.loads(text)))])


def newer(task):
    return task | {"spec": task["spec"] | NEWER}


@pytest.fixture
def running(laptop):
    """A training that runs, its driver killed, its task stored by another version."""
    laptop.be_patient()
    driver = laptop.popen("train", "-y")
    laptop.wait_for_epoch()
    driver.kill()
    driver.communicate()
    store_anew(laptop, newer)
    return laptop


def test_it_can_be_looked_at(running):
    assert "active, no driver" in running("ls").stdout
    assert running.json("status")["cost"]["cap_usd"] is None
    assert "epoch 1/2" in running("logs").stdout
    assert "early.txt" in running("fetch").stdout
    assert "no orphans" in running("gc").stdout


def test_it_can_be_stopped_with_all_that_is_there(running):
    stdout = running("stop").stdout
    assert "left out of what is done: the stored task of run noop: unknown key 'priority'" in stdout
    assert "limits.stall_after" in stdout
    assert (running.project / "runs" / "noop" / "output" / "early.txt").read_text() == "early"
    assert running.json("status")["state"] == "stopped"
    assert running.is_clean()


def test_it_can_be_aborted(running):
    running("abort", "-y")
    assert running.json("status")["state"] == "aborted"
    assert running.is_clean()


def test_its_training_is_followed_to_the_end(running):
    running.go.touch()
    assert "Model: runs/noop/model.pt" in running("resume").stdout
    again = [event for event in running("events").stdout.splitlines() if "'priority'" in event]
    assert len(again) == 1


def test_nothing_is_started_by_a_task_that_is_not_understood(laptop):
    laptop.be_patient()
    driver = laptop.popen("train", "-y", stdout=-1)
    for line in driver.stdout:
        if line.startswith("Waiting for SSH"):
            break
    driver.send_signal(signal.SIGKILL)
    driver.communicate()
    store_anew(laptop, newer)
    done = laptop("resume", code=2)
    assert "unknown key 'priority'" in done.stderr
    assert "hint: another version of towline stored it" in done.stderr
    assert "`towline abort noop`" in done.stderr
    laptop("abort", "-y")
    assert laptop.json("status")["state"] == "aborted"


def test_a_journal_of_a_newer_version_says_which_towline_helps(running):
    with contextlib.closing(sqlite3.connect(running.home / "towline.db")) as db:
        ((version,),) = db.execute("PRAGMA user_version")
        db.execute("PRAGMA user_version = 99")
    done = running("abort", "-y", code=2)
    assert "a newer towline wrote the journal" in done.stderr
    assert "`pip install -U towline`" in done.stderr
    with contextlib.closing(sqlite3.connect(running.home / "towline.db")) as db:
        db.execute(f"PRAGMA user_version = {version}")
    assert running.processes()  # the training was left alone
