"""equip: the training's Python environment, made once for each set of requirements, and tried."""

from __future__ import annotations

import json
from typing import Any

from towline import errors
from towline.context import Context
from towline.core.cuda import judge
from towline.core.run import StepName
from towline.disk import writing
from towline.home import open_private
from towline.line import Line
from towline.onboard import wire
from towline.project import requirements_key

_NO_VENV: dict[str, Any] = {"venv": None, "tool": None, "cached": False, "shared": []}


async def look(ctx: Context) -> dict[str, Any] | None:
    """Nothing to do without requirements, image and GPU; `act` finds an existing venv in one call."""
    task = ctx.task
    wanted = ctx.project().requirements() or task.image or task.resources.gpu
    return None if wanted or ctx.result(StepName.CONNECT)["gpus"] else dict(_NO_VENV)


async def act(ctx: Context) -> dict[str, Any]:
    """Fetch the image, build or reuse the venv, then see whether its frameworks reach the GPU.

    Raises:
        EquipFailed: The installer's own reason; or the GPU can't be used, and why.
    """
    lines = ctx.project().requirements()
    asked = lines or ctx.task.image
    result = await _environment(ctx, lines) if asked else dict(_NO_VENV)
    return result | {"frameworks": await _preflight(ctx, result["venv"])}


async def _environment(ctx: Context, lines: list[str]) -> dict[str, Any]:
    connected = ctx.result(StepName.CONNECT)
    key = requirements_key(
        lines,
        ctx.task.image or connected["python_version"],
        ctx.result(StepName.DELIVER).get("code_sha256"),
    )
    line = await ctx.line()
    args = {"requirements": lines, "key": key, **_place(ctx, line)}

    async def once() -> dict[str, Any]:
        return await _equip(ctx, args)

    result = await line.persist(once)
    if ctx.task.image:
        ctx.note(f"container image {ctx.task.image} is there")
    if result["venv"] is None:
        return result
    how = "reused" if result["cached"] else f"made with {result['tool']}"
    own = f"; the machine's own {', '.join(result['shared'])}" if result["shared"] else ""
    ctx.note(f"Python environment {how}{own}")
    return result


async def _equip(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    line = await ctx.line()
    clean = ctx.redactor.stream()
    path = ctx.files.equip_log
    with writing(path), open_private(path, "ab") as log:
        async with line.talk("equip", args) as talk:
            async for kind, payload in talk.frames():
                if kind == wire.DATA:
                    text, _count = clean.feed(payload)
                    log.write(text)
                    ctx.status(payload.decode(errors="replace").strip()[:160])
                elif kind == wire.RESULT:
                    log.write(clean.flush()[0])
                    return dict(json.loads(payload))
    raise errors.ConnectionLost("the instance ended the talk without a result")


async def _preflight(ctx: Context, venv: str | None) -> dict[str, Any]:
    """Stop before anything long runs when the frameworks can't use the GPU that was asked for."""
    line = await ctx.line()
    gpus = ctx.result(StepName.CONNECT)["gpus"]
    place = _place(ctx, line)
    if place["gpu"]:
        ctx.status("trying the GPU")
    answer = await line.call("preflight", {"venv": venv, "env": ctx.task.env, **place})
    frameworks: dict[str, Any] = answer["frameworks"]
    wanted = ctx.task.resources.gpu is not None
    for one in judge(frameworks, gpus, ctx.task.env, gpu_wanted=wanted):
        if one.fatal:
            raise errors.EquipFailed(one.message, hint=one.hint)
        ctx.note(f"{one.message}; {one.hint}")
    for name, facts in frameworks.items():
        if facts.get("works"):
            ctx.note(f"{name} {facts['version']} computes on {facts['device']}")
    return frameworks


def _place(ctx: Context, line: Line) -> dict[str, Any]:
    """Where the training runs: its folder, its container, whether there is a GPU to use."""
    gpus = ctx.result(StepName.CONNECT)["gpus"]
    usable = bool(gpus) and "error" not in gpus[0]
    return {"cwd": line.layout.code, "image": ctx.task.image, "gpu": usable}
