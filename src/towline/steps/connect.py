"""connect: wait until SSH really runs a command, then arm the guard and look the instance over.

Before anything is sent the host must be the one that was rented. Grade A: it shows the key that
its user-data gave it. Grade B: it proves with a secret, which only the rented machine was given
with our public key, that the key it shows is its own. Grade C: the first key is pinned, and the
user was told. From then on only that key is accepted.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import replace
from typing import Any

from towline import errors
from towline.arming import is_all_ours, reboot_text
from towline.context import Context
from towline.core import gpu
from towline.core.attest import proof
from towline.core.instance import Address
from towline.core.run import StepName
from towline.core.units import count_text, seconds_text, size_text
from towline.disk import read_text, writing
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
    began = ctx.clock.monotonic()
    line, found = await _wait(ctx, ctx.address())
    seconds = ctx.clock.monotonic() - began
    with writing(ctx.files.entered):
        ctx.files.entered.touch(mode=0o600)
    ctx.note(f"SSH service ready ({seconds_text(seconds)})")
    comes_back = await ctx.arm(line)
    if is_all_ours(ctx.provider.features):
        ctx.note(f"guard: {reboot_text(comes_back)}")
    if ctx.provider.features.password_login:
        await _end_password_login(ctx, line)
    ctx.note(f"instance: {inspection_text(found)}")
    _require_offered(acquired, ctx.task.resources.gpu, found["gpus"])
    _require_containers(ctx.task.image, found["tools"])
    return {**found, "ssh_ready_s": round(seconds, 3), "address": line.address.data()}


async def _wait(ctx: Context, address: Address) -> tuple[Line, dict[str, Any]]:
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
        found = await _try(ctx, address, min(limits.ssh_connect_timeout, max(left, _LEAST_PROBE_S)))
        if not isinstance(found, str):
            return found
        await ctx.require_alive()
        waited = ctx.clock.monotonic() - began
        if waited >= limits.ssh_timeout:
            message = f"SSH at {address} was not ready within {seconds_text(waited)}: {found}"
            hint = "try again, another image or offer, or a longer `limits: {ssh_timeout: ...}`"
            raise errors.NotReady(message, hint=hint)
        ctx.status(f"{found} ({seconds_text(waited)})")
        pause_s = min(max(_FIRST_PAUSE_S, waited / 30), limits.ssh_poll)
        await ctx.clock.sleep(min(pause_s, limits.ssh_timeout - waited))


async def _try(
    ctx: Context, address: Address, timeout_s: float
) -> tuple[Line, dict[str, Any]] | str:
    """One probe: the line and the inspection's result, or in words how far it got."""
    banner = await ctx.dialer.probe(address, timeout_s)
    if not banner.text:
        return banner.detail
    try:
        return await _enter(ctx, address, timeout_s)
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


async def _enter(ctx: Context, address: Address, timeout_s: float) -> tuple[Line, dict[str, Any]]:
    """Log in at a host that is, or proves to be, the one that was rented."""
    is_known = address.host_key is not None or not ctx.provider.features.rented
    if not is_known:
        shown = await ctx.dialer.host_key(address, timeout_s)
        address = replace(address, host_key=shown)
    line = ctx.open_line(address)
    await line.dial_once(timeout_s)
    found = await ctx.board(line)
    if not is_known:
        await _attest(ctx, line)
    return line, found


async def _attest(ctx: Context, line: Line) -> None:
    """Let the host prove that the key it shows belongs to the machine that got our public key.

    The comment of that public key holds a secret, which an SSH client never sends: only who was
    given the whole line knows it. The answer covers the host key that we see, so that nobody in
    between can pass it on.

    Raises:
        HostKeyMismatch: A wrong answer.
        HostKeyUnknown: No answer, and the settings do not accept a first key unproven.
    """
    public = read_text(ctx.files.private_key.with_suffix(".pub")).strip()
    seen, nonce = line.address.host_key or "", secrets.token_hex(16)
    _kind, blob, comment = public.split(" ", 2)
    answer = await line.call("attest", {"key": blob, "nonce": nonce, "host_key": seen})
    grade = "B"
    if answer["mac"] is None:
        if ctx.provider.features.host_key_grade != "C":
            raise errors.HostKeyUnknown(
                f"{line.address} can't prove that it is the machine that was rented: our public key"
                " arrived there without its comment",
                hint=f"nothing was sent. To take the first key as it comes, set `providers:"
                f" {{{ctx.provider.name}: {{accept_first_key: true}}}}` in config.yaml",
            )
        grade = "C"
    elif not hmac.compare_digest(answer["mac"], proof(comment, nonce, seen)):
        message = f"{line.address} is not the machine that was rented: its proof is wrong"
        raise errors.HostKeyMismatch(message, hint="nothing was sent; someone may be in between")
    said = "proven by the machine" if grade == "B" else "taken as first shown, not proven"
    ctx.journal.fact("host_key", seen)
    ctx.note(f"host key {said} (grade {grade})")


async def _end_password_login(ctx: Context, line: Line) -> None:
    """Switch password login off, where the provider insisted on a password."""
    done = await line.call("end_passwords")
    if done["error"] is None:
        ctx.note("password login is switched off on the instance")
    else:
        ctx.note(f"password login could not be switched off on the instance: {done['error']}")


def _require_offered(
    acquired: dict[str, Any], asked: str | None, gpus: list[dict[str, Any]]
) -> None:
    """The instance has the GPUs that are paid for, and those that were asked for: whole ones.

    An own machine has what it has.

    Raises:
        WrongMachine: It has others, fewer, parts, or none that answers.
    """
    if acquired.get("gpu") is None:
        return
    count = acquired["gpus"]
    claims = [
        (f"the offer said {count} x", gpu.Gpu(acquired["gpu"], acquired.get("vram_gb")), count)
    ]
    if asked is not None:
        need, number = gpu.parse_need(asked)
        claims.append((f"asked for were {number} x", need, number))
    for said, wanted, number in claims:
        why = gpu.shortfall(gpus, wanted, number)
        if why is not None:
            memory = f" {wanted.memory_gb:.0f} GB" if wanted.memory_gb else ""
            raise errors.WrongMachine(
                f"{said} {wanted.model}{memory}; the instance has: {_gpu_text(gpus)} ({why})"
            )


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
