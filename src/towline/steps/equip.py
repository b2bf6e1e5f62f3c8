"""equip: the training's Python environment, made once for each set of requirements."""

from __future__ import annotations

import json
from typing import Any

from towline import errors
from towline.context import Context
from towline.core.run import StepName
from towline.home import open_private
from towline.onboard import wire
from towline.project import requirements_key


async def look(ctx: Context) -> dict[str, Any] | None:
    """Nothing to do without requirements; an existing venv is found by `act` in one call."""
    project = ctx.project()
    return None if project.requirements() else {"venv": None, "tool": None, "cached": False}


async def act(ctx: Context) -> dict[str, Any]:
    """Build or reuse the venv.

    Raises:
        EquipFailed: The installer's own reason.
    """
    lines = ctx.project().requirements()
    connected = ctx.result(StepName.CONNECT)
    key = requirements_key(
        lines, connected["python_version"], ctx.result(StepName.DELIVER).get("code_sha256")
    )
    line = await ctx.line()

    async def once() -> dict[str, Any]:
        return await _equip(ctx, {"requirements": lines, "key": key, "cwd": line.layout.code})

    result = await line.persist(once)
    how = "reused" if result["cached"] else f"made with {result['tool']}"
    ctx.note(f"Python environment {how}")
    return result


async def _equip(ctx: Context, args: dict[str, Any]) -> dict[str, Any]:
    line = await ctx.line()
    clean = ctx.redactor.stream()
    with open_private(ctx.files.equip_log, "ab") as log:
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
