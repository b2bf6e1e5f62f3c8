"""Promise 5: `status --json` and `receipt.json` always have every key, in any phase of any run."""

import json

import pytest

from tests.clock import FakeClock
from towline import receipt
from towline.core.instance import InstanceId, Offer, run_id_from, tag_for
from towline.core.redact import Redactor
from towline.core.run import Outcome, RunRecord, RunState, StepName, Wish
from towline.store.journal import Store

OFFER = Offer(provider="fake", type="gpu_1x_h100", price_usd_per_h=3.6, gpu="H100")
#: the shapes that SPEC section 3 promises; a list holds the shape of its items
STATUS = {
    "id": None,
    "name": None,
    "state": None,
    "step": None,
    "provider": None,
    "instance": dict.fromkeys(["id", "address", "price_usd_per_hour", "state"]),
    "progress": dict.fromkeys([
        "epoch",
        "total_epochs",
        "step",
        "total_steps",
        "fraction",
        "eta_s",
        "metrics",
    ]),
    "cost": dict.fromkeys(["spent_usd", "projected_usd", "cap_usd"]),
    "machine": dict.fromkeys([
        "at",
        "cpu",
        "cpus",
        "memory_bytes",
        "memory_total_bytes",
        "disk_free_bytes",
        "disk_total_bytes",
        "shm_free_bytes",
        "gpus",
    ]),
    "stalled": None,
    "transfer": dict.fromkeys([
        "direction",
        "bytes",
        "total_bytes",
        "rate_bytes_per_s",
        "files",
        "total_files",
        "eta_s",
        "connections",
        "ratio",
    ]),
    "model": dict.fromkeys(["path", "sha256", "size_bytes"]),
    "checkpoint": dict.fromkeys(["path", "at", "epoch", "size_bytes"]),
    "error": dict.fromkeys(["kind", "message", "hint"]),
    "created_at": None,
    "ended_at": None,
}
RECEIPT = {
    "run": dict.fromkeys(["id", "name", "state"]),
    "steps": [dict.fromkeys(["step", "started_at", "seconds", "attempts", "cost_usd"])],
    "transfers": [
        dict.fromkeys(["direction", "files", "bytes", "sent_bytes", "seconds", "connections"])
    ],
    "as_read": [None],
    "model": dict.fromkeys([
        "path",
        "sha256",
        "size_bytes",
        "remote_path",
        "why",
        "check",
        "beside",
        "candidates",
    ]),
    "checkpoint": dict.fromkeys(["path", "at", "epoch", "size_bytes"]),
    "instance": dict.fromkeys(["provider", "id", "type", "gpu", "driver", "price_usd_per_hour"]),
    "release": dict.fromkeys(["gone", "proof", "at"]),
    "cost_usd": None,
    "dataset_sha256": None,
    "code_sha256": None,
    "exit_code": None,
    "reason": None,
}
TRANSFER = {"direction": "upload", "files": 3, "bytes": 1000, "sent_bytes": 400, "seconds": 0.5}
TRANSFER |= {"connections": 2, "manifest_sha256": "not in the receipt"}
MODEL = {"path": "/runs/r/best.pt", "sha256": "ab" * 32, "size_bytes": 77, "remote_path": "x"}
RESULTS = {
    StepName.ACQUIRE: {
        "instance_id": "i-1",
        "address": {"user": "u", "host": "10.0.0.9", "port": 22, "host_key": None},
    },
    StepName.CONNECT: {"gpus": [{"name": "NVIDIA H100", "driver": "550.1", "memory_mib": "1"}]},
    StepName.DELIVER: {
        "transfers": [TRANSFER],
        "dataset_sha256": "d" * 64,
        "code_sha256": "c" * 64,
    },
    StepName.EQUIP: {"venv": None},
    StepName.EXECUTE: {"started_at": 0.0, "epoch": 1},
    StepName.FOLLOW: {"exit_code": 0},
    StepName.GATHER: {
        "transfers": [{**TRANSFER, "direction": "download", "as_read": ["output/a.db"]}],
        "model": MODEL,
        "candidates": [{"path": "output/best.pt", "size_bytes": 77, "why": "w"}],
    },
    StepName.RELEASE: {"gone": True, "proof": "fake does not know i-1", "at": 5.0},
}


class Tour:
    """One run on its way through the steps, ten seconds each."""

    def __init__(self, folder):
        self.clock = FakeClock()
        self.store = Store(folder / "towline.db", Redactor(), self.clock)
        record = RunRecord(
            id=run_id_from(b"abcdefgh"),
            name="r",
            state=RunState.ACTIVE,
            task={"spec": {"limits": {"max_cost": 10.0}}},
            provider="fake",
            results_dir="",
            created_at=self.clock.now(),
        )
        self.run_id = self.store.create_run(record, lambda name: str(folder / name)).id
        self.journal = self.store.take_lease(self.run_id)

    def take(self, step, outcome=Outcome.DONE):
        number = self.journal.begin(step)
        if step is StepName.ACQUIRE:
            self.journal.intend("fake", tag_for(self.run_id), OFFER)
            self.clock.advance(1)
            self.journal.rented(1, InstanceId("i-1"), self.clock.now(), 3.6)
        result = dict(RESULTS[step])
        if step is StepName.EXECUTE:
            result["started_at"] = self.clock.now()
        if step is StepName.FOLLOW:
            self.journal.fact("training", {"exit_code": 0, "log_bytes": 5})
        if step is StepName.RELEASE and outcome is Outcome.DONE:
            self.journal.gone(1, result["proof"])
        self.clock.advance(10)
        if outcome is not None:
            self.journal.finish(step, number, outcome, result if outcome is Outcome.DONE else {})

    @property
    def run(self):
        return self.store.run(self.run_id)

    def status(self):
        return receipt.status(self.store, self.run, self.clock.now())

    def receipt(self):
        return receipt.receipt(self.store, self.run, self.clock.now())

    def check(self):
        same_shape(self.status(), STATUS)
        same_shape(self.receipt(), RECEIPT)
        assert json.loads(json.dumps(self.status(), allow_nan=False)) == self.status()
        assert json.loads(json.dumps(self.receipt(), allow_nan=False)) == self.receipt()


def same_shape(found, shape):
    if isinstance(shape, dict):
        assert list(found) == list(shape)
        for key, inner in shape.items():
            same_shape(found[key], inner)
    elif isinstance(shape, list):
        for item in found:
            same_shape(item, shape[0])


@pytest.fixture
def tour(tmp_path):
    made = Tour(tmp_path)
    yield made
    made.store.close()


def test_every_key_is_there_in_every_phase_of_a_good_run(tour):
    tour.check()
    for step in StepName:
        assert tour.status()["step"] == step
        number = tour.journal.begin(step)
        tour.check()
        tour.journal.finish(step, number, Outcome.FAILED, {"stopped": True})
        tour.check()
        tour.take(step)
        tour.check()
    tour.journal.end(RunState.SUCCEEDED)
    tour.check()
    assert tour.status()["step"] == "release"


@pytest.mark.parametrize("fails", list(StepName))
@pytest.mark.parametrize("wish", [None, Wish.STOP, Wish.ABORT])
def test_every_key_is_there_wherever_a_run_fails_or_is_ended(tour, fails, wish):
    for step in StepName:
        if step is fails:
            break
        tour.take(step)
    if wish:
        tour.store.set_wish(tour.run_id, wish)
    tour.take(fails, outcome=None)
    tour.check()
    tour.journal.fail({"kind": "TrainingFailed", "message": "m", "hint": None, "exit_code": 3})
    tour.take(fails, Outcome.FAILED)
    tour.check()
    assert tour.status()["error"] == {"kind": "TrainingFailed", "message": "m", "hint": None}
    assert tour.receipt()["reason"] == "m"
    tour.take(StepName.RELEASE)
    tour.journal.end(RunState.FAILED)
    tour.check()


@pytest.mark.parametrize(
    "facts",
    [
        {"progress": {"epoch": None, "total_epochs": None, "metrics": {}}},
        {"progress": {"epoch": 5, "total_epochs": 0, "metrics": {"loss": None}}},
        {"progress": {"epoch": 0, "total_epochs": 10, "metrics": {}}},
        {"progress": {"epoch": 12, "total_epochs": 10, "metrics": {}}},
        {"progress": None, "transfer": None, "training": None},
        {"transfer": {"direction": "upload", "bytes": 1, "total_bytes": 2}},
    ],
)
def test_odd_facts_take_no_key_away(tour, facts):
    for step in (StepName.ACQUIRE, StepName.CONNECT, StepName.EXECUTE):
        tour.take(step)
    for key, value in facts.items():
        tour.journal.fact(key, value)
    tour.check()


def test_a_finished_run_tells_all_it_did(tour):
    for step in StepName:
        tour.take(step)
    tour.journal.end(RunState.SUCCEEDED)
    tour.clock.advance(10_000)
    told = tour.receipt()
    assert told["run"] == {"id": tour.run_id, "name": "r", "state": "succeeded"}
    assert [step["step"] for step in told["steps"]] == [str(step) for step in StepName]
    assert [step["seconds"] for step in told["steps"]] == [11.0] + [10.0] * 7
    assert {step["attempts"] for step in told["steps"]} == {1}
    assert [one["direction"] for one in told["transfers"]] == ["upload", "download"]
    assert told["model"]["sha256"] == MODEL["sha256"]
    assert [one["path"] for one in told["model"]["candidates"]] == ["output/best.pt"]
    assert told["instance"] == {
        "provider": "fake",
        "id": "i-1",
        "type": "gpu_1x_h100",
        "gpu": "NVIDIA H100",
        "driver": "550.1",
        "price_usd_per_hour": 3.6,
    }
    assert told["release"] == RESULTS[StepName.RELEASE]
    assert (told["dataset_sha256"], told["code_sha256"]) == ("d" * 64, "c" * 64)
    assert (told["exit_code"], told["reason"]) == (0, None)


def test_money_stops_with_the_proof_and_the_steps_add_up_to_it(tour):
    for step in StepName:
        tour.take(step)
    tour.clock.advance(100_000)
    told = tour.receipt()
    # from the provider's start of the billing to the proof: 70 s at $3.60 an hour
    assert told["cost_usd"] == pytest.approx(0.07)
    assert sum(step["cost_usd"] for step in told["steps"]) == pytest.approx(0.07, abs=1e-3)


def test_cost_is_projected_from_progress(tour):
    for step in (StepName.ACQUIRE, StepName.CONNECT, StepName.DELIVER):
        tour.take(step)
    assert tour.status()["cost"]["projected_usd"] is None
    tour.take(StepName.EQUIP)
    tour.take(StepName.EXECUTE)
    tour.journal.fact("progress", {"epoch": 1, "total_epochs": 4, "metrics": {"loss": 1.0}})
    tour.clock.advance(90)
    said = tour.status()
    assert said["progress"]["fraction"] == 0.25
    assert said["progress"]["eta_s"] == pytest.approx(300.0)
    assert said["progress"]["metrics"] == {"loss": 1.0}
    spent = said["cost"]["spent_usd"]
    assert said["cost"]["projected_usd"] == pytest.approx(spent + 0.30, abs=1e-3)
    assert said["cost"]["cap_usd"] == 10.0


def test_the_instance_is_shown_from_intent_to_gone(tour):
    assert tour.status()["instance"]["state"] is None
    tour.journal.intend("fake", "t", OFFER)
    assert tour.status()["instance"]["state"] == "intended"
    tour.journal.rented(1, InstanceId("i-1"), tour.clock.now(), 3.6)
    assert tour.status()["instance"]["state"] == "rented"
    tour.take(StepName.CONNECT)
    tour.journal.gone(1, "p")
    assert tour.status()["instance"] == {
        "id": "i-1",
        "address": None,
        "price_usd_per_hour": 3.6,
        "state": "gone",
    }


def test_the_address_is_shown_once_it_is_known(tour):
    tour.take(StepName.ACQUIRE)
    assert tour.status()["instance"]["address"] == "u@10.0.0.9:22"


def test_the_receipt_is_written_whole(tour, tmp_path):
    path = tmp_path / "results" / "receipt.json"
    receipt.write(path, tour.store, tour.run, tour.clock.now())
    same_shape(json.loads(path.read_text("utf-8")), RECEIPT)
    assert [file.name for file in path.parent.iterdir()] == ["receipt.json"]


def test_a_receipt_that_cannot_be_written_leaves_the_old_one(tour, tmp_path, monkeypatch):
    path = tmp_path / "receipt.json"
    path.write_text("the old one")
    monkeypatch.setattr(receipt.json, "dumps", lambda *a, **k: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        receipt.write(path, tour.store, tour.run, tour.clock.now())
    assert path.read_text() == "the old one"
