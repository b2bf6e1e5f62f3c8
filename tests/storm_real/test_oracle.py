"""The storm's oracle: a life that went well passes, and each check can fail."""

import pytest

from tests.storm_real.oracle import CHECKS, COMMAND_CHECKS, Facts, Seen, judge, judge_command

MODEL = "ab" * 32


def good(**changed):
    """A training of two epochs that ended well."""
    lines = ["epoch 1/2", "epoch 2/2"]
    facts = Facts(
        record=[
            {"kind": "start", "at": 1.0, "pid": 7},
            *({"kind": "line", "at": 2.0, "text": text} for text in lines),
            {"kind": "model", "at": 3.0, "sha256": MODEL},
            {"kind": "end", "at": 3.1, "code": 0},
        ],
        states=["succeeded"],
        log=b"epoch 1/2\nepoch 2/2\n",
        metrics=["time,epoch,step,loss", "1,1,,0.5", "2,2,,0.2"],
        model=MODEL,
    )
    vars(facts).update(changed)
    return facts


def ended_early(**changed):
    """One that SIGTERM ended in its second epoch."""
    facts = good(states=["stopped"], log=b"epoch 1/2\nepo", metrics=[], **changed)
    asked = {"kind": "signal", "at": 2.5, "number": 15}
    facts.record = [row for row in facts.record if row.get("text") != "epoch 2/2"]
    facts.record = [
        *facts.record[:2],
        asked,
        facts.record[2],
        {"kind": "end", "at": 3, "code": 143},
    ]
    return facts


def test_a_life_that_went_well_passes():
    assert judge(good()) == []


@pytest.mark.parametrize(
    "excuse",
    [
        {"wishes": [(2.4, "stop")]},
        {"wishes": [(2.4, "stop")], "may_end": [(2.4, "the machine started anew")]},
    ],
)
def test_an_end_that_the_user_wished_passes(excuse):
    assert judge(ended_early(**excuse)) == []


def test_an_abort_may_discard_everything():
    facts = good(states=["aborted"], wishes=[(1.5, "abort")], log=None, model=None, metrics=[])
    facts.record = facts.record[:2]
    assert judge(facts) == []


def test_a_limit_is_a_reason_once_it_is_reached():
    late = ended_early(limit_s=2.0, typed_at=0.5)
    late.states = ["failed"]
    assert judge(late) == []
    early = ended_early(limit_s=2.0, typed_at=0.6)
    early.states = ["failed"]
    assert "none of the four reasons" in judge(early)[0]


def test_what_a_machine_that_is_gone_took_along_is_not_asked_for():
    facts = good(states=["failed"], may_end=[(2.0, "the machine is gone")], log=None, model=None)
    facts.record, facts.metrics = facts.record[:3], []
    assert judge(facts) == []


WRONG = [
    (good(record=good().record + [{"kind": "start", "at": 9.0, "pid": 8}]), "trained 2 times"),
    (good(record=[], log=b"", model=None, metrics=[]), "nothing was trained"),
    (ended_early(), "asked to end"),
    (ended_early(wishes=[(2.6, "stop")]), "asked to end"),  # asked after it had been ended
    (good(record=good().record[:-1]), "never came to its end"),
    (good(states=["active"]), "a run is active"),
    (good(record=[*good().record[:-1], {"kind": "end", "at": 3, "code": 1}]), "says succeeded"),
    (good(states=["failed"]), "says failed"),
    (good(states=["stopped"]), "says stopped; nobody asked"),
    (good(states=["aborted"]), "says aborted; nobody asked"),
    (good(log=None), "no log came home"),
    (good(log=b"epoch 1/2\n"), "the log at home differs"),
    (good(log=b"epoch 1/2\nepoch 1/2\nepoch 2/2\n"), "from byte 16"),
    (ended_early(wishes=[(2.4, "stop")], model=None), "no model is home"),
    (good(metrics=["time,epoch", "1,1", "2,1"]), "twice or out of order"),
    (good(model=None), "no model is home"),
    (good(model="cd" * 32), "another model is home"),
]


@pytest.mark.parametrize(("facts", "words"), WRONG, ids=[words for _facts, words in WRONG])
def test_what_is_wrong_is_said(facts, words):
    assert any(words in one for one in judge(facts))


def test_every_check_can_fail():
    failed = {check for facts, _words in WRONG for check in CHECKS if list(check(facts))}
    assert failed == set(CHECKS)


def seen(argv="train -y", **changed):
    done = Seen(argv=argv.split(), code=0, text="", instances=0, model=MODEL)
    vars(done).update(changed)
    return done


@pytest.mark.parametrize(
    "one",
    [
        seen(),
        seen("train -y --detach", instances=1, model=None),
        seen("resume --all", instances=1, model=None),
        seen("ls", instances=1, model=None),
        seen(code=-9, killed=True, instances=1),
        seen(code=1, text="error: the journal h can't be opened: disk is full"),
        seen(code=5, instances=1, model=None),
        seen(code=6, instances=1),
    ],
    ids=str,
)
def test_a_command_that_tells_the_truth_passes(one):
    assert judge_command(good(), one) == []


def half():
    """A training under way."""
    facts = good()
    facts.record = facts.record[:2]
    return facts


LIES = [
    (good(), seen(text="Traceback (most recent call last):"), "shows a traceback"),
    (good(), seen(code=1, text="error: [Errno 24]"), "unexpected"),
    (good(), seen(code=-9), "no exit code"),
    (good(), seen(model=None), "the model is not home"),
    (good(), seen("resume job", instances=1), "1 instances are left"),
    (half(), seen(), "the model is not home"),
    (good(), seen(code=3, instances=1), "says that the instance is gone"),
    (good(), seen(code=4, instances=1), "says that the instance is gone"),
    (half(), seen(code=5), "its instance is gone"),
]


@pytest.mark.parametrize(("facts", "one", "words"), LIES, ids=[str(one) for _f, one, _w in LIES])
def test_an_exit_code_that_lies_is_said(facts, one, words):
    assert any(words in wrong for wrong in judge_command(facts, one))


def test_every_check_of_commands_can_fail():
    failed = {
        check for facts, one, _w in LIES for check in COMMAND_CHECKS if list(check(facts, one))
    }
    assert failed == set(COMMAND_CHECKS)
