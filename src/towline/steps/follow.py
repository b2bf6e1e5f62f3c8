"""follow: the log home byte for byte, progress and limits watched, until the training has ended."""

from __future__ import annotations

import json
from typing import Any

from towline import errors
from towline.checkpoints import Checkpoints
from towline.context import Context
from towline.core.run import Wish
from towline.core.units import seconds_text, usd_text
from towline.following.log import LogKeeper
from towline.following.reports import Reports
from towline.following.sides import SideFiles
from towline.following.verdict import judged
from towline.following.watch import Watcher
from towline.line import Line
from towline.onboard import wire

_HALT_GRACE_S = 10.0
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
    if ctx.run.wish is Wish.STOP:
        line = await ctx.line()
        ctx.status("ending the training")
        await line.call("halt", {"grace_s": _HALT_GRACE_S})
    follower = _Follower(ctx)
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
            async with line.talk("follow", self._request(line, log.offset)) as talk:
                line.on_break(False, "")
                async for kind, payload in talk.frames():
                    if kind == wire.DATA:
                        self._watcher.alive()
                        log.feed(payload)
                    elif kind == wire.JSON:
                        self._remark(json.loads(payload))
                    elif kind == wire.RESULT:
                        log.end()
                        return dict(json.loads(payload))
                    await self._watch_limits(line)
                    self.checkpoints.tick(line)
        raise errors.ConnectionLost("the instance ended the talk without a result")

    def _request(self, line: Line, offset: int) -> dict[str, Any]:
        layout = line.layout
        watch = {"roots": [layout.output, layout.code], "sample_s": _SAMPLE_S}
        return {"log": layout.log, "offset": offset, "watch": watch | self._sides.wish()}

    def _remark(self, remark: dict[str, Any]) -> None:
        """Take what the instance says beside the log."""
        if "idle_s" in remark:
            self._watcher.silent(remark["idle_s"])
        elif "side" in remark:
            self._sides.take(remark)
        elif "side_left" in remark:
            self._sides.left(remark)
        elif "machine" in remark:
            self._watcher.sample(remark["machine"])
        elif "watch_error" in remark:
            self.ctx.note(f"side files and the machine are not watched: {remark['watch_error']}")

    async def _watch_limits(self, line: Line) -> None:
        """End the training when it has used up its time or its money."""
        if self.limit is not None:
            return
        self.limit = _limit_reached(self.ctx)
        if self.limit is not None:
            self.ctx.note(f"{self.limit}: ending the training, then bringing home what there is")
            await line.call("halt", {"grace_s": _HALT_GRACE_S})

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
