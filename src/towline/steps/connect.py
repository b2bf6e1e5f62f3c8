"""connect: wait until SSH really runs a command, then arm the guard and look the instance over."""

from __future__ import annotations

from typing import Any

from towline import errors
from towline.context import Context, address_from
from towline.core.run import StepName
from towline.core.units import count_text, seconds_text, size_text
from towline.line import Line

_FIRST_PAUSE_S = 0.25
_LEAST_PROBE_S = 0.5  # of the last probe before the limit


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: whether SSH answers is only known by trying."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Wait, log in, board, arm, inspect.

    Raises:
        NotReady: SSH did not become ready within `limits.ssh_timeout`; says how far it got.
        InstanceLost: The provider says that the instance is dead.
        HostKeyMismatch, HostKeyUnknown: At once; nothing was sent. Not where the provider installs
            the host key late: there another key is waited out.
        EquipFailed: The task wants a container, and the instance runs none; nothing was sent.
    """
    acquired = ctx.result(StepName.ACQUIRE)
    address = address_from(acquired["address"])
    began = ctx.clock.monotonic()
    line = ctx.open_line(address)
    found = await _wait(ctx, line)
    seconds = ctx.clock.monotonic() - began
    ctx.files.entered.touch(mode=0o600)
    ctx.note(f"SSH service ready ({seconds_text(seconds)})")
    await line.call("guard", _guard_orders(ctx, acquired["price_usd_per_h"]))
    ctx.note(f"instance: {inspection_text(found)}")
    _require_containers(ctx.task.image, found["tools"])
    return {**found, "ssh_ready_s": round(seconds, 3)}


async def _wait(ctx: Context, line: Line) -> dict[str, Any]:
    """Probe until a command of ours ran.

    Probes start 0.25 s apart and spread to `limits.ssh_poll`, always close enough that the wait
    after SSH is up stays a thirtieth of the wait before.

    Raises:
        NotReady: Not within `limits.ssh_timeout`.
    """
    limits = ctx.task.limits
    began = ctx.clock.monotonic()
    while True:
        left = limits.ssh_timeout - (ctx.clock.monotonic() - began)
        found = await _try(ctx, line, min(limits.ssh_connect_timeout, max(left, _LEAST_PROBE_S)))
        if isinstance(found, dict):
            return found
        await ctx.require_alive()
        waited = ctx.clock.monotonic() - began
        if waited >= limits.ssh_timeout:
            message = f"SSH at {line.address} was not ready within {seconds_text(waited)}: {found}"
            hint = "try again, another image or offer, or a longer `limits: {ssh_timeout: ...}`"
            raise errors.NotReady(message, hint=hint)
        ctx.status(f"{found} ({seconds_text(waited)})")
        pause_s = min(max(_FIRST_PAUSE_S, waited / 30), limits.ssh_poll)
        await ctx.clock.sleep(min(pause_s, limits.ssh_timeout - waited))


async def _try(ctx: Context, line: Line, timeout_s: float) -> dict[str, Any] | str:
    """One probe: the inspection's result, or in words how far it got."""
    banner = await ctx.dialer.probe(line.address, timeout_s)
    if not banner.text:
        return banner.detail
    try:
        await line.dial_once(timeout_s)
        return await ctx.board(line)
    except errors.RemoteAuthError as refused:
        if not ctx.provider.features.rented:
            raise  # the user's own machine: no boot process will install a key
        return f"SSH answers but refuses the login: {refused.message}"
    except errors.HostKeyMismatch:
        if not ctx.provider.features.host_key_late:
            raise
        return "SSH answers, but not yet with the host key that this instance was given"
    except errors.ConnectionLost as lost:
        return lost.message


def _guard_orders(ctx: Context, price_usd_per_h: float) -> dict[str, Any]:
    """The dead-man timer: the task's limits as time, plus the grace to bring the model home."""
    limits = ctx.task.limits
    lifetimes = [float(limits.max_duration)] if limits.max_duration is not None else []
    if limits.max_cost is not None and price_usd_per_h > 0:
        lifetimes.append(limits.max_cost / price_usd_per_h * 3600)
    end_argv = ctx.provider.features.end_self_argv
    return {
        "lifetime_s": min(lifetimes) + limits.gather_grace if lifetimes else None,
        "grace_s": float(limits.gather_grace),
        "end_argv": list(end_argv) if end_argv else None,
    }


def _require_containers(image: str | None, tools: list[str]) -> None:
    if image and not {"docker", "podman"} & set(tools):
        message = f"image: {image} needs docker or podman, and the instance has neither"
        hint = "take an image of the provider's that has docker, or leave `image` out of the task"
        raise errors.EquipFailed(message, hint=hint)


def inspection_text(found: dict[str, Any]) -> str:
    """The instance in one line."""
    parts = [_gpu_text(found["gpus"]), count_text(found["cpus"] or 0, "CPU")]
    parts.append(f"{size_text(found['disk_free_bytes'])} free")
    parts.append(f"Python {found['python_version']}")
    parts.append("tmux" if "tmux" in found["tools"] else "no tmux (nohup instead)")
    return ", ".join(parts)


def _gpu_text(gpus: list[dict[str, Any]]) -> str:
    if not gpus:
        return "no GPU"
    if "error" in gpus[0]:
        return f"GPU driver fails: {gpus[0]['error']}"
    first = gpus[0]
    memory = f"{int(first['memory_mib']) / 1024:.0f} GiB" if first["memory_mib"].isdigit() else "?"
    return f"{len(gpus)} x {first['name']} ({memory}, driver {first['driver']})"
