"""The library: where steps, adapters and settings are joined, and the verbs that people use.

`Towline` is one opened home; the command line is a thin layer over it. The module-level verbs
open the default home for a single call.
"""

from __future__ import annotations

import asyncio
import os
import re
import secrets as random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline import errors, receipt, recover, runner, taskfile
from towline.clock import RealClock
from towline.context import Context, address_from
from towline.core.instance import Offer, RunId, rank, run_id_from
from towline.core.redact import Redactor
from towline.core.run import Outcome, RunRecord, RunState, StepName, Wish, done_steps
from towline.core.task import TaskSpec
from towline.home import Home, RunFiles, load_config
from towline.line import Line
from towline.ports import Provider
from towline.project import Project
from towline.store.journal import Event, Store

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,40}")
_POLL_S = 0.1
#: between two drivers of a run, the one that detaches and the one that takes over, nobody drives
HANDOVER_S = 3.0


class Towline:
    """One opened TOWLINE_HOME: the journal, the settings, and the verbs on runs."""

    def __init__(self, home: Home | None = None, config: Mapping[str, Any] | None = None) -> None:
        """Open a home, the default one unless told otherwise.

        Raises:
            SpecError: Home or settings can't be used.
            StoreError: The journal can't be opened.
        """
        self.home = home or Home.default()
        self.home.prepare()
        self.config = load_config() if config is None else config
        self.redactor = Redactor()
        self.clock = RealClock()
        self.store = Store(self.home.database, self.redactor, self.clock)

    def close(self) -> None:
        """Close the journal."""
        self.store.close()

    # -- starting -------------------------------------------------------------------------------

    async def quote(self, task: TaskSpec) -> list[Offer]:
        """Offers for the task, the one that would be rented first.

        Raises:
            NoCapacity: None fits.
        """
        provider = self.provider(provider_name(task))
        offers = rank(await provider.offers(task.resources), task.resources.max_price_per_hour)
        if not offers:
            raise errors.NoCapacity(
                f"{provider.name} has no offer that fits the task",
                hint="raise max_price_per_hour, or ask for another GPU or region",
            )
        return offers

    def start(self, task: TaskSpec, base: Path, results_root: Path | None = None) -> RunRecord:
        """Check everything that can be checked before money is spent, then store a new run.

        Args:
            task: What to do.
            base: The folder that the task's relative paths start from.
            results_root: Where the run's results folder is made; default `./runs`.

        Raises:
            SpecError: Names what, where, why, and what to do.
        """
        self.check(task, base, results_root)
        return self.create(task, base, results_root)

    def check(self, task: TaskSpec, base: Path, results_root: Path | None = None) -> None:
        """The first half of `start`: find what is wrong; nothing is stored.

        Raises:
            SpecError: Names what, where, why, and what to do.
        """
        project = Project(task, base, str(_root(results_root) / "any"))
        project.check()
        self._check_secrets(task)
        _check_sources(project)
        self.provider(provider_name(task))
        run_name(task, base)

    def create(self, task: TaskSpec, base: Path, results_root: Path | None = None) -> RunRecord:
        """The second half of `start`: make the results folder and store a run of a checked task.

        Raises:
            SpecError: The results folder can't be made.
        """
        name = run_name(task, base)
        task = replace(task, name=name)
        run = RunRecord(
            id=run_id_from(random.token_bytes(8)),
            name=name,
            state=RunState.ACTIVE,
            task={"spec": taskfile.as_data(task), "base": str(base.absolute())},
            provider=provider_name(task),
            results_dir="",
            created_at=self.clock.now(),
            nonce=random.token_hex(16),
        )
        root = _root(results_root)
        return self.store.create_run(run, lambda free: _claim_folder(root, free))

    def _check_secrets(self, task: TaskSpec) -> None:
        """Every named secret is there, and none stands in the task itself."""
        self._secrets(task)
        data = taskfile.as_data(task)
        for key, value in data.items():
            if self.redactor.value({key: value}) != {key: value}:
                message = f"`{key}` in the task seems to hold a secret"
                hint = (
                    "put it into an environment variable of this shell and name that variable:"
                    " `secrets: [NAME]`; the training sees it under the same name"
                )
                raise errors.SpecError(message, hint=hint)

    def _secrets(self, task: TaskSpec) -> dict[str, str]:
        """Values of the task's secrets, known to the redactor before anything else sees them."""
        values = {}
        for name in task.secrets:
            value = os.environ.get(name)
            if not value:
                message = f"the task names the secret {name}, which is not set in this shell"
                raise errors.SpecError(message, hint=f"export {name}=... and try again")
            try:
                self.redactor.add(value)
            except ValueError as error:
                message = f"the secret {name} can't be kept out of the log: {error}"
                raise errors.SpecError(message, hint="use a longer one") from error
            values[name] = value
        return values

    # -- driving --------------------------------------------------------------------------------

    async def drive(self, run_id: RunId) -> RunRecord:
        """Become the driver of a run and take it to its end.

        Raises:
            LeaseHeld: Another process drives it.
            RunEnded: It is over.
            TowlineError: With `resumable`: the run stays active, see `runner.drive`.
        """
        run = self.store.run(run_id)
        if run.state is not RunState.ACTIVE:
            message = f"run {run.name} has ended ({run.state})"
            raise errors.RunEnded(message, hint=f"`towline status {run.name}` shows how")
        journal = self.store.take_lease(run_id)
        try:
            ctx = self._context(journal.run(), journal)
        except BaseException:
            journal.release_lease()
            raise
        return await runner.drive(ctx)

    def _context(self, run: RunRecord, journal: Any) -> Context:
        from towline.ssh.client import SshDialer, new_key_pair  # noqa: PLC0415 - 0.3 s

        task = taskfile.validate(run.task["spec"], where=f"the stored task of run {run.name}")
        done = done_steps(self.store.attempts(run.id))
        needs_secrets = run.wish is not Wish.ABORT and StepName.FOLLOW not in done
        return Context(
            run=run,
            task=task,
            base=Path(run.task["base"]),
            provider=self.provider(run.provider),
            dialer=SshDialer(),
            clock=self.clock,
            journal=journal,
            files=self.home.run_files(run.id),
            redactor=self.redactor,
            secrets=self._secrets(task) if needs_secrets else {},
            new_key_pair=new_key_pair,
        )

    def provider(self, name: str) -> Provider:
        """The provider of this name with its settings.

        Raises:
            SpecError: There is none, or its settings are wrong.
        """
        from towline.providers import make  # noqa: PLC0415
        from towline.ssh.client import SshDialer  # noqa: PLC0415

        settings = (self.config.get("providers") or {}).get(name) or {}
        return make(
            name, home=self.home.path, settings=settings, dialer=SshDialer(), clock=self.clock
        )

    # -- ending ---------------------------------------------------------------------------------

    def wish(self, run_id: RunId, wish: Wish) -> bool:
        """Ask for a run's end; says whether a live driver will see to it.

        Raises:
            RunEnded: It is over already.
        """
        run = self.store.run(run_id)
        if run.state is not RunState.ACTIVE:
            message = f"run {run.name} has ended already ({run.state})"
            raise errors.RunEnded(message, hint="nothing of it is rented any more")
        self.store.set_wish(run_id, wish)
        return self.store.driver(run_id) is not None

    async def retry_releases(self) -> list[RunRecord]:
        """Take up every run of which only the proof of its end is missing; those still open."""
        still_open = []
        for run in recover.unreleased(self.store):
            try:
                await self.drive(run.id)
            except errors.TowlineError:
                still_open.append(self.store.run(run.id))
        return still_open

    async def gc(self, *, dry_run: bool) -> dict[str, Any]:
        """Sweep every account in use for what carries our tag and no active run claims."""
        if not dry_run:
            await self.retry_releases()
        providers = {name: self.provider(name) for name in self.providers_in_use()}
        return await recover.sweep(self.store, providers, self.clock, dry_run=dry_run)

    def providers_in_use(self) -> list[str]:
        """Names of the providers that are configured or were rented from, and `local`."""
        configured = set(self.config.get("providers") or {})
        used = {row.provider for row in self.store.ledger()}
        return sorted(configured | used | {"local"})

    # -- looking --------------------------------------------------------------------------------

    def status(self, run: RunRecord) -> dict[str, Any]:
        """The object of `status --json`."""
        value: dict[str, Any] = self.redactor.value(
            receipt.status(self.store, run, self.clock.now())
        )
        return value

    def receipt(self, run: RunRecord) -> dict[str, Any]:
        """The object of receipt.json."""
        return receipt.receipt(self.store, run, self.clock.now())

    def files(self, run: RunRecord) -> RunFiles:
        """The run's files in this home."""
        return self.home.run_files(run.id)

    async def watch(self, run_id: RunId, after: int = 0) -> AsyncIterator[Event]:
        """Yield a run's events as they are stored, until it ends or nobody drives it any more."""
        is_over = self.watcher(run_id)
        while True:
            over = is_over()
            for event in self.store.events(run_id, after):
                after = event.seq
                yield event
            if over:
                return
            await self.clock.sleep(_POLL_S)

    def watcher(self, run_id: RunId) -> Callable[[], bool]:
        """Make a question to be asked again and again: has the run ended, or lost its driver?"""
        seen = self.clock.monotonic()

        def is_over() -> bool:
            nonlocal seen
            if self.store.driver(run_id) is not None:
                seen = self.clock.monotonic()
                return False
            ended = self.store.run(run_id).state is not RunState.ACTIVE
            return ended or self.clock.monotonic() - seen >= HANDOVER_S

        return is_over

    async def wait(self, run_id: RunId) -> RunRecord:
        """Wait until a run is over.

        Raises:
            ConnectionLost: Nobody drives it any more; it must be resumed.
        """
        is_over = self.watcher(run_id)
        while not is_over():
            await self.clock.sleep(_POLL_S)
        return self.ended(run_id)

    def ended(self, run_id: RunId) -> RunRecord:
        """The run, which must be over.

        Raises:
            ConnectionLost: It is active and nobody drives it.
        """
        run = self.store.run(run_id)
        if run.state is RunState.ACTIVE:
            message = f"run {run.name} is active but no process drives it"
            raise errors.ConnectionLost(message, hint=f"`towline resume {run.name}` drives it here")
        return run

    # -- the instance ---------------------------------------------------------------------------

    @asynccontextmanager
    async def visit(self, run: RunRecord) -> AsyncIterator[Line]:
        """A line to a run's live instance, for looking only: no lease, nothing is changed there.

        Raises:
            RunEnded: The instance is gone, or SSH was never ready.
        """
        from towline.ssh.client import SshDialer  # noqa: PLC0415

        address, connected = self._reached(run)
        key = self.home.run_files(run.id).private_key
        private_key = key.read_text() if key.exists() else None
        line = Line(SshDialer(), address_from(address), private_key, run.id, 0, self.clock)
        line.python, line.home = connected["python"], connected["home"]
        try:
            yield line
        finally:
            await line.hang_up()

    def ssh_argv(self, run: RunRecord) -> list[str]:
        """The OpenSSH command that opens a shell on the run's instance, host key pinned."""
        address = address_from(self._reached(run)[0])
        files = self.home.run_files(run.id)
        argv = ["ssh", "-p", str(address.port), "-o", "StrictHostKeyChecking=yes"]
        if address.host_key is not None:
            known = files.folder / "known_hosts"
            known.write_text(f"[{address.host}]:{address.port} {address.host_key}\n")
            argv += ["-F", "none", "-o", f"UserKnownHostsFile={known}"]
            argv += ["-i", str(files.private_key), "-o", "IdentitiesOnly=yes"]
        else:
            if address.known_hosts:
                argv += ["-o", f"UserKnownHostsFile={address.known_hosts}"]
            argv += ["-i", address.identity] if address.identity else []
        return [*argv, f"{address.user}@{address.host}"]

    def _reached(self, run: RunRecord) -> tuple[dict[str, Any], dict[str, Any]]:
        done = {
            attempt.step: attempt.result
            for attempt in self.store.attempts(run.id)
            if attempt.outcome is Outcome.DONE
        }
        if StepName.RELEASE in done or StepName.CONNECT not in done:
            gone = StepName.RELEASE in done
            message = f"the instance of run {run.name} is {'gone' if gone else 'not reachable yet'}"
            hint = f"results are in {run.results_dir}" if gone else f"towline status {run.name}"
            raise errors.RunEnded(message, hint=hint)
        return done[StepName.ACQUIRE]["address"], done[StepName.CONNECT]


def provider_name(task: TaskSpec) -> str:
    """The provider a task asks for; `ssh` with a host, else `local`.

    Raises:
        SpecError: Several are named.
    """
    wanted = task.resources.provider
    if isinstance(wanted, list):
        if len(wanted) != 1:
            message = f"resources.provider names {len(wanted)} providers"
            raise errors.SpecError(message, hint="this version takes one provider a run")
        wanted = wanted[0]
    return wanted or ("ssh" if task.resources.host else "local")


def run_name(task: TaskSpec, base: Path) -> str:
    """The run's name: the task's own, else made from the folder's.

    Raises:
        SpecError: The task's name has letters a name can't have.
    """
    if task.name is not None:
        if not _NAME.fullmatch(task.name):
            message = f"name: {task.name!r} is no run name"
            hint = "use a to z, 0 to 9, - and _, 41 characters at most, a letter or digit first"
            raise errors.SpecError(message, hint=hint)
        return task.name
    plain = re.sub(r"[^a-z0-9_-]+", "-", base.absolute().name.lower()).strip("-_")[:41]
    return plain or "run"


def exit_code(run: RunRecord) -> int:
    """The exit code that tells how an ended run went."""
    if run.state is RunState.FAILED:
        code: int = (run.error or {}).get("exit_code", 1)
        return code
    return 0


def _root(results_root: Path | None) -> Path:
    return (results_root or Path("runs")).absolute()


def _claim_folder(root: Path, name: str) -> str | None:
    folder = root / name
    try:
        root.mkdir(parents=True, exist_ok=True)
        folder.mkdir()
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except FileExistsError as error:
        if not root.is_dir():
            raise _unwritable(folder, error) from error
        return None
    except OSError as error:
        raise _unwritable(folder, error) from error
    return str(folder)


def _unwritable(folder: Path, error: OSError) -> errors.SpecError:
    message = f"the results folder {folder} can't be made: {error.strerror}"
    return errors.SpecError(
        message, hint="run towline in a folder you can write; nothing was rented"
    )


def _check_sources(project: Project) -> None:
    """Read the names of what would be sent: missing, empty or unreadable is said now."""
    from towline.transfer.scan import scan  # noqa: PLC0415

    for name, source in project.sources().items():
        scan(source, exclude=project.excluded(name), hash_files=False)


# -- verbs for scripts and notebooks --------------------------------------------------------------


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
