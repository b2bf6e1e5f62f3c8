"""A run: its record, its steps' attempts, and the rule that says what comes next.

The rule is one pure function, `next_step`; the runner is a loop around it. State is derived from
what is stored, never kept twice.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Any

from towline.core.instance import RunId

_NO_MODEL = 3  # as of an ArtifactMissing


class StepName(enum.StrEnum):
    """The eight steps; alphabetical order is run order."""

    ACQUIRE = "acquire"
    CONNECT = "connect"
    DELIVER = "deliver"
    EQUIP = "equip"
    EXECUTE = "execute"
    FOLLOW = "follow"
    GATHER = "gather"
    RELEASE = "release"


class RunState(enum.StrEnum):
    """What became of a run."""

    ACTIVE = "active"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    ABORTED = "aborted"


class Wish(enum.StrEnum):
    """What the user asked of a run that is under way."""

    STOP = "stop"  # end training, gather, release
    ABORT = "abort"  # release now, discard


class Outcome(enum.StrEnum):
    """How a step's attempt ended; an attempt without one was cut short."""

    DONE = "done"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """A run as the journal holds it. Times are UTC seconds; ``provider`` may name several."""

    id: RunId
    name: str
    state: RunState
    task: dict[str, Any]
    provider: str
    results_dir: str
    created_at: float
    ended_at: float | None = None
    wish: Wish | None = None
    error: dict[str, Any] | None = None  # {"kind", "message", "hint", "exit_code", "step"}
    epoch: int = 0
    nonce: str = ""

    @property
    def providers(self) -> list[str]:
        """Names of the providers that it may rent from."""
        return self.provider.split(",")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One try of one step. ``result`` is what later steps and the receipt read of it."""

    step: StepName
    number: int
    started_at: float
    ended_at: float | None = None
    outcome: Outcome | None = None
    result: dict[str, Any] = field(default_factory=dict)


def done_steps(attempts: list[Attempt]) -> set[StepName]:
    """Steps with an attempt that ended well."""
    return {attempt.step for attempt in attempts if attempt.outcome is Outcome.DONE}


def start_is_unknown(attempts: list[Attempt]) -> bool:
    """Whether a training may run that the journal has no record of.

    A start is recorded as failed only on the instance's own word that nothing runs; one that was
    cut short (the driver was killed, the line broke) may have had its effect.
    """
    starts = [attempt for attempt in attempts if attempt.step is StepName.EXECUTE]
    return bool(starts) and starts[-1].outcome is None


def next_step(run: RunRecord, attempts: list[Attempt]) -> StepName | None:
    """Say which step comes next, None when the run is over.

    An untroubled run takes the eight in order. A troubled one (an error recorded, or a wish)
    goes the short way: whether a training was started is looked at where the journal does not
    say, what it left is gathered if it was, then release; abort goes to release at once.
    """
    done = done_steps(attempts)
    if StepName.RELEASE in done:
        return None
    if run.wish is Wish.ABORT:
        return StepName.RELEASE
    if run.error is None and run.wish is None:
        return next(step for step in StepName if step not in done)
    if StepName.EXECUTE not in done:
        return StepName.EXECUTE if start_is_unknown(attempts) else StepName.RELEASE
    if StepName.FOLLOW not in done and run.wish is Wish.STOP and run.error is None:
        return StepName.FOLLOW  # it ends the training, then reads the log to its end
    failed_to_gather = any(
        attempt.step is StepName.GATHER and attempt.outcome is Outcome.FAILED
        for attempt in attempts
    )
    return StepName.RELEASE if StepName.GATHER in done or failed_to_gather else StepName.GATHER


def final_state(run: RunRecord, attempts: list[Attempt]) -> RunState:
    """State of a run whose release is done.

    A stop that came when the training had ended by itself, while its instance was kept, say,
    does not make it a stopped one.
    """
    if run.wish is Wish.ABORT:
        return RunState.ABORTED
    if run.error is not None:
        return RunState.FAILED
    ended_by_itself = any(
        attempt.step is StepName.FOLLOW
        and attempt.outcome is Outcome.DONE
        and "stopped" not in attempt.result
        for attempt in attempts
    )
    stopped = run.wish is Wish.STOP and not ended_by_itself
    return RunState.STOPPED if stopped else RunState.SUCCEEDED


def exit_code(run: RunRecord, *, has_model: bool) -> int:
    """The exit code that tells how an ended run went: 0 only with a model at home."""
    if run.state is RunState.FAILED:
        code: int = (run.error or {}).get("exit_code", 1)
        return code
    return 0 if has_model else _NO_MODEL
