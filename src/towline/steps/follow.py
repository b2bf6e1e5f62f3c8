"""follow: the log home byte for byte, progress and limits watched, until the training has ended."""

from __future__ import annotations

import json
from typing import Any

from towline import errors
from towline.checkpoints import Checkpoints
from towline.context import Context
from towline.core.run import Wish
from towline.core.units import count_text, size_text
from towline.following.log import LogKeeper
from towline.following.reports import Reports
from towline.following.sides import SideFiles
from towline.following.verdict import judged
from towline.following.watch import Watcher
from towline.line import Line
from towline.onboard import wire

_REDIAL_S = 1.0
_SAMPLE_S = 5.0


async def look(_ctx: Context) -> dict[str, Any] | None:
    """Ask nothing: following from the recorded offset finds the end by itself."""
    return None


async def act(ctx: Context) -> dict[str, Any]:
    """Follow to the end; "unreachable" is never "dead".

    Neither a broken line, nor a false host on a strange network, nor a key file that is away, nor
    a full disk here or there says anything of the training: all of them are waited out.

    Raises:
        TrainingFailed: The command failed, was interrupted, or reached a limit.
        InstanceLost: The provider says that the instance is gone.
    """
    follower = _Follower(ctx)
    if ctx.run.wish is Wish.STOP:
        ctx.status("ending the training")
        await follower.halt(await ctx.line())
    try:
        state = await follower.to_the_end()
    finally:
        await follower.checkpoints.close()
    return judged(ctx, state, follower.limit)


class _Follower:
    """One driver's reading of the log and of what comes beside it."""

    def __init__(self, ctx: Context) -> None:
        self.ctx = ctx
        self.limit: str | None = None  # which limit ended the training
        self._undying: dict[str, Any] | None = None  # the state of what would not end
        self._has_halted = self._told_detached = False
        self._ended = False  # what comes is the rest of its log
        self._is_guarded = True
        self._reports = Reports(ctx)
        self._sides = SideFiles(ctx, self._reports)
        self._watcher = Watcher(ctx)
        self._reports.on_report = self._watcher.report
        self.checkpoints = Checkpoints(ctx)
        self._trouble = ""

    async def to_the_end(self) -> dict[str, Any]:
        """Read, and take the line up again for as long as it takes."""
        while True:
            try:
                line = await self.ctx.line()
                return await self._read(line)
            except errors.Fenced:
                raise
            except errors.RemoteError as lost:
                await self._unreachable(lost)
            except errors.TransferError as full:  # a disk, here or there
                self._say_trouble(full)
            await self.ctx.clock.sleep(_REDIAL_S)

    async def _read(self, line: Line) -> dict[str, Any]:
        """Follow over one connection."""
        with LogKeeper(self.ctx, self._reports) as log:
            async with line.talk("follow", self._request(line, log)) as talk:
                line.on_break(False, "")
                async for kind, payload in talk.frames():
                    if kind == wire.DATA:
                        self._watcher.alive()
                        log.feed(payload, more_waits=talk.more_waits)
                        await talk.send(wire.END)
                    elif kind == wire.JSON:
                        remark = json.loads(payload)
                        log.hear(remark)
                        self._remark(remark)
                    elif kind == wire.RESULT:
                        log.end()
                        return dict(json.loads(payload))
                    await self.ctx.clock.sleep(0)  # a full log holds up no renewal of the lease
                    if not self._ended:
                        await self._see_to_guard(line)
                        await self._watch_limits(line)
                        self.checkpoints.tick(line)
                    if self._undying is not None and kind == wire.JSON:
                        log.end()  # what it may print yet is nobody's any more
                        return self._undying | {"offset": log.offset}
        raise errors.ConnectionLost("the instance ended the talk without a result")

    def _request(self, line: Line, log: LogKeeper) -> dict[str, Any]:
        layout = line.layout
        watch = {"roots": [layout.output, layout.code], "sample_s": _SAMPLE_S}
        return {"log": layout.log, "watch": watch | self._sides.wish()} | log.wish()

    def _remark(self, remark: dict[str, Any]) -> None:
        """Take what the instance says beside the log."""
        if "idle_s" in remark:
            self._watcher.silent(remark["idle_s"])
            self._tell_detached(remark.get("detached"))
            self._is_guarded = remark.get("guarded", True)
        elif remark.get("age_s") is not None:
            self.ctx.age.note(remark["age_s"])
            self._ended = not remark.get("running", True)  # what has ended reaches no limit
        elif "anew" in remark:
            self.ctx.note("the training truncated its log; reading on from its new beginning")
        elif "ended" in remark:
            self._ended = True
            left = size_text(remark["left_bytes"])
            self.ctx.note(f"the training has ended; {left} of its log are still on the way")
        else:
            self._beside(remark)

    def _beside(self, remark: dict[str, Any]) -> None:
        """Take what is told of side files and the machine."""
        if "side" in remark:
            self._sides.take(remark)
        elif "side_left" in remark:
            self._sides.left(remark)
        elif "machine" in remark:
            self._watcher.sample(remark["machine"])
        elif "watch_error" in remark:
            self.ctx.note(f"side files and the machine are not watched: {remark['watch_error']}")

    def _tell_detached(self, detached: dict[str, Any] | None) -> None:
        """Say once that the command has ended and its work has not."""
        if detached is None or not detached["processes"] or self._told_detached:
            return
        self._told_detached = True
        count = count_text(detached["processes"], "process", "processes")
        self.ctx.note(
            f"the command ended (exit code {detached['code']}), {count} that it detached"
            f" {'goes' if detached['processes'] == 1 else 'go'} on; waiting for that:"
            f" `towline stop {self.ctx.run.name}` ends it"
        )

    async def _see_to_guard(self, line: Line) -> None:
        """Arm a guard that was killed: this machine may be off at any moment."""
        if not self._is_guarded:
            self._is_guarded = True  # until the instance says otherwise once more
            self.ctx.note("the guard on the instance has died; arming it again")
            await self.ctx.arm_again(line)

    async def _watch_limits(self, line: Line) -> None:
        """End the training when it has used up its time or its money."""
        if self.limit is None:
            self.limit = self._limit_reached()
            if self.limit is not None:
                self.ctx.note(f"{self.limit}: ending the training, then bringing home what it left")
        if self.limit is not None and not self._has_halted:
            await self.halt(line)

    def _limit_reached(self) -> str | None:
        """Which limit is reached, by the instance's own age: no wall clock has a say in it."""
        limits, lived_s = self.ctx.task.limits, self.ctx.age.seconds()
        if lived_s is None or (limits.max_cost is None and limits.max_duration is None):
            return None  # before the journal is read: this is asked for every frame
        row = self.ctx.ledger_row()
        end = None if row is None else limits.training_end(row.price_usd_per_h)
        if end is None:
            return None
        return end[1] if lived_s >= end[0] else None

    async def halt(self, line: Line) -> None:
        """End the training, with time to save; one that does not end is told, not waited for."""
        grace_s = float(self.ctx.task.limits.on_stop_grace)
        state = await line.call("halt", {"grace_s": grace_s})
        self._has_halted = True
        if state["phase"] == "running":
            self._undying = state
            self.ctx.note(
                "WARNING: processes of the training did not end, not even by SIGKILL: another"
                " user's, or stuck in the system; going on without waiting for them"
            )

    def _say_trouble(self, trouble: errors.TowlineError) -> None:
        if trouble.message != self._trouble:
            self._trouble = trouble.message
            self.ctx.note(f"{trouble.message}; the training goes on, trying again")

    async def _unreachable(self, lost: errors.TowlineError) -> None:
        """Note the silence; only the provider's word ends the waiting."""
        ctx = self.ctx
        ctx.status(lost.message)
        if ctx.facts().get("unreachable_since") is None:
            since = {"unreachable_since": ctx.clock.now()}
            ctx.journal.advance(since, [("line_broken", {"text": lost.message})])
        await ctx.require_alive()
