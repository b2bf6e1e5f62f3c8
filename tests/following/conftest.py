"""A journal on disk and the little of a context that the parts of `follow` need."""

from types import SimpleNamespace

import pytest

from tests.clock import FakeClock
from towline.arming import Age
from towline.core.instance import run_id_from
from towline.core.redact import Redactor
from towline.core.run import RunRecord, RunState
from towline.core.task import Limits, TaskSpec
from towline.core.units import Duration
from towline.store.journal import Store


class Driver:
    """One run's journal; `again` is what the next driver finds after a crash."""

    def __init__(self, path):
        self.clock = FakeClock()
        self.path = path
        self.store = Store(path, Redactor(), self.clock)
        run = RunRecord(
            id=run_id_from(b"12345678"), name="r", state=RunState.ACTIVE, task={"spec": {}},
            provider="fake", results_dir="", created_at=self.clock.now(), nonce="n",
        )  # fmt: skip
        self.run = self.store.create_run(run, lambda _name: "results")
        self.task = TaskSpec(limits=Limits(stall_after=Duration(60)))

    def context(self):
        journal = self.store.take_lease(self.run.id)
        return SimpleNamespace(
            run=self.run, task=self.task, clock=self.clock, journal=journal,
            age=Age(self.clock), facts=lambda: self.store.facts(self.run.id),
            note=lambda text, **data: journal.event("note", text=text, **data),
        )  # fmt: skip

    def reports(self):
        return [e.data for e in self.store.events(self.run.id) if e.kind == "progress"]

    def notes(self):
        return [e.data["text"] for e in self.store.events(self.run.id) if e.kind == "note"]


@pytest.fixture
def driver(tmp_path):
    made = Driver(tmp_path / "towline.db")
    yield made
    made.store.close()
