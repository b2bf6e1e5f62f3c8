"""Where steps, adapters and settings are joined.

`Towline` is one opened home; the command line and `towline.library` are thin layers over it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

from towline import errors, planning, receipt, recover, runner, starting, visit
from towline.accounts import Accounts
from towline.clock import RealClock
from towline.context import Context
from towline.core.instance import RunId
from towline.core.offers import Outlook
from towline.core.redact import Redactor
from towline.core.run import RunRecord, RunState, StepName, Wish, done_steps
from towline.core.task import TaskSpec
from towline.home import Home, RunFiles, load_config
from towline.line import Line
from towline.market import Market
from towline.ports import Provider
from towline.starting import Checked, provider_names, secrets_of, stored_task
from towline.store.journal import Event, Journal, Store

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
        self.accounts = Accounts(self.home.path, self.config, self.redactor, self.clock, self.store)

    def close(self) -> None:
        """Close the journal."""
        self.store.close()

    # -- starting -------------------------------------------------------------------------------

    def provider_names(self, task: TaskSpec) -> list[str]:
        """The providers that a task may rent from; see `starting.provider_names`."""
        return provider_names(task, self.accounts.names)

    async def quote(self, task: TaskSpec, outlook: Outlook | None = None) -> Market:
        """Offers for the task, the best first; see `Accounts.quote`."""
        return await self.accounts.quote(self.provider_names(task), task.resources, outlook)

    def start(self, task: TaskSpec, base: Path, results_root: Path | None = None) -> RunRecord:
        """Check everything that can be checked before money is spent, then store a new run.

        Args:
            task: What to do.
            base: The folder that the task's relative paths start from.
            results_root: Where the run's results folder is made; default `./runs`.

        Raises:
            SpecError: Names what, where, why, and what to do.
        """
        return self.create(task, base, self.check(task, base, results_root), results_root)

    def check(self, task: TaskSpec, base: Path, results_root: Path | None = None) -> Checked:
        """The first half of `start`: find what is wrong; nothing is stored.

        Raises:
            SpecError: Names what, where, why, and what to do.
        """
        names = self.provider_names(task)
        providers, wrong = self.accounts.providers(names)
        if not providers:
            raise wrong[names[0]]
        for name, provider in providers.items():  # acquire notes the others
            if provider.features.containers is False and task.image:
                message = f"image: instances of provider {name} have neither docker nor podman"
                hint = "install one there, or take `image` out of the task"
                raise errors.SpecError(message, hint=hint)
        checked = starting.check(task, base, results_root, self.redactor, self.home.path)
        return replace(checked, providers=tuple(names))

    async def plan(
        self, task: TaskSpec, base: Path, uplink_bytes_per_s: float | None = None
    ) -> dict[str, Any]:
        """What a run of the task would do and cost: the object of `plan --json`; nothing is stored.

        Raises:
            TowlineError: As `check` and `quote`; RemoteError when the uplink can't be measured.
        """
        from towline.ssh.client import SshDialer  # noqa: PLC0415 - 0.3 s

        checked = self.check(task, base)
        market = await self.quote(task, Outlook(upload_bytes=checked.size_bytes))
        offers = market.offers
        address = offers[0].address
        way = await planning.uplink(uplink_bytes_per_s, address, SshDialer(), self.clock)
        features = self.provider(offers[0].provider).features
        found = await planning.plan(task, checked.scans, offers, features, way)
        return {
            **found,
            **market.gaps(),
            "dataset": checked.dataset.data() if checked.dataset else None,
        }

    def create(
        self, task: TaskSpec, base: Path, checked: Checked, results_root: Path | None = None
    ) -> RunRecord:
        """The second half of `start`: make the results folder and store a run of a checked task.

        Raises:
            SpecError: The results folder can't be made.
        """
        return starting.create(task, base, results_root, checked, self.store, self.clock.now())

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

    def _context(self, run: RunRecord, journal: Journal) -> Context:
        from towline.ssh.client import SshDialer, new_key_pair  # noqa: PLC0415 - 0.3 s

        attempts = self.store.attempts(run.id)
        task, done = stored_task(run, attempts, journal), done_steps(attempts)
        needs_secrets = run.wish is not Wish.ABORT and StepName.FOLLOW not in done
        return Context(
            run=run,
            task=task,
            base=Path(run.task["base"]),
            provider_of=self.provider,
            dialer=SshDialer(),
            clock=self.clock,
            journal=journal,
            files=self.home.run_files(run.id),
            redactor=self.redactor,
            secrets=secrets_of(task, self.redactor) if needs_secrets else {},
            new_key_pair=new_key_pair,
        )

    def provider(self, name: str) -> Provider:
        """The provider of this name; see `Accounts.provider`."""
        return self.accounts.provider(name)

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

    async def retry_releases(self) -> list[tuple[RunRecord, errors.TowlineError]]:
        """Take up every run of which only the proof of its end is missing; those still open."""
        still_open = []
        for run in recover.unreleased(self.store, self.clock):
            try:
                await self.drive(run.id)
            except errors.LeaseHeld:
                continue  # another process sees to it
            except errors.TowlineError as error:
                still_open.append((self.store.run(run.id), error))
        return still_open

    async def gc(self, *, dry_run: bool) -> dict[str, Any]:
        """Sweep every account in use for what carries our tag and no active run claims."""
        unproven = [] if dry_run else await self.retry_releases()
        found = await self.accounts.sweep(dry_run=dry_run)
        found["failed"] += [
            row | {"error": error.message, "hint": error.hint}
            for run, error in unproven
            if not isinstance(error, errors.OtherAccount)  # the sweep tells it by account
            for row in recover.unproven(self.store, run)
        ]
        return found

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
            if self.store.run(run_id).state is not RunState.ACTIVE:
                return True
            if self.clock.monotonic() - seen < HANDOVER_S:
                return False
            if self.store.is_held_up():  # the driver waits, like us
                seen = self.clock.monotonic()
                return False
            return True

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

    def visit(self, run: RunRecord) -> AbstractAsyncContextManager[Line]:
        """A line to a run's live instance, for looking only; see `visit.line_to`."""
        from towline.ssh.client import SshDialer  # noqa: PLC0415

        return visit.line_to(run, self.store, self.files(run), SshDialer(), self.clock)

    def ssh_argv(self, run: RunRecord) -> list[str]:
        """The OpenSSH command that opens a shell on the run's instance."""
        return visit.ssh_argv(run, self.store, self.files(run))
