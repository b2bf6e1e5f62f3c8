"""The verbs of the command line for scripts and notebooks, each on the default home."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from towline.api import Towline
from towline.core.run import RunRecord, Wish
from towline.core.task import TaskSpec


class Run:
    """A run as the library hands it out; shows itself in a notebook."""

    def __init__(self, status: dict[str, Any], results_dir: str) -> None:
        self._status = status
        self.results_dir = Path(results_dir)

    def __getattr__(self, name: str) -> Any:
        """The fields of `status --json` as attributes."""
        try:
            return self._status[name]
        except KeyError:
            raise AttributeError(name) from None

    def __repr__(self) -> str:
        """One line."""
        return f"<Run {self.name} {self.id}: {self.state}, {self.step}>"

    def _repr_html_(self) -> str:
        """A small table for notebooks."""
        from html import escape  # noqa: PLC0415

        shown = {
            "run": f"{self.name} ({self.id})",
            "state": self.state,
            "step": self.step,
            "model": self.model["path"],
            "metrics": ", ".join(f"{k}={v}" for k, v in self.progress["metrics"].items()),
            "spent": f"${self.cost['spent_usd']:.2f}",
            "error": self.error["message"],
        }
        rows = "".join(
            f"<tr><th>{key}</th><td>{escape(str(value))}</td></tr>"
            for key, value in shown.items()
            if value
        )
        return f"<table>{rows}</table>"

    def as_json(self) -> dict[str, Any]:
        """The object of `status --json`."""
        return self._status


@asynccontextmanager
async def _opened() -> AsyncIterator[Towline]:
    towline = Towline()
    try:
        yield towline
    finally:
        towline.close()


def _shown(towline: Towline, run: RunRecord) -> Run:
    return Run(towline.status(run), run.results_dir)


async def train(task: TaskSpec, *, base: Path | str = ".") -> Run:
    """Run a task to its end: the main job.

    Args:
        task: What to do; relative paths start from ``base``.
        base: A local folder.

    Returns:
        The run; look at its ``state``, ``model`` and ``error``.

    Raises:
        SpecError: Something is wrong with the task; nothing was rented.
        TowlineError: The run stays active and can be resumed, or an instance may still bill.
    """
    async with _opened() as towline:
        run = towline.start(task, Path(base))
        return _shown(towline, await towline.drive(run.id))


def train_sync(task: TaskSpec, *, base: Path | str = ".") -> Run:
    """`train` for scripts and notebooks; a notebook's own loop is left alone."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(train(task, base=base))
    from concurrent.futures import ThreadPoolExecutor  # noqa: PLC0415

    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(train(task, base=base))).result()


async def plan(
    task: TaskSpec, *, base: Path | str = ".", uplink_mbit: float | None = None
) -> dict[str, Any]:
    """Say what a run of a task would send, take and cost: the object of `plan --json`.

    Args:
        task: What to do; relative paths start from ``base``.
        base: A local folder.
        uplink_mbit: Your uplink in Mbit/s; without it, it is measured to ``resources.host``.

    Raises:
        SpecError: Something is wrong with the task.
        RemoteError: The uplink can't be measured.
    """
    async with _opened() as towline:
        rate = None if uplink_mbit is None else uplink_mbit * 1e6 / 8
        return await towline.plan(task, Path(base), rate)


async def resume(run: str | None = None) -> Run:
    """Take up a run whose driver died."""
    async with _opened() as towline:
        return _shown(towline, await towline.drive(towline.store.find(run).id))


async def stop(run: str | None = None) -> Run:
    """End the training, gather, release."""
    return await _end(run, Wish.STOP)


async def abort(run: str | None = None) -> Run:
    """Release now and discard."""
    return await _end(run, Wish.ABORT)


async def _end(name: str | None, wish: Wish) -> Run:
    async with _opened() as towline:
        run = towline.store.find(name)
        driven = towline.wish(run.id, wish)
        ended = await (towline.wait(run.id) if driven else towline.drive(run.id))
        return _shown(towline, ended)


async def wait(run: str | None = None) -> Run:
    """Wait until a run is over."""
    async with _opened() as towline:
        return _shown(towline, await towline.wait(towline.store.find(run).id))


async def status(run: str | None = None) -> Run:
    """A run as it is now."""
    async with _opened() as towline:
        return _shown(towline, towline.store.find(run))


async def ls() -> list[Run]:
    """All runs, the newest first."""
    async with _opened() as towline:
        return [_shown(towline, run) for run in towline.store.runs()]


async def logs(run: str | None = None) -> str:
    """What the training printed so far, redacted."""
    async with _opened() as towline:
        path = towline.files(towline.store.find(run)).log
        return path.read_text("utf-8", errors="replace") if path.exists() else ""


async def events(run: str | None = None) -> list[dict[str, Any]]:
    """A run's stored events."""
    async with _opened() as towline:
        found = towline.store.events(towline.store.find(run).id)
        return [{"at": event.at, "type": event.kind, **event.data} for event in found]


async def gc(*, dry_run: bool = False) -> dict[str, Any]:
    """Sweep for instances that no run claims."""
    async with _opened() as towline:
        return await towline.gc(dry_run=dry_run)
