"""follow: the log home byte for byte, progress and limits watched, until the training has ended."""

from __future__ import annotations

import json
import os
from typing import Any, BinaryIO

from towline import errors
from towline.checkpoints import Checkpoints
from towline.context import Context
from towline.core.run import Wish
from towline.core.stream import LogPart, LogStream
from towline.core.units import seconds_text, usd_text
from towline.home import open_private
from towline.line import Line
from towline.onboard import wire

_HALT_GRACE_S = 10.0
_REDIAL_S = 1.0
_COMMAND_NOT_FOUND = 127
# a false host on a strange network, too, says nothing of the training: keep trying
_UNREACHABLE = (errors.ConnectionLost, errors.HostKeyMismatch, errors.RemoteAuthError)


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: following from the recorded offset finds the end by itself."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Follow to the end; "unreachable" is never "dead".

    Raises:
        TrainingFailed: The command failed, was interrupted, or reached a limit.
        InstanceLost: The provider says that the instance is gone.
    """
    if ctx.run.wish is Wish.STOP:
        line = await ctx.line()
        ctx.status("ending the training")
        await line.call("halt", {"grace_s": _HALT_GRACE_S})
    follower = _Follower(ctx)
    try:
        state = await follower.to_the_end()
    finally:
        await follower.checkpoints.close()
    return _judged(ctx, state, follower.limit)


class _Follower:
    """One driver's reading of the log."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.limit: str | None = None  # which limit ended the training
        self.checkpoints = Checkpoints(ctx)
        self._idle_told = False
        self._noted_at = 0.0

    async def to_the_end(self) -> dict[str, Any]:
        """Read, and take the line up again for as long as it takes."""
        while True:
            try:
                line = await self.ctx.line()
                return await self._read(line)
            except _UNREACHABLE as lost:
                await self._unreachable(lost)
                await self.ctx.clock.sleep(_REDIAL_S)

    async def _read(self, line: Line) -> dict[str, Any]:
        """Follow over one connection."""
        ctx = self.ctx
        log_fact = ctx.facts().get("log") or {"offset": 0, "size_bytes": 0}
        with _open_log(ctx, log_fact) as file:
            stream = LogStream(ctx.redactor, log_fact["offset"], log_fact["size_bytes"])
            request = {"log": line.layout.log, "offset": log_fact["offset"]}
            async with line.talk("follow", request) as talk:
                line.on_break(False, "")
                async for kind, payload in talk.frames():
                    if kind == wire.DATA:
                        self._idle_told = False
                        self._keep(file, stream.feed(payload))
                    elif kind == wire.JSON:
                        self._watch_idle(json.loads(payload)["idle_s"])
                    elif kind == wire.RESULT:
                        self._keep(file, stream.end())
                        return dict(json.loads(payload))
                    await self._watch_limits(line)
                    self.checkpoints.tick(line)
        raise errors.ConnectionLost("the instance ended the talk without a result")

    def _keep(self, file: BinaryIO, part: LogPart) -> None:
        """Append to the local log, then record how far it reaches: rule 2, in that order."""
        if part.clean:
            file.write(part.clean)
            file.flush()
            self._note_time(file.tell())
        events = [("progress", progress.data()) for progress in part.progress]
        facts: dict[str, Any] = {"log": {"offset": part.offset, "size_bytes": part.size_bytes}}
        if part.progress:
            facts["progress"] = _merged(self.ctx.facts().get("progress"), events)
        self.ctx.journal.advance(facts, events)

    def _note_time(self, size_bytes: int) -> None:
        """Note, once a second, how long the log was when: `logs --since` reads it."""
        now = self.ctx.clock.now()
        if now - self._noted_at >= 1.0:
            self._noted_at = now
            with open_private(self.ctx.files.log_times, "ab") as times:
                times.write(json.dumps({"at": now, "size_bytes": size_bytes}).encode() + b"\n")

    def _watch_idle(self, idle_s: float) -> None:
        if idle_s >= self.ctx.task.limits.stall_after and not self._idle_told:
            self._idle_told = True
            self.ctx.note(f"the training has printed nothing for {seconds_text(idle_s)}")

    async def _watch_limits(self, line: Line) -> None:
        """End the training when it has used up its time or its money."""
        if self.limit is not None:
            return
        self.limit = _limit_reached(self.ctx)
        if self.limit is not None:
            self.ctx.note(f"{self.limit}: ending the training, then bringing home what there is")
            await line.call("halt", {"grace_s": _HALT_GRACE_S})

    async def _unreachable(self, lost: errors.TowlineError) -> None:
        """Note the silence; only the provider's word ends the waiting."""
        ctx = self.ctx
        if ctx.facts().get("unreachable_since") is None:
            since = {"unreachable_since": ctx.clock.now()}
            ctx.journal.advance(since, [("line_broken", {"text": lost.message})])
        await ctx.require_alive()


def _open_log(ctx: Context, log_fact: dict[str, int]) -> BinaryIO:
    """Open the local log at its recorded size; what a dead driver wrote beyond is read again."""
    fd = os.open(ctx.files.log, os.O_RDWR | os.O_CREAT, 0o600)
    file = os.fdopen(fd, "r+b")
    size = log_fact["size_bytes"]
    if file.seek(0, os.SEEK_END) < size:  # lost with the power: the instance still has all of it
        log_fact.update(offset=0, size_bytes=0)
        size = 0
    file.truncate(size)
    file.seek(size)
    return file


def _merged(
    before: dict[str, Any] | None, events: list[tuple[str, dict[str, Any]]]
) -> dict[str, Any]:
    """The newest value of each thing the training reports."""
    merged: dict[str, Any] = before or {"epoch": None, "total_epochs": None, "metrics": {}}
    for _kind, data in events:
        for key in ("epoch", "total_epochs"):
            merged[key] = merged[key] if data[key] is None else data[key]
        merged["metrics"] = {**merged["metrics"], **data["metrics"]}
    return merged


def _limit_reached(ctx: Context) -> str | None:
    limits = ctx.task.limits
    row = ctx.ledger_row()
    if row is None or (limits.max_duration is None and limits.max_cost is None):
        return None
    seconds = ctx.clock.now() - (row.created_at or row.intent_at)
    spent = seconds / 3600 * row.price_usd_per_h
    if limits.max_duration is not None and seconds >= limits.max_duration:
        return f"max_duration of {seconds_text(limits.max_duration)} reached"
    if limits.max_cost is not None and spent >= limits.max_cost:
        return f"max_cost of {usd_text(limits.max_cost)} reached"
    return None


def _judged(ctx: Context, state: dict[str, Any], limit: str | None) -> dict[str, Any]:
    """Turn the end of the training into the step's result, or into what went wrong."""
    ended = state["exit"]
    if ended is not None and ended["nonce"] != ctx.run.nonce:
        raise errors.CommandFailed("the exit marker on the instance is not this run's")
    result = {
        "exit_code": ended["code"] if ended else None,
        "log_bytes": state["offset"],
        "limit": limit,
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
    if code == _COMMAND_NOT_FOUND:
        message = f"the instance has no such command (exit code 127): {ctx.task.command}"
        return errors.TrainingFailed(
            message, hint="correct `command`, or add what it needs to `requirements`"
        )
    how = f"signal {ended['signal']}" if ended["signal"] else f"exit code {code}"
    message = f"the training ended with {how}"
    return errors.TrainingFailed(
        message, hint=f"its last lines are above; all of them: towline logs {name}"
    )
