"""The whole exception tree.

    TowlineError                        exit 1 only if a leaf forgot its own code
    + SpecError                         exit 2   task file, arguments, settings: the user fixes them
    + CredentialsError                  exit 2
    + ProviderError                     exit 4   nothing rented
    |   + ProviderAuthError
    |   + QuotaExceeded
    |   + PaymentNeeded
    |   + NoCapacity                    the next offer is tried
    |   + NotFound                      the provider knows no such thing
    |   + RateLimited                   retryable: nothing was done, ask again later
    |   + ProviderUnavailable           retryable: timeouts, 429, 5xx
    |   + ProviderReplyError            the API broke its own contract
    |   + WrongMachine                  another GPU or price than offered
    |   + InstanceLost                  exit 5   it died or was taken away under us
    + RemoteError                       exit 5
    |   + NotReady                      SSH did not answer within its limit
    |   + ConnectionLost                retryable and resumable: the line is taken up again
    |   + RemoteAuthError               never retried
    |   |   + IdentityUnusable          exit 2   the user's key file can't be read
    |   + HostKeyUnknown, HostKeyMismatch   never retried
    |   + CommandFailed                 a command of ours failed on the instance
    |   |   + NotStarted                the instance says that no training runs
    |   + Fenced                        exit 11  a newer driver owns the instance
    + TransferError                     exit 5
    |   + SourceChanged, RemoteDiskFull, RemoteUnreadable, ChecksumMismatch, LocalWriteError
    |   + RemoteDiskFilled              resumable: there was room when it began
    + EquipFailed                       exit 3   requirements do not install
    + TrainingFailed                    exit 3
    + LimitReached                      exit 3   `max_cost` is used up, the way home included
    + ArtifactMissing                   exit 3
    + LocalReadError                    exit 5   resumable: a file of this machine can't be read now
    + DriverNotStarted                  exit 5   no background driver; the run can be resumed
    + StoreError
    |   + JournalBusy                   exit 5   resumable: another program holds the journal
    |   + JournalUnusable               exit 5   resumable: its disk is full, fails or is read-only
    |   + JournalDamaged
    |   + RunNotFound                   exit 2
    |   + RunEnded                      exit 2
    |   + SchemaTooNew                  exit 2
    |   + LeaseHeld, LeaseLost          exit 11  another process drives the run
    + DriverBug                         exit 1   a provider's driver broke; the others are asked
    + RunHeld                           exit 5   trouble that is no end: the run can be taken up
    + ReleaseUnconfirmed (OtherAccount) exit 6   an instance may still bill (another rented it)
    InvalidTransition(RuntimeError)     exit 1   our bug: shown with a traceback

Every error says what happened; ``hint`` says what to do next.
"""

from __future__ import annotations


class TowlineError(Exception):
    """A failure the user can understand and act on."""

    exit_code = 1
    #: the same call may succeed a moment later
    retryable = False
    #: the run stays active and the instance stays up, so that `towline resume` can go on
    resumable = False
    #: what to do next, where the raiser knows nothing better
    usual_hint: str | None = None

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint or self.usual_hint

    @property
    def kind(self) -> str:
        """The stable name that `--json` shows as error.kind."""
        return type(self).__name__


class SpecError(TowlineError):
    """The task file, an argument or a setting is wrong."""

    exit_code = 2


class CredentialsError(TowlineError):
    """A key is missing or refused before anything was rented."""

    exit_code = 2


class ProviderError(TowlineError):
    """The provider refused."""

    usual_hint = "nothing is rented; try again later, or another offer"
    exit_code = 4


class ProviderAuthError(ProviderError):
    """The provider does not accept the key."""

    usual_hint = "check the provider's API key"


class QuotaExceeded(ProviderError):
    """The account may not rent more."""

    usual_hint = "end what else runs on the account, or ask the provider for a higher quota"


class PaymentNeeded(ProviderError):
    """The account has no payment method, or no money left."""

    usual_hint = "add a payment method or credit in the provider's console; nothing is rented"


class NotFound(ProviderError):
    """The provider knows no such thing."""


class RateLimited(ProviderError):
    """Too many questions: nothing was done. ``retry_after_s`` is the provider's wish, if any."""

    usual_hint = "the account asks too often; try again in a minute"
    retryable = True

    def __init__(
        self, message: str, *, hint: str | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.retry_after_s = retry_after_s


class DriverBug(TowlineError):
    """A provider's driver raised what it may not."""

    usual_hint = "please report it; the other accounts are not affected"


class WrongMachine(ProviderError):
    """The instance is not what was offered."""

    usual_hint = "it was ended before anything was uploaded; try again, or another offer"


class NoCapacity(ProviderError):
    """The provider has none of these left."""


class ProviderUnavailable(ProviderError):
    """The provider's API does not answer, or answers with a passing failure."""

    usual_hint = "the provider's API may be down; try again in a few minutes"
    retryable = True


class ProviderReplyError(ProviderError):
    """The provider's API answered something it does not document."""


class InstanceLost(ProviderError):
    """The instance died or was taken away."""

    usual_hint = "what had come home is kept; start the run again"
    exit_code = 5


class RemoteError(TowlineError):
    """Something on the instance, or on the way to it, failed."""

    exit_code = 5


class NotReady(RemoteError):
    """SSH did not become ready within its limit."""


class ConnectionLost(RemoteError):
    """The connection to the instance broke; what runs there goes on."""

    retryable = True
    usual_hint = "`towline resume` takes the run up where it was"
    resumable = True


class RemoteAuthError(RemoteError):
    """The instance refused our key."""


class IdentityUnusable(RemoteAuthError):
    """The user's own key file can't be read here; the instance was not asked."""

    exit_code = 2


class HostKeyUnknown(RemoteError):
    """No key is known for this host, so it can't be told from a stranger's."""


class HostKeyMismatch(RemoteError):
    """The host answers with another key than the one expected."""


class CommandFailed(RemoteError):
    """One of towline's own commands failed on the instance."""

    usual_hint = "try again; if it stays so, `towline doctor` and the run's events say more"


class NotStarted(CommandFailed):
    """The training could not be started: the instance itself says that none runs."""


class Fenced(RemoteError):
    """The instance has seen a newer driver of this run and refuses us."""

    exit_code = 11


class TransferError(TowlineError):
    """Data could not be moved whole."""

    exit_code = 5


class SourceChanged(TransferError):
    """A local file changed while it was being sent."""


class RemoteDiskFull(TransferError):
    """The instance has no room for it."""

    usual_hint = "ask for a larger disk (`resources: {disk_gb: ...}`), or use .towlineignore"


class RemoteDiskFilled(RemoteDiskFull):
    """The instance had room when the upload began, and has none left; what has arrived is kept."""

    usual_hint = "make room there (`towline ssh`), then `towline resume` sends the rest"
    resumable = True


class ChecksumMismatch(TransferError):
    """What arrived is not what was sent."""

    usual_hint = "`towline resume` sends it again; if it stays so, suspect disk or memory there"


class LocalWriteError(TransferError):
    """A file can't be written on this machine; what it would hold waits on the instance."""

    usual_hint = "make room there, and check that it can be written; then `towline resume`"
    resumable = True


class RemoteUnreadable(TransferError):
    """What can't be read on the instance may hold the model: nothing is ended."""

    usual_hint = "nothing is ended: `towline ssh` to make it readable, then `towline resume`"
    resumable = True


class EquipFailed(TowlineError):
    """The training's environment could not be prepared."""

    exit_code = 3


class TrainingFailed(TowlineError):
    """The user's command ended with a failure."""

    exit_code = 3


class LimitReached(TowlineError):
    """The user's `max_cost` is used up, whatever is under way."""

    exit_code = 3
    usual_hint = "what was home by then is kept; raise the limits in the task file and run it again"


class ArtifactMissing(TowlineError):
    """The training ended but left no model."""

    exit_code = 3


class LocalReadError(TowlineError):
    """A file that the run needs can't be read on this machine now."""

    exit_code = 5
    usual_hint = "put it back, or make it readable; then `towline resume`"
    resumable = True


class DriverNotStarted(TowlineError):
    """No background driver could be started; the run is active without one."""

    exit_code = 5


class StoreError(TowlineError):
    """The journal can't be used."""


class JournalBusy(StoreError):
    """Another program has held the journal's file for minutes."""

    usual_hint = (
        "close what has it open (a database browser, a backup); then `towline resume` goes on"
        " with an active run"
    )
    exit_code = 5
    resumable = True


class JournalUnusable(StoreError):
    """The journal's file can't be read or written now: a full or failing disk, or its mode."""

    usual_hint = (
        "free some disk space, and check that TOWLINE_HOME can be written; then `towline resume`"
        " goes on with an active run"
    )
    exit_code = 5
    resumable = True


class JournalDamaged(StoreError):
    """The journal's file is no whole journal."""

    usual_hint = (
        "put a backup of it back, or set TOWLINE_HOME elsewhere; look into the providers'"
        " consoles: instances whose names begin with `towline-` may still bill"
    )


class RunNotFound(StoreError):
    """No run has this name or id."""

    exit_code = 2


class RunEnded(StoreError):
    """The run has ended; there is nothing to take up."""

    exit_code = 2


class SchemaTooNew(StoreError):
    """The journal was written by a newer towline."""

    exit_code = 2


class LeaseHeld(StoreError):
    """Another process drives the run."""

    exit_code = 11


class LeaseLost(StoreError):
    """Another process took the run over; our result is dropped."""

    exit_code = 11


class RunHeld(TowlineError):
    """Something failed once a training may run, and it was no word of its end: nothing is ended."""

    exit_code = 5
    resumable = True


class ReleaseUnconfirmed(TowlineError):
    """An instance may still bill."""

    exit_code = 6
    resumable = True


class OtherAccount(ReleaseUnconfirmed):
    """Another account rented than the one at hand, which can say nothing of the instance."""


class InvalidTransition(RuntimeError):
    """A run was moved in a way the rules forbid: a bug of towline's."""
