"""Another program holds the journal (a backup, a database browser): all wait, and nothing is ended."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time

import pytest

from tests.clock import FakeClock
from towline.api import HANDOVER_S, Towline
from towline.core.instance import run_id_from
from towline.core.run import RunRecord, RunState
from towline.home import Home
from towline.store.journal import LEASE_S

pytestmark = pytest.mark.skipif(os.name != "posix", reason="sends POSIX signals")

#: towline with a lease that is soon over, and little patience for a lock where that is said
IMPATIENT = """
import sys
from towline import runner
from towline.cli import main
from towline.store import database, journal
journal.LEASE_S, runner._RENEW_EVERY_S = 1.0, 0.25
database._TRIES = int(sys.argv[1])
sys.exit(main.run_command(sys.argv[2:]))
"""


@contextlib.contextmanager
def locked(home):
    """Hold the journal's write lock as another program does."""
    with contextlib.closing(sqlite3.connect(home / "towline.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


@pytest.fixture
def patient(laptop):
    laptop.be_patient()
    return laptop


def impatient(laptop, *arguments, tries=720):
    return subprocess.Popen(
        [sys.executable, "-c", IMPATIENT, str(tries), *arguments],
        cwd=laptop.project, env=laptop.env, stdin=subprocess.DEVNULL, stdout=-1, stderr=-1, text=True,
    )  # fmt: skip


def lease(laptop):
    return laptop.rows("SELECT lease_expires_at FROM runs")[0][0]


def test_a_lock_longer_than_a_lease_leaves_one_driver_and_one_training(patient):
    first = impatient(patient, "train", "-y")
    patient.wait_for_epoch()
    with locked(patient.home):
        patient.wait_until(lambda: lease(patient) < time.time())
        second = impatient(patient, "resume")  # which waits for the lock as well
        time.sleep(1)
    patient.go.touch()
    said = [process.communicate(timeout=40) for process in (first, second)]
    codes = [process.returncode for process in (first, second)]
    assert sorted(codes) in ([0, 2], [0, 11]), said  # 2: it was over when the other came
    assert patient.rows("SELECT state FROM runs") == [("succeeded",)]
    starts = "SELECT count(*) FROM attempts WHERE step = 'execute' AND outcome = 'done'"
    assert patient.rows(starts) == [(1,)]
    assert patient.is_clean()


def test_a_lock_that_does_not_end_ends_the_driver_and_not_the_training(patient):
    driver = impatient(patient, "train", "-y", tries=1)
    patient.wait_for_epoch()
    with locked(patient.home):
        stdout, stderr = driver.communicate(timeout=30)
        assert driver.returncode == 5, stderr
        assert "another program holds it" in stderr
        assert "hint: close what has it open" in stderr
        assert "Nothing was ended: the training goes on on the instance." in stdout
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("resume").stdout
    assert patient.is_clean()


def test_ctrl_c_is_heard_while_the_journal_is_locked(patient):
    driver = impatient(patient, "train", "-y")
    patient.wait_for_epoch()
    with locked(patient.home):
        patient.wait_until(lambda: lease(patient) < time.time())  # it waits to renew it
        driver.send_signal(signal.SIGINT)
        patient.wait_until(lambda: len(patient.processes_of("drive")) == 1)
        driver.send_signal(signal.SIGINT)
        driver.communicate(timeout=8)
        assert driver.returncode == 130
    patient.go.touch()
    assert "Model: runs/noop/model.pt" in patient("wait").stdout


def test_who_watches_takes_no_driver_that_waits_for_one_that_died(tmp_path):
    towline = Towline(Home(tmp_path / "home"), {})
    towline.clock = towline.store._clock = clock = FakeClock()
    run_id = run_id_from(b"abcdefgh")
    towline.store.create_run(
        RunRecord(id=run_id, name="r", state=RunState.ACTIVE, task={}, provider="local",
                  results_dir="", created_at=0.0),
        lambda name: name,
    )  # fmt: skip
    towline.store.take_lease(run_id)
    is_over = towline.watcher(run_id)
    assert not is_over()
    with locked(towline.home.path):
        for _ in range(3):
            clock.advance(LEASE_S + HANDOVER_S)
            assert not is_over()
    clock.advance(HANDOVER_S)
    assert is_over()
    towline.close()
