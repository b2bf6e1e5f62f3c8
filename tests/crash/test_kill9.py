"""Promise 1: training starts exactly once and outlives every crash of the local process.

Each case runs the whole main job on the local provider, kills the driver with SIGKILL, resumes,
and asks for the same end state as an undisturbed run has.
"""

import contextlib
import hashlib
import json
import os
import random
import shutil
import signal
import sqlite3
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from journal import rows
from warm import Forker

RUNS = int(os.environ.get("TOWLINE_CRASH_RUNS", "6"))
EVERY = 1 if "TOWLINE_CRASH_RUNS" in os.environ else 3  # `make crash` dies after each commit
WORKERS = 2

# every line can be told from every other, so that a lost or doubled byte shows
TRAIN = """
    import os, time
    with open(os.environ["STARTS"], "a") as starts:
        starts.write("started\\n")
    sides = open(os.path.join(os.environ["TOWLINE_OUTPUT"], "results.csv"), "w", buffering=1)
    sides.write("epoch,train/loss\\n")
    for epoch in range(1, 21):
        print(f"epoch {epoch}/20 loss={1 / epoch:.4f} " + "x" * (epoch * 37 % 101), flush=True)
        sides.write(f"{epoch},{2 / epoch:.4f}\\n")
        time.sleep(0.02)
    data = open(os.path.join(os.environ["TOWLINE_DATASET"], "data.bin"), "rb").read()
    with open(os.path.join(os.environ["TOWLINE_OUTPUT"], "model.pt"), "wb") as model:
        model.write(data[::-1])
"""
LOG = "".join(f"epoch {e}/20 loss={1 / e:.4f} " + "x" * (e * 37 % 101) + "\n" for e in range(1, 21))
DATA = random.Random(7).randbytes(300_000)


class Case:
    """One project, one home, one run."""

    def __init__(self):
        self.root = Path(tempfile.mkdtemp(prefix="tl-crash-"))
        self.project = self.root / "p"
        (self.project / "dataset").mkdir(parents=True)
        (self.project / "dataset" / "data.bin").write_bytes(DATA)
        (self.project / "train.py").write_text(textwrap.dedent(TRAIN))
        self.starts = self.root / "starts"
        task = {
            "name": "crash",
            "dataset": "./dataset",
            "code": ".",
            "command": "python train.py",
            "env": {"STARTS": str(self.starts)},
            "artifacts": {"model": "output/model.pt"},
        }
        (self.project / "towline.yaml").write_text(json.dumps(task))
        self.home = self.root / "h"
        self.env = {"TOWLINE_HOME": str(self.home), "TOWLINE_CONFIG": str(self.root / "c.yaml")}
        (self.root / "c.yaml").write_text("{}")

    def request(self, *argv, **more):
        return {
            "argv": argv,
            "cwd": str(self.project),
            "env": self.env,
            "out": str(self.root / "out"),
            **more,
        }

    def said(self):
        out = self.root / "out"
        return out.read_text() if out.exists() else ""

    def stored(self):
        """Say whether the run reached the journal."""
        return rows(self.home, "SELECT count(*) FROM runs") == [(1,)]

    def processes(self):
        """Living processes of this case's instances."""
        found = []
        for process in psutil.process_iter():
            try:
                here = str(self.home) in process.environ().get("HOME", "")
                if here and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
            except psutil.Error:
                continue  # ended meanwhile, or not ours to see
        return found

    def check(self):
        """The end state of an undisturbed run."""
        said = self.said()
        results = self.project / "runs" / "crash"
        receipt = json.loads((results / "receipt.json").read_text())
        assert receipt["run"]["state"] == "succeeded", said
        assert self.starts.read_text() == "started\n", said
        assert (results / "training.log").read_text() == LOG, said
        model = (results / "model.pt").read_bytes()
        assert model == DATA[::-1], said
        assert receipt["model"]["sha256"] == hashlib.sha256(model).hexdigest()
        assert receipt["release"]["gone"] is True
        self.check_metrics((results / "metrics.csv").read_text().splitlines(), said)
        assert list((self.home / "local").iterdir()) == [], said
        assert self.processes() == [], said

    def check_metrics(self, lines, said):
        """Each row of the side file once, under its names; the console's loss is the same metric."""
        assert lines[0] == "time,epoch,step,train/loss", said
        rows = [line.split(",")[1:] for line in lines[1:]]
        assert rows == [[str(e), "", str(round(2 / e, 4))] for e in range(1, 21)], said
        with contextlib.closing(sqlite3.connect(self.home / "towline.db")) as db:
            kinds = db.execute("SELECT data_json FROM events WHERE kind = 'progress'").fetchall()
        reports = [json.loads(data) for (data,) in kinds]
        assert sum("file" in one for one in reports) == 20, said
        assert sum("file" not in one for one in reports) == 20, said

    def remove(self):
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.root, ignore_errors=True)


def kill_and_resume(forker, **when):
    """One case; returns whether the kill came before the run's end."""
    case = Case()
    try:
        status = forker.run(case.request("train", "-y", **when))
        if status == -signal.SIGKILL:
            if (
                not case.stored()
            ):  # killed before the run was stored: nothing was rented, nothing is left
                assert not (case.home / "local").exists() or not list(
                    (case.home / "local").iterdir()
                )
                return True
            again = forker.run(case.request("resume"))
            assert again in {0, 2}, case.said()  # 2: it had ended already
        else:
            assert status == 0, case.said()
        case.check()
    finally:
        case.remove()
    return status == -signal.SIGKILL


def in_parallel(cases):
    """Run cases over a few warm forkers; returns their results in order."""
    shares = [cases[n::WORKERS] for n in range(WORKERS)]

    def work(share):
        with Forker() as forker:
            return [kill_and_resume(forker, **case) for case in share]

    with ThreadPoolExecutor(WORKERS) as pool:
        results = list(pool.map(work, shares))
    return [one for share in results for one in share]


@pytest.mark.crash
@pytest.mark.timeout(600)
def test_kill_after_a_commit():
    killed_at = []
    first, block = 1, 16 * EVERY
    while True:
        cases = [{"die_after_commit": n} for n in range(first, first + block, EVERY)]
        results = in_parallel(cases)
        killed_at += [
            case["die_after_commit"] for case, hit in zip(cases, results, strict=True) if hit
        ]
        if not all(results):
            break
        first += block
    assert len(killed_at) * EVERY > 20  # the run has many commits, and each was a point of death


@pytest.mark.crash
@pytest.mark.timeout(0)
def test_kill_at_random_moments():
    rng = random.Random(os.environ.get("TOWLINE_CRASH_SEED", "towline"))
    killed = runs = 0
    while killed < RUNS:  # a kill that came after the run's end does not count
        cases = [{"kill_after_s": rng.uniform(0.02, 1.6)} for _ in range(RUNS - killed)]
        killed += sum(in_parallel(cases))
        runs += len(cases)
        assert runs < 10 * RUNS
    print(f"{killed} runs killed at a random moment and resumed; all ended whole")
