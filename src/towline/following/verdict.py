"""How a training ended: the step's result, or an error that says why and what to do."""

from __future__ import annotations

from typing import Any

from towline import errors
from towline.context import Context
from towline.core import causes
from towline.core.run import Wish
from towline.following.log import tail

_COMMAND_NOT_FOUND = 127


def judged(ctx: Context, state: dict[str, Any], limit: str | None) -> dict[str, Any]:
    """Turn the end of the training into the step's result, or into what went wrong.

    Raises:
        TrainingFailed: It failed, was interrupted, or reached a limit.
        CommandFailed: The instance knows nothing of the start, or the exit marker is not this
            run's: no word of its end.
    """  # noqa: DOC501 - a helper makes the exception
    if state["phase"] == "none":
        message = "the instance knows nothing of this run's training any more"
        raise errors.CommandFailed(message, hint="`towline ssh` and look; `towline abort` ends it")
    ended = state["exit"]
    limit = limit or (state.get("guard") or {}).get("limit")  # whoever was the first to see it
    if ended is not None and ended["nonce"] != ctx.run.nonce:
        raise errors.CommandFailed("the exit marker on the instance is not this run's")
    result = {
        "exit_code": ended["code"] if ended else None,
        "log_bytes": state["offset"],
        "limit": limit,
        "clock_back_s": state["clock_back_s"],
    }
    ctx.journal.fact("training", result)
    if limit is not None:
        raise errors.TrainingFailed(limit, hint="raise the limit in the task file and run it again")
    if ctx.run.wish is Wish.STOP:
        return result | {"stopped": "by the user's wish"}
    if ended is None:
        guard = (state.get("guard") or {}).get("reason")
        message = f"the training was interrupted: {guard or 'its supervisor is gone (a reboot?)'}"
        raise errors.TrainingFailed(
            message, hint="what it had written is brought home; run it again"
        )
    if ended["code"] != 0:
        raise _failed(ctx, ended)
    return result


def _failed(ctx: Context, ended: dict[str, Any]) -> errors.TrainingFailed:
    code, name = ended["code"], ctx.run.name
    how = f"signal {ended['signal']}" if ended["signal"] else f"exit code {code}"
    machine = ctx.facts().get("machine") or {}
    kills = (machine.get("oom_kills") or 0) - (machine.get("first_oom_kills") or 0)
    cause = causes.find(
        tail(ctx), code=code, signum=ended["signal"], machine=machine, oom_kills=kills
    )
    if cause is not None:
        found = {"kind": cause.kind, "message": cause.message, "line": cause.line}
        ctx.journal.advance({"cause": found}, [("cause", {"cause": cause.kind, **found})])
        message = f"the training ended with {how}: {cause.message}"
        return errors.TrainingFailed(message, hint=f"{cause.hint}; the log: towline logs {name}")
    if code == _COMMAND_NOT_FOUND:
        message = f"the instance has no such command (exit code 127): {ctx.task.command}"
        return errors.TrainingFailed(
            message, hint="correct `command`, or add what it needs to `requirements`"
        )
    message = f"the training ended with {how}"
    return errors.TrainingFailed(
        message, hint=f"its last lines are above; all of them: towline logs {name}"
    )
