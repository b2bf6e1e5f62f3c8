"""execute: start the training, exactly once."""

from __future__ import annotations

import hashlib
from typing import Any

from towline import errors
from towline.context import Context
from towline.core.layout import RemoteLayout
from towline.core.run import StepName
from towline.recipe import settings_json


async def look(ctx: Context) -> dict[str, Any] | None:
    """A start marker with this run's nonce: it was started, perhaps by a driver that died.

    Raises:
        CommandFailed: The marker is another's.
    """
    line = await ctx.line()
    state = await line.call("state")
    return _started(ctx, state) if state["phase"] != "none" else None


async def act(ctx: Context) -> dict[str, Any]:
    """Hand the command to the supervisor. Asking twice is safe: the marker is exclusive.

    Raises:
        NotStarted: The instance refused, and says that nothing runs.
    """
    line = await ctx.line()
    why = "its supervisor ended at once"
    try:
        state = await line.call("start", _request(ctx, line.layout))
    except (errors.CommandFailed, errors.TransferError) as refused:
        state = await line.call("state")  # it may have begun all the same
        why = refused.message
    if state["phase"] == "none":
        message = f"the training could not be started: {why}"
        raise errors.NotStarted(message, hint="`towline ssh` and look at the instance's resources")
    result = _started(ctx, state)
    window = state.get("window")
    ctx.note(
        f"training runs; on the instance: tmux attach -t {window}"
        if window
        else "training runs (no tmux window; nothing else changes)"
    )
    return result | {"window": window}


def _started(ctx: Context, state: dict[str, Any]) -> dict[str, Any]:
    marker = state["start"]
    expected = hashlib.sha256(ctx.run.nonce.encode()).hexdigest()
    if marker is None or marker["nonce_sha256"] != expected:
        message = "the instance carries a start marker that is not this run's"
        raise errors.CommandFailed(message, hint="`towline abort` this run and start it again")
    return {"started_at": marker["at"], "epoch": marker["epoch"]}


def _request(ctx: Context, layout: RemoteLayout) -> dict[str, Any]:
    venv = ctx.result(StepName.EQUIP).get("venv")
    project = ctx.project()
    env = {
        "TOWLINE_RUN_ID": ctx.run.id,
        "TOWLINE_DATASET": project.remote_dataset(layout),
        "TOWLINE_OUTPUT": layout.output,
        "TOWLINE_SETTINGS": settings_json(project.remote_settings(layout)),
        **({"VIRTUAL_ENV": venv} if venv else {}),
        **ctx.task.env,
    }
    return {
        "command": project.command(layout),
        "scripts": project.scripts(layout),
        "env": env,
        "secrets": ctx.secrets,
        "path_first": [*([f"{venv}/bin"] if venv else []), f"{layout.control}/bin"],
        "links": project.links(layout),
        "cwd": layout.code,
        "image": ctx.task.image,
        "gpu": any("name" in gpu for gpu in ctx.result(StepName.CONNECT)["gpus"]),
        "output": layout.output,
        "log": layout.log,
        "nonce": ctx.run.nonce,
    }
