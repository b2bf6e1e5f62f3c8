"""Promise 2 under every fault at every call: nothing is left, nothing is doubled, nobody's is touched.

Each case is one account at a provider's stand-in, one TOWLINE_HOME and one run by the command
line, with one to three faults of tests/clouds/base.FAULTS at seeded places, kill -9 of towline
among them. Then, as a user would: `towline resume --all`. The stand-in's own ledger is the judge of
that alone: money is safe without `gc`, which is tried afterwards and must find nothing to do. The steps between renting and terminating do nothing here; with them
tests/job/test_clouds.py runs.

`make faults N=1000` runs a thousand cases at each provider.
"""

import itertools
import json
import os
import random
import shutil
import signal
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import clouds
import pytest
from clouds.base import AFTER, BEFORE, LATE, READS
from journal import rows
from warm import Forker

from towline.providers import CLOUDS

RUNS = int(os.environ.get("TOWLINE_FAULT_RUNS", "0"))
SEED = os.environ.get("TOWLINE_FAULT_SEED", "towline")
WORKERS = int(os.environ.get("TOWLINE_FAULT_WORKERS", "8" if RUNS else "2"))
#: what a laptop's commands may end with after a fault; 1 would be a bug of towline's
ENDS = {0, 2, 3, 4, 5, 6, 11}


class Case:
    """One account, one home, one run, and its faults."""

    def __init__(self, provider, faults, seed):
        self.provider, self.faults = provider, faults
        self.root = Path(tempfile.mkdtemp(prefix="tl-fault-"))
        self.cloud = clouds.fake(provider, boxes=False, pid_file=self.root / "pid")
        rng = random.Random(seed)
        self.cloud.delete_s = rng.choice([0.0, 0.3])
        self.cloud.boot_s = rng.choice([0.0, 0.2])
        self.cloud.place_foreign("towline-of-mine")
        (self.root / "p").mkdir()
        task = {"name": "job", "command": "true", "resources": {"gpu": "H100:1"}}
        (self.root / "p" / "towline.yaml").write_text(json.dumps(task))
        config = clouds.config({provider: self.cloud}, timeout_s=0.3, settle_s=1.2)
        (self.root / "config.yaml").write_text(config)
        for call, kind in faults:
            self.cloud.fail(call, kind)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        self.cloud.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def towline(self, forker, *argv):
        env = {
            "TOWLINE_HOME": str(self.root / "h"),
            "TOWLINE_CONFIG": str(self.root / "config.yaml"),
            **clouds.FAKES[self.provider][1],
        }
        before = len(self.text())
        status = forker.run({
            "argv": argv, "cwd": str(self.root / "p"), "env": env, "money_only": True,
            "out": str(self.root / "out"), "pid_file": str(self.root / "pid"),
            "warm": [f"towline.providers.{CLOUDS[self.provider].driver.partition(':')[0]}"],
        })  # fmt: skip
        assert status in ENDS | {-signal.SIGKILL}, self.said()
        self.last = self.text()[before:]
        return status

    def text(self):
        """What all commands have printed."""
        out = self.root / "out"
        return out.read_text() if out.exists() else ""

    def said(self):
        calls = [(name, kind) for _at, name, kind in self.cloud.audit]
        return f"{self.provider} {self.faults}\n{self.text()}\n{calls}\n{self.runs()}"

    def runs(self):
        """State and error of every run that was stored, and its open rows."""
        query = (
            "SELECT state, error_json, (SELECT count(*) FROM instances"
            " WHERE run_id = id AND gone_at IS NULL) FROM runs"
        )
        return rows(self.root / "h", query)

    def play(self, forker):
        """Train, then what a user does after any trouble; the end state of an untroubled run."""
        self.towline(forker, "train", "-y")
        was_stored = bool(self.runs())
        for _ in range(3):  # a fault may strike the commands after `train` too
            self.towline(forker, "resume", "--all")
            if not self.cloud.faults:
                break
        self.cloud.faults.clear()
        self.towline(forker, "resume", "--all")
        self.judge(was_stored)
        self.look_for_work(forker)

    def judge(self, was_stored):
        """The stand-in's own word on what is there, and the journal's on the same."""
        assert self.cloud.alive() == [], self.said()
        assert self.cloud.left_over() == [], self.said()
        assert self.cloud.doubles() == [], self.said()
        assert self.cloud.violations == [], self.said()
        assert bool(self.runs()) == was_stored, self.said()
        for state, error, open_rows in self.runs():
            assert open_rows == 0, self.said()
            assert state in {"succeeded", "failed"}, self.said()
            assert (error is not None) == (state == "failed"), self.said()

    def look_for_work(self, forker):
        """`gc` has nothing to do."""
        assert self.towline(forker, "gc") == 0, self.said()
        assert "no orphans" in self.last, self.said()
        assert "ended:" not in self.last, self.said()


def kinds_for(cloud, call):
    """What can go wrong at a call: a read has no effect that could be lost."""
    method = next(method for name, method, _pattern in cloud.routes if name == call)
    if method == "GET":
        return BEFORE + READS + ("kill_after",)
    return BEFORE + AFTER + (LATE if call in cloud.creates else ())


def every_fault(provider):
    """Each fault at each call of a provider once."""
    with clouds.fake(provider, boxes=False) as cloud:
        return [(call, kind) for call in cloud.calls for kind in kinds_for(cloud, call)]


def cases(provider, count):
    """The single faults first, in a seeded order, then seeded sets of two and three."""
    rng = random.Random(f"{SEED} {provider}")
    singles = every_fault(provider)
    rng.shuffle(singles)
    sets = ([one] for one in singles)
    more = (rng.sample(singles, rng.choice([2, 2, 3])) for _ in itertools.count())
    return list(itertools.islice(itertools.chain(sets, more), count))


def play_all(provider, count):
    """Play so many cases: how many faults struck, the run's states, and what went wrong."""
    work = list(enumerate(cases(provider, count)))
    failures, struck = [], Counter()

    def play(share):
        forker = Forker()
        try:
            for seed, faults in share:
                try:
                    with Case(provider, faults, seed) as case:
                        case.play(forker)
                        struck["faults"] += sum(kind is not None for _, _, kind in case.cloud.audit)
                        struck.update(state for state, _error, _rows in case.runs())
                        struck["instances"] += len(case.cloud.ours())
                except AssertionError as error:
                    failures.append(str(error))
        finally:
            forker.close()

    workers = clouds.kind_of(provider).at_once or WORKERS
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(play, [work[n::workers] for n in range(workers)]))
    return failures, struck


@pytest.mark.faults
@pytest.mark.timeout(0)
@pytest.mark.parametrize("provider", clouds.FAKES)
def test_after_every_fault_nothing_is_left(provider):
    count = RUNS or clouds.SAMPLE.get(provider, 3)
    failures, struck = play_all(provider, count)
    assert not failures, f"{len(failures)} of {count} cases failed; the first:\n{failures[0]}"
    assert struck["faults"] >= count / 3
    facts = ", ".join(f"{number} {what}" for what, number in sorted(struck.items()))
    print(
        f"{provider}: {count} cases ({facts}): nothing left, doubled, or touched that is not ours"
    )
