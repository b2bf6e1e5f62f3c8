"""The oracle must be able to say no: each invariant is broken once in a made-up world."""

import asyncio
import contextlib
import random
import sqlite3

import pytest

from tests.storm import install, oracle
from tests.storm.__main__ import lived
from tests.storm.box import Box
from tests.storm.life import Life, Process
from tests.storm.loop import Spinning, StormLoop, run
from tests.storm.world import World

PLAN = {
    "seed": 7, "provider": "lambda",
    "shape": {"get_lag": 0.0, "list_lag": 0.0, "dying_s": 2.0, "tail_s": 0.0, "boot_s": 2.0,
              "ssh_s": 0.0, "price": 2.0, "addresses": False, "keys": True, "tells_account": True},
    "task": {"gpu": True, "requirements": False, "limits": {}},
    "job": {"epochs": 3, "every_s": 2.0, "code": 0, "save_s": 0.0, "term_s": 0.2, "deaf": False,
            "checkpoints": None, "gpus": 1, "cron": True},
    "user": {"keys": [], "words": [], "patience": [60.0]},
    "faults": [], "view": False, "neighbour": True,
}  # fmt: skip


@pytest.fixture
def life():
    """A life in which all went well."""
    one = lived(PLAN)
    assert one.world.broken == []
    assert one.commands == [("train", 0, "succeeded")]
    yield one
    install.clean()


def said(life):
    return {name for name, _text in life.world.broken}


def write(life, query):
    with contextlib.closing(sqlite3.connect(life.home / "towline.db")) as db:
        db.execute(query)
        db.commit()


def test_a_life_in_which_all_went_well_breaks_nothing(life):
    oracle.judge(life)
    assert said(life) == set()


def test_a_command_that_began_twice_is_seen(life):
    life.boxes["box-1"].begun = 2
    oracle.judge(life)
    assert said(life) == {oracle.ONCE}


@pytest.mark.parametrize("how", ["terminate", "kill"])
def test_a_signal_to_a_healthy_training_is_seen(how):
    life = Life(PLAN, install.root() / "life")
    box = Box(life.world, "box", PLAN["job"])
    box.life = life
    box.start({"epoch": 1, "nonce": "n", "run": "r"})
    getattr(box.job, how)("somebody")
    assert said(life) == {oracle.HEALTHY}


def test_an_instance_ended_under_a_healthy_training_is_seen():
    life = Life(PLAN, install.root() / "life")
    box = Box(life.world, "box", PLAN["job"])
    box.life = life
    box.start({"epoch": 1, "nonce": "n", "run": "r"})
    oracle.instance_ended(life, box, "terminate")
    assert said(life) == {oracle.HEALTHY}


@pytest.mark.parametrize("change", [b"", b"other\n"])
def test_a_log_that_differs_is_seen(life, change):
    (life.home / "runs" / life.run_id / "training.log").write_bytes(change)
    oracle.judge(life)
    assert said(life) == {oracle.LOG}


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM events WHERE seq = (SELECT max(seq) FROM events WHERE kind = 'progress')",
        (
            "INSERT INTO events (run_id, at, kind, data_json)"
            " SELECT run_id, at, kind, data_json FROM events WHERE kind = 'progress' LIMIT 1"
        ),
    ],
)
def test_a_report_that_is_lost_or_doubled_is_seen(life, query):
    write(life, query)
    oracle.judge(life)
    assert said(life) == {oracle.METRICS}


def test_a_model_that_is_nowhere_is_seen(life):
    next(life.results.rglob("*.safetensors")).unlink()
    for path in life.results.rglob("*.safetensors"):
        path.unlink()
    oracle.judge(life)
    assert said(life) == {oracle.MODEL}


def test_an_instance_that_still_bills_is_seen(life):
    rented = oracle.of_run(life)[0]
    rented.ended = rented.asked_to_end = None
    oracle.judge(life)
    assert said(life) == {oracle.BILLS}


def test_what_a_neighbour_lost_is_seen(life):
    account = life.account("lambda", "right")
    neighbour = next(one for one in account.rented.values() if one.owner == "B")
    account.ask_to_end(neighbour, "train#1")
    life.world.advance(life.world.now + 10)
    oracle.judge(life)
    assert said(life) == {oracle.OTHERS}


def test_a_neighbours_key_that_is_removed_is_seen(life):
    thing = next(iter(life.account("lambda", "right").things.values()))
    oracle.thing_removed(life, thing)
    assert said(life) == {oracle.OTHERS}


def test_a_cap_that_was_passed_is_seen(life):
    life.plan = PLAN | {"task": PLAN["task"] | {"limits": {"max_cost": 0.03}}}
    rented = oracle.of_run(life)[0]
    rented.account.features = install.features()["ec2"]
    rented.ended += 100
    rented.asked_to_end = None
    oracle.judge(life)
    assert said(life) == {oracle.CAP}


def test_a_zero_without_a_model_is_seen(life):
    for path in life.results.rglob("*.safetensors"):
        path.unlink()
    oracle.command_over(life, Process(life, "train", "right"), "train", 0)
    assert said(life) == {oracle.EXIT}


def test_a_zero_while_the_run_goes_on_is_seen(life):
    write(life, "UPDATE runs SET state = 'active'")
    oracle.command_over(life, Process(life, "train", "right"), "train", 0)
    assert said(life) == {oracle.EXIT}


def test_a_run_that_never_ends_is_seen(life):
    write(life, "UPDATE runs SET state = 'active'")
    oracle.judge(life)
    assert said(life) == {oracle.ENDS}


def test_a_bug_is_seen(life):
    life.bugs.append(("train#1", KeyError("x")))
    oracle.command_over(life, Process(life, "train", "right"), "train", 1)
    assert oracle.BUG in said(life)


def test_a_loop_without_pauses_is_seen():
    async def spin():
        while True:
            await asyncio.sleep(0)

    with pytest.raises(Spinning):
        run(StormLoop(World(PLAN), random.Random(1)), spin())
