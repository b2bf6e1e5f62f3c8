"""Watch rules: what is said while a training runs. Said once, with facts; nothing is ended."""

from __future__ import annotations

from typing import Any

from towline.context import Context
from towline.core.metrics import key
from towline.core.units import seconds_text, size_text

_IDLE = 0.05  # of a GPU, less is idle
_HELD_MIB = 500
_SCARCE_BYTES = 1_000_000_000
_MEMORY_NEARLY = 0.97
_MIB = 1 << 20


class Watcher:
    """One driver's look at the machine and the reports."""

    def __init__(self, ctx: Context) -> None:
        self._ctx = ctx
        facts = ctx.facts()
        self.machine: dict[str, Any] | None = facts.get("machine")
        self._told: set[str] = set(facts.get("told") or ())
        self._stalled = facts.get("stalled") is not None
        self._reported_at = ctx.clock.monotonic()
        self._gpu_busy_at = ctx.clock.monotonic()

    def report(self, data: dict[str, Any]) -> None:
        """Look at one report of the training."""
        self.alive()
        for name, value in data["metrics"].items():
            if value is None and "loss" in key(name):
                self._once("nan", f"{name} is not a number any more (nan or inf)"
                           f"{_at_epoch(data)}; the training goes on, but what it learns from here"
                           " on is of no use: a lower learning rate is the usual cure")  # fmt: skip

    def sample(self, sample: dict[str, Any]) -> None:
        """Keep the newest sample of the machine, and what is worth keeping of those before."""
        before = self.machine or {}
        first = before.get("first_oom_kills")
        sample["first_oom_kills"] = sample["oom_kills"] if first is None else first
        sample["most_memory_bytes"] = max(
            before.get("most_memory_bytes") or 0, sample["memory_bytes"] or 0
        )
        self.machine = sample
        self._ctx.journal.fact("machine", sample)
        if any((gpu["busy"] or 0) > _IDLE for gpu in sample["gpus"]):
            self._gpu_busy_at = self._ctx.clock.monotonic()
        self._scarce(sample)

    def _scarce(self, sample: dict[str, Any]) -> None:
        free, used, total = (
            sample[name] for name in ("disk_free_bytes", "memory_bytes", "memory_total_bytes")
        )
        if free is not None and free < _SCARCE_BYTES:
            self._once("disk", f"the instance's disk has {size_text(free)} left")
        if used and total and used > _MEMORY_NEARLY * total:
            what = f"{size_text(used)} of {size_text(total)}"
            self._once("memory", f"the instance's memory is nearly used up: {what}")
        if sample["gpu_error"]:
            self._once("gpu", f"the GPUs can't be asked: {sample['gpu_error']}")

    def alive(self) -> None:
        """Note that the training has said something."""
        self._reported_at = self._ctx.clock.monotonic()
        if self._stalled:
            self._stalled = False
            self._ctx.journal.fact("stalled", None)

    def silent(self, idle_s: float) -> None:
        """Look at a training whose log has not grown for so long."""
        now = self._ctx.clock.monotonic()
        quiet = min(idle_s, now - self._reported_at)  # side files, too, are a sign of life
        limit = self._ctx.task.limits.stall_after
        if quiet < limit or self._stalled:
            return
        gpus = (self.machine or {}).get("gpus") or []
        if gpus and now - self._gpu_busy_at < min(limit, quiet):
            return  # silent, but at work
        self._stalled = True
        text = f"the training has printed nothing for {seconds_text(quiet)}{_facts(self.machine)}"
        since = {"since": self._ctx.clock.now() - quiet, "text": text}
        self._ctx.journal.advance({"stalled": since}, [("note", {"text": text})])

    def _once(self, what: str, text: str) -> None:
        if what not in self._told:
            self._told.add(what)
            told = {"told": sorted(self._told)}
            self._ctx.journal.advance(told, [("note", {"text": text})])


def _at_epoch(data: dict[str, Any]) -> str:
    return f" since epoch {data['epoch']}" if data.get("epoch") is not None else ""


def _facts(machine: dict[str, Any] | None) -> str:
    """What the machine does meanwhile."""
    if machine is None:
        return ""
    words = []
    for gpu in machine["gpus"]:
        held = gpu["memory_mib"] or 0
        words.append(
            f"GPU {gpu['index']} is idle"
            + (f" and holds {size_text(held * _MIB)}" if held >= _HELD_MIB else "")
        )
    if machine["cpu"] is not None:
        words.append(f"the processors are {machine['cpu']:.0%} busy")
    return f"; {', '.join(words)}" if words else ""
