"""Promises 1 and 2 as rules: which step is next, over every history a run can have."""

import dataclasses

import pytest

from towline.core.instance import run_id_from
from towline.core.run import (
    Attempt,
    Outcome,
    RunRecord,
    RunState,
    StepName,
    Wish,
    done_steps,
    final_state,
    next_step,
    start_is_unknown,
)

RUN = RunRecord(
    id=run_id_from(b"abcdefgh"),
    name="r",
    state=RunState.ACTIVE,
    task={},
    provider="local",
    results_dir="/r",
    created_at=0.0,
)
ERROR = {"kind": "TrainingFailed", "message": "m", "hint": None, "exit_code": 3, "step": "follow"}
#: how an attempt may leave the journal: outcome, and whether an error is then on record
ENDINGS = {
    "done": (Outcome.DONE, False),
    "failed": (Outcome.FAILED, True),
    "cut short by a wish": (Outcome.FAILED, False),
    "driver died": (None, False),
    "driver died between error and outcome": (None, True),
}
WISHES = {
    None: [None, Wish.STOP, Wish.ABORT],
    Wish.STOP: [Wish.STOP, Wish.ABORT],
    Wish.ABORT: [Wish.ABORT],
}


def attempt(step, outcome, number=1):
    return Attempt(step=step, number=number, started_at=0.0, outcome=outcome)


def follow_ons(run, attempts):
    """Every way in which the next step may leave the run."""
    step = next_step(run, attempts)
    assert step is not None
    for name, (outcome, fails) in ENDINGS.items():
        for wish in WISHES[run.wish]:
            if name == "cut short by a wish" and (wish is run.wish or step is StepName.RELEASE):
                continue  # only a new wish cuts a step short, and nothing cuts release short
            if outcome is Outcome.DONE and wish is not run.wish and wish is Wish.ABORT:
                pass  # the wish came while the step was ending: also possible
            error = run.error or (ERROR if fails else None)
            yield (
                dataclasses.replace(run, wish=wish, error=error),
                [*attempts, attempt(step, outcome, len(attempts) + 1)],
            )


def summary(run, attempts):
    """What two histories must share to go on alike."""
    ends = frozenset((a.step, a.outcome) for a in attempts if a.outcome is not None)
    return ends, run.wish, run.error is not None, start_is_unknown(attempts)


def reachable():
    """One history for each situation a run can get into."""
    seen = {}
    waiting = [(RUN, [])]
    while waiting:
        run, attempts = waiting.pop()
        key = summary(run, attempts)
        if key in seen:
            continue
        seen[key] = (run, attempts)
        if next_step(run, attempts) is not None:
            waiting.extend(follow_ons(run, attempts))
    return list(seen.values())


HISTORIES = reachable()


def test_there_are_many_histories():
    assert len(HISTORIES) > 100
    assert any(next_step(*history) is None for history in HISTORIES)


def test_the_run_is_over_exactly_when_release_is_done():
    for run, attempts in HISTORIES:
        assert (next_step(run, attempts) is None) == (StepName.RELEASE in done_steps(attempts))


def test_a_step_that_is_done_is_never_taken_again():
    for run, attempts in HISTORIES:
        assert next_step(run, attempts) not in done_steps(attempts)


def test_an_untroubled_run_takes_the_eight_in_order():
    attempts = []
    for step in StepName:
        assert next_step(RUN, attempts) is step
        attempts.append(attempt(step, Outcome.DONE))
    assert next_step(RUN, attempts) is None
    assert [str(step) for step in StepName] == sorted(StepName)


def test_while_untroubled_no_step_overtakes_another():
    for run, attempts in HISTORIES:
        step = next_step(run, attempts)
        if step is not None and run.error is None and run.wish is None:
            assert done_steps(attempts) == {one for one in StepName if one < step}


def test_a_training_that_started_is_gathered_before_release_unless_aborted():
    for run, attempts in HISTORIES:
        started = StepName.EXECUTE in done_steps(attempts)
        if next_step(run, attempts) is StepName.RELEASE and started and run.wish is not Wish.ABORT:
            assert any(a.step is StepName.GATHER and a.outcome is not None for a in attempts)


def test_nothing_is_followed_or_gathered_that_did_not_start():
    for run, attempts in HISTORIES:
        if next_step(run, attempts) in {StepName.FOLLOW, StepName.GATHER}:
            assert StepName.EXECUTE in done_steps(attempts)


def test_abort_means_release_now():
    for run, attempts in HISTORIES:
        if run.wish is Wish.ABORT and StepName.RELEASE not in done_steps(attempts):
            assert next_step(run, attempts) is StepName.RELEASE


def test_a_troubled_run_takes_up_a_start_only_to_look_whether_it_was_one():
    ends = {StepName.FOLLOW, StepName.GATHER, StepName.RELEASE, None}
    for run, attempts in HISTORIES:
        if run.error is not None or run.wish is not None:
            step = next_step(run, attempts)
            assert step in ends or (step is StepName.EXECUTE and start_is_unknown(attempts))


def test_nothing_is_released_while_a_training_may_run_unless_aborted():
    for run, attempts in HISTORIES:
        if next_step(run, attempts) is StepName.RELEASE and run.wish is not Wish.ABORT:
            assert not start_is_unknown(attempts)


def test_a_failed_gather_does_not_keep_the_instance():
    for run, attempts in HISTORIES:
        if any(a.step is StepName.GATHER and a.outcome is Outcome.FAILED for a in attempts):
            assert next_step(run, attempts) in {StepName.RELEASE, None}


def test_release_is_asked_for_until_it_is_done():
    for run, attempts in HISTORIES:
        if next_step(run, attempts) is StepName.RELEASE:
            for outcome in (Outcome.FAILED, None):
                more = [*attempts, attempt(StepName.RELEASE, outcome)]
                assert next_step(run, more) is StepName.RELEASE


def test_every_history_ends_in_release_however_its_steps_go():
    for run, attempts in HISTORIES:
        for outcome in (Outcome.DONE, Outcome.FAILED):
            here, more, taken = run, list(attempts), 0
            while (step := next_step(here, more)) is not None:
                failed = outcome is Outcome.FAILED and step is not StepName.RELEASE
                more.append(attempt(step, Outcome.FAILED if failed else Outcome.DONE))
                here = dataclasses.replace(here, error=here.error or (ERROR if failed else None))
                taken += 1
                assert taken <= len(StepName)
            assert more[-1].step is StepName.RELEASE


@pytest.mark.parametrize(
    ("wish", "error", "state"),
    [
        (None, None, RunState.SUCCEEDED),
        (None, ERROR, RunState.FAILED),
        (Wish.STOP, None, RunState.STOPPED),
        (Wish.STOP, ERROR, RunState.FAILED),
        (Wish.ABORT, None, RunState.ABORTED),
        (Wish.ABORT, ERROR, RunState.ABORTED),
    ],
)
def test_the_end_is_named_for_what_ended_it(wish, error, state):
    run = dataclasses.replace(RUN, wish=wish, error=error)
    assert final_state(run, []) is state


@pytest.mark.parametrize(
    ("result", "state"),
    [({"exit_code": 0}, RunState.SUCCEEDED), ({"stopped": "by wish"}, RunState.STOPPED)],
)
def test_stop_after_the_training_ended_by_itself_leaves_a_success(result, state):
    followed = Attempt(
        step=StepName.FOLLOW, number=1, started_at=1.0, outcome=Outcome.DONE, result=result
    )
    run = dataclasses.replace(RUN, wish=Wish.STOP)
    assert final_state(run, [followed]) is state
