"""The product on one screen: the eight steps in order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from towline.context import Context
from towline.core.run import StepName
from towline.steps import acquire, connect, deliver, equip, execute, follow, gather, release


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the word people see, and its two halves."""

    name: StepName
    shown: str
    look: Callable[[Context], Awaitable[dict[str, Any] | None]]
    act: Callable[[Context], Awaitable[dict[str, Any]]]


STEPS = {
    step.name: step
    for step in (
        Step(StepName.ACQUIRE, "Renting", acquire.look, acquire.act),
        Step(StepName.CONNECT, "Waiting for SSH", connect.look, connect.act),
        Step(StepName.DELIVER, "Uploading", deliver.look, deliver.act),
        Step(StepName.EQUIP, "Preparing environment", equip.look, equip.act),
        Step(StepName.EXECUTE, "Starting training", execute.look, execute.act),
        Step(StepName.FOLLOW, "Training", follow.look, follow.act),
        Step(StepName.GATHER, "Downloading model", gather.look, gather.act),
        Step(StepName.RELEASE, "Terminating", release.look, release.act),
    )
}
