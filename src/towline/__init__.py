"""towline: send a training job to a rented GPU and bring the model back.

    import towline
    run = await towline.train(towline.TaskSpec(dataset="./dataset", code=".",
                                               command="python train.py"))

The package in flow order: `cli` reads the command line, `api` joins everything, `runner` takes
the steps of `plan`, `steps` act through `ports`, `providers`, `ssh` and `store` stand behind the
ports, `transfer` and `line` move the bytes, `onboard` is what runs on the instance, `core` holds
the facts and rules.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from towline.core.task import Artifacts, Keep, Limits, Resources, TaskSpec
    from towline.errors import TowlineError
    from towline.library import (
        Run,
        abort,
        events,
        gc,
        logs,
        ls,
        resume,
        status,
        stop,
        train,
        train_sync,
        wait,
    )

_HOMES = {
    **dict.fromkeys(
        [
            "Run",
            "abort",
            "events",
            "gc",
            "logs",
            "ls",
            "resume",
            "status",
            "stop",
            "train",
            "train_sync",
            "wait",
        ],
        "towline.library",
    ),
    **dict.fromkeys(["Artifacts", "Keep", "Limits", "Resources", "TaskSpec"], "towline.core.task"),
    "TowlineError": "towline.errors",
}

__all__ = [
    "Artifacts",
    "Keep",
    "Limits",
    "Resources",
    "Run",
    "TaskSpec",
    "TowlineError",
    "__version__",
    "abort",
    "events",
    "gc",
    "logs",
    "ls",
    "resume",
    "status",
    "stop",
    "train",
    "train_sync",
    "wait",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `towline --help` imports none of them."""
    if name not in _HOMES:
        message = f"module 'towline' has no attribute {name!r}"
        raise AttributeError(message)
    import importlib  # noqa: PLC0415

    return getattr(importlib.import_module(_HOMES[name]), name)
