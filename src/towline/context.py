"""What a step has in hand: its run, the ports, and the line to the instance."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from towline import arming, errors
from towline.bundle import onboard_pyz
from towline.core.instance import Address, InstanceStatus, tag_for
from towline.core.run import Attempt, Outcome, RunRecord, StepName
from towline.core.task import Limits, TaskSpec
from towline.core.units import seconds_text
from towline.ending import age_s, is_absent, prove_gone
from towline.line import Line
from towline.ownership import require_renter
from towline.ports import Clock, Dialer, Provider
from towline.project import Project
from towline.store.memo import JournalMemo
from towline.transfer.meter import TransferProgress

if TYPE_CHECKING:
    from towline.core.redact import Redactor
    from towline.home import RunFiles
    from towline.store.journal import Journal, LedgerRow

#: live figures (bytes moved, status sentences) reach the journal at most so often
_LIVE_EVERY_S = 0.25
_ALIVE_EVERY_S = 3.0
#: of the facts that hold providers' memos; the provider's name follows
MEMO = "memo:"


@dataclass(slots=True, kw_only=True)
class Context:
    """One run in the hands of its driver."""

    run: RunRecord
    task: TaskSpec
    base: Path  # the folder that the task's relative paths start from
    provider_of: Callable[[str], Provider]
    dialer: Dialer
    clock: Clock
    journal: Journal
    files: RunFiles
    redactor: Redactor
    secrets: dict[str, str]
    new_key_pair: Callable[[str], tuple[str, str]]
    age: arming.Age = field(init=False)
    _line: Line | None = None
    _boarded: bool = False
    _asked_at: float = 0.0
    _providers: dict[str, Provider] = field(default_factory=dict)
    _live_at: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Know nothing of the instance's age yet."""
        self.age = arming.Age(self.clock)

    def project(self) -> Project:
        """The task's local side."""
        return Project(self.task, self.base, self.run.results_dir, home=self.files.home)

    # -- who rents --------------------------------------------------------------------------------

    @property
    def provider(self) -> Provider:
        """The provider of the instance at hand; before one was rented, the first of the run's."""
        rows = self.journal.store.ledger(self.run.id)
        return self.provider_named(rows[-1].provider if rows else self.run.providers[0])

    def provider_named(self, name: str) -> Provider:
        """One of the run's providers; the same object each time."""
        if name not in self._providers:
            self._providers[name] = self.provider_of(name)
        return self._providers[name]

    async def provider_of_row(self, row: LedgerRow) -> Provider:
        """The provider of a ledger's row, as the account that rented it.

        Raises:
            OtherAccount: The account at hand is another.
            ReleaseUnconfirmed: The provider can't be asked at all: its key or a setting is missing.
        """
        try:
            provider = self.provider_named(row.provider)
        except (errors.CredentialsError, errors.SpecError) as error:
            what = row.instance_id or f"the instance with tag {row.tag}"
            message = f"{what} at {row.provider} may still bill, and can't be ended from here"
            raise errors.ReleaseUnconfirmed(
                f"{message}: {error.message}", hint=error.hint
            ) from error
        renewed = await require_renter(provider, row)
        if renewed is not None and row.renter is not None:
            self.journal.renter(row.renter, renewed)
        return provider

    def tag(self) -> str:
        """The name that everything of the run carries at its providers."""
        return tag_for(self.run.id)

    def memo(self, provider: str) -> JournalMemo:
        """What a provider must not forget of this run."""
        return JournalMemo(self.journal, f"{MEMO}{provider}")

    # -- what earlier steps found ---------------------------------------------------------------

    def attempts(self) -> list[Attempt]:
        """All attempts so far."""
        return self.journal.store.attempts(self.run.id)

    def result(self, step: StepName) -> dict[str, Any]:
        """What a step recorded when it was done; {} when it is not."""
        done = [a for a in self.attempts() if a.step is step and a.outcome is Outcome.DONE]
        return done[-1].result if done else {}

    def facts(self) -> dict[str, Any]:
        """The run's facts."""
        return self.journal.store.facts(self.run.id)

    def ledger_row(self) -> LedgerRow | None:
        """The instance that is rented now, None without one."""
        rows = [row for row in self.journal.store.ledger(self.run.id) if row.gone_at is None]
        return rows[-1] if rows else None

    # -- what the user sees ---------------------------------------------------------------------

    def note(self, text: str, **data: Any) -> None:
        """Tell the user something that stays on record."""
        self.journal.event("note", text=text, **data)

    def status(self, text: str) -> None:
        """Tell the user what is happening this moment."""
        self._live("status", {"text": text, "at": self.clock.now()})

    def moved(self, progress: TransferProgress) -> None:
        """Show how far a transfer is."""
        if progress.note:
            self.note(progress.note)
        final = progress.bytes >= progress.total_bytes
        self._live("transfer", progress.data() | {"at": self.clock.now()}, now=final)

    def _live(self, key: str, value: dict[str, Any], *, now: bool = False) -> None:
        moment = self.clock.monotonic()
        if now or moment - self._live_at.get(key, 0.0) >= _LIVE_EVERY_S:
            self._live_at[key] = moment
            self.journal.fact(key, value)

    # -- the line -------------------------------------------------------------------------------

    def open_line(self, address: Address) -> Line:
        """The line to the instance at this address; one and the same over all steps."""
        if self._line is None or self._line.address != address:
            key = self.files.read_key()
            self._line = Line(self.dialer, address, key, self.run.id, self.run.epoch, self.clock)
            self._line.on_break = self._on_break
            self._line.require_alive = self.require_alive
            self._boarded = False
        return self._line

    def address(self) -> Address:
        """Where the instance is, with the host key that it must show once that is known."""
        address = Address(**self.result(StepName.ACQUIRE)["address"])
        pinned = self.facts().get("host_key")
        return replace(address, host_key=pinned) if address.host_key is None and pinned else address

    async def board(self, line: Line) -> dict[str, Any]:
        """Put our program on the instance; what the inspection found."""
        found = await line.board(onboard_pyz())
        self._boarded = True
        return found

    async def line(self) -> Line:
        """The line, usable at once: a driver that took over boards the instance first, and arms."""
        row = self.ledger_row()
        if row is None:
            raise errors.InvalidTransition("no instance to talk to")
        line = self.open_line(self.address())
        if not self._boarded:
            await line.persist(lambda: self.board(line))
            await self.arm_again(line)
        return line

    async def arm_again(self, line: Line) -> None:
        """See that the guard lives; the training goes on whether it does or not."""
        try:
            await self.arm(line)
        except (errors.CommandFailed, errors.TransferError) as refused:
            self.note(f"WARNING: the guard there is not armed anew: {refused.message}")

    async def arm(self, line: Line, limits: Limits | None = None) -> str | None:
        """Arm the guard, or give it its orders; how it comes back after a reboot.

        Args:
            line: To the instance.
            limits: Others than the task's.

        Raises:
            RemoteError: As Line.call.
        """
        limits = limits or self.task.limits
        row = self.ledger_row()
        assert row is not None  # noqa: S101 - the line is to it
        features = self.provider_named(row.provider).features
        wall_s = max(0.0, self.clock.now() - row.intent_at)
        told = arming.lived(self.age.seconds(), wall_s, limits, bool(self.result(StepName.CONNECT)))
        armed = await arming.arm(line, limits, features, row.price_usd_per_h, told)
        self.age.note(armed["age_s"])
        how: str | None = armed["reboot"]
        if arming.is_all_ours(features):
            self.journal.fact("guard", {"reboot": how})
        return how

    def is_paid_up(self, since: float = -math.inf) -> bool:
        """Whether `max_cost` is used up, the part included that is kept for the way home.

        A driver that comes late has that part's time all the same: no model is left there unasked.

        Args:
            since: Monotonic time since which this driver is on the way home.
        """
        limits, age_s = self.task.limits, self.age.seconds()
        if limits.max_cost is None or age_s is None:
            return False  # before the journal is read: this is asked three times a second
        row = self.ledger_row()
        end_s = None if row is None else limits.paid_up_s(row.price_usd_per_h)
        if row is None or end_s is None or age_s < end_s:
            return False
        return self.clock.monotonic() - since >= limits.kept_back_s(row.price_usd_per_h)

    async def require_alive(self) -> None:
        """Ask the provider, every few seconds at most, whether the instance still lives.

        Raises:
            InstanceLost: It says that it does not. Silence of its API says nothing, nor does
                absence while lists may be late, or the word of another account.
        """
        row = self.ledger_row()
        now = self.clock.monotonic()
        if row is None or row.instance_id is None or now - self._asked_at < _ALIVE_EVERY_S:
            return
        self._asked_at = now
        try:
            provider = await self.provider_of_row(row)
            instance = await provider.get(row.instance_id)
            if instance is None and not await self._is_lost(provider, row):
                return
        except errors.TowlineError:
            return  # a refusal, a missing key, another account: no word on the instance
        if instance is None or instance.status in (InstanceStatus.DEAD, InstanceStatus.TERMINATING):
            detail = (instance.detail or str(instance.status)) if instance else "it is gone"
            up = arming.time_is_up(self.task.limits, row, self.clock.now())
            message = f"instance {row.instance_id} is lost{up}; {provider.name} says: {detail}"
            raise errors.InstanceLost(message, hint=self._kept())

    async def _is_lost(self, provider: Provider, row: LedgerRow) -> bool:
        """Whether an instance that a read did not show is gone: one stale answer is no death."""
        if age_s(row, self.clock) < provider.features.settle_s or row.instance_id is None:
            return False
        return await is_absent(provider, row.instance_id)

    def _kept(self) -> str:
        """What a lost instance leaves, and what to do with it."""
        newest = self.facts().get("checkpoint")
        if newest is None:
            return "what had come home is kept; start the run again"
        epoch = "" if newest["epoch"] is None else f", of epoch {newest['epoch']}"
        age = seconds_text(max(0.0, self.clock.now() - newest["at"]))
        return (
            f"the last checkpoint is home: {newest['path']} ({age} old{epoch});"
            " start the run again, from it if your script can"
        )

    async def hang_up(self) -> None:
        """Leave the line; the run may go on without us."""
        if self._line is not None:
            await self._line.hang_up()

    def _on_break(self, broken: bool, why: str) -> None:  # noqa: FBT001 - a callback's one fact
        facts = self.facts()
        was = facts.get("unreachable_since")
        if broken and was is None:
            self.journal.advance(
                {"unreachable_since": self.clock.now()}, [("line_broken", {"text": why})]
            )
        elif not broken and was is not None:
            silent_s = self.clock.now() - was
            self.journal.advance(
                {"unreachable_since": None}, [("line_back", {"silent_s": silent_s})]
            )


async def end_instance(ctx: Context, row: LedgerRow) -> str:
    """Terminate an instance and wait for the provider's proof; records and returns it.

    Raises:
        ReleaseUnconfirmed: Not proven gone; it may still bill.
    """
    proof = await prove_gone(await ctx.provider_of_row(row), row, ctx.clock)
    ctx.journal.gone(row.number, proof)
    return proof
