"""The doors between the steps and the world: what an adapter promises, and what its caller owes.

A step sees these protocols only. Adapters map every foreign exception to `towline.errors` at
their own border.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from towline.core.instance import (
    Address,
    Features,
    Instance,
    InstanceId,
    Leftover,
    Offer,
    Order,
)
from towline.core.renter import Renter
from towline.core.task import Resources


class Clock(Protocol):
    """Time, so that no test waits for it."""

    def now(self) -> float:
        """UTC seconds since the epoch."""

    def monotonic(self) -> float:
        """Seconds that never jump back."""

    async def sleep(self, seconds: float) -> None:
        """Wait."""


class Memo(Protocol):
    """What a provider must not forget of one tag; on disk before `write` returns."""

    def read(self) -> dict[str, Any]:
        """What was written last; {} before."""

    def write(self, value: dict[str, Any]) -> None:
        """Keep a JSON object."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look at an account found; ``fix`` is None when all is well."""

    name: str
    message: str
    fix: str | None = None


class Provider(Protocol):
    """A company that rents machines. Every method may be called again after any failure.

    Every method raises, besides what it lists:
        ProviderAuthError: The key is missing or refused.
        RateLimited: Asked too often; nothing was done.
        ProviderUnavailable: No answer, or a passing failure; nothing may be concluded.
        ProviderReplyError: An answer that can't be read; nothing may be concluded.
    """

    name: str
    features: Features

    def renter(self) -> Renter | None:
        """Which account this is, by its settings and key; nothing is asked.

        None where no account rents: the user's own machine.
        """

    async def account_id(self) -> str | None:
        """The provider's own id of the account, which a new key does not change.

        None where it tells none, or not to this key.
        """

    async def offers(self, need: Resources) -> list[Offer]:
        """List what fits the need, at this moment's price; also what is out of stock.

        Raises:
            SpecError: The need can't be read (no such host, malformed address).
        """

    async def create(self, offer: Offer, order: Order) -> Instance:
        """Rent one instance that carries the tag and lets the key in; return at once.

        The caller has committed its intent to the journal before, and on any failure other than a
        definite refusal looks for the tag with `list_tagged` before it calls again.

        Raises:
            NoCapacity: A definite refusal: nothing was rented, try another offer.
            QuotaExceeded, PaymentNeeded: A definite refusal that another offer will not cure.
            RateLimited: A definite refusal for now.
            ProviderError: Any other definite refusal.
            ProviderUnavailable, ProviderReplyError: Unknown outcome: it may have been rented.
        """

    async def get(self, instance_id: InstanceId) -> Instance | None:
        """Read one instance; None means the provider says it is gone and bills no more."""

    async def list_tagged(self) -> list[Instance]:
        """List every instance that carries a towline tag, also of other runs."""

    async def attach_address(self, instance: Instance, memo: Memo) -> None:
        """Give an active instance that has no address one; called until `get` shows an address.

        Args:
            instance: As `get` gave it.
            memo: Where the provider keeps what it made for this tag and can't find by it.
        """

    async def terminate(self, instance_id: InstanceId) -> None:
        """Ask the provider to destroy an instance; an unknown id is no error.

        The caller polls `get` and `list_tagged` until neither knows it: only that is proof.
        """

    async def leftovers(self, memos: Mapping[str, Memo]) -> list[Leftover]:
        """List every key, address, volume and the like that carries a towline tag.

        Args:
            memos: By tag, what `attach_address` kept; of other tags nothing is known.
        """

    async def remove(self, leftover: Leftover) -> None:
        """Remove one of them; what is gone already is no error."""

    async def check(self) -> list[Finding]:
        """Look the account over without renting: key, project, network, payment, stock."""


@dataclass(frozen=True, slots=True)
class Completed:
    """A finished remote command. ``exit_status`` is -1 when a signal ended it."""

    exit_status: int
    stdout: bytes
    stderr: bytes


class Channel(Protocol):
    """A running remote command's stdin and stdout as byte streams. Its stderr is kept for
    messages."""

    async def read(self, n: int) -> bytes:
        """Read 1 to n bytes; b"" at the end.

        Raises:
            ConnectionLost: The connection broke.
        """

    async def write(self, data: bytes) -> None:
        """Write all, waiting while the window is full.

        Raises:
            ConnectionLost: The connection broke or the command ended.
        """

    async def write_eof(self) -> None:
        """Say that no more will be written."""

    async def wait(self) -> Completed:
        """Wait for the end of the command; stdout holds only what `read` did not take."""

    def close(self) -> None:
        """Close at once; what the command started on the instance may go on."""


class Remote(Protocol):
    """One authenticated SSH connection."""

    async def run(self, argv: list[str], stdin: bytes = b"") -> Completed:
        """Run a command to its end.

        Raises:
            ConnectionLost: The connection broke; whether the command ran is unknown.
        """

    async def open(self, argv: list[str]) -> Channel:
        """Start a command and talk to it.

        Raises:
            ConnectionLost: The connection broke.
        """

    async def put_file(
        self, local_path: str, remote_path: str, progress: Callable[[int], None]
    ) -> None:
        """Copy one file over SFTP; ``progress`` is told the bytes sent so far.

        Raises:
            ConnectionLost: The connection broke.
            RemoteDiskFull: No room on the instance.
            TransferError: The instance has no SFTP, or refused.
        """

    def delay(self) -> float | None:
        """How long a round trip takes now, as a multiple of the shortest one seen.

        Well above 1 while bytes wait in a queue on the way. None where the system does not tell.
        """

    async def close(self) -> None:
        """Hang up; never raises."""


@dataclass(frozen=True, slots=True)
class Banner:
    """What a probe of an SSH port found, from nothing to a banner."""

    accepts: bool  # TCP connected
    text: str  # the "SSH-..." line, "" when none came
    detail: str  # plain words for the status line


class Dialer(Protocol):
    """Makes connections to instances."""

    async def probe(self, address: Address, timeout_s: float) -> Banner:
        """Connect by TCP and read the banner; never raises for a silent or closed port."""

    async def host_key(self, address: Address, timeout_s: float) -> str:
        """The public key line that the host shows now; nothing else is sent.

        Raises:
            ConnectionLost: It could not be asked.
        """

    async def dial(self, address: Address, private_key: str | None, timeout_s: float) -> Remote:
        """Log in, with the host's key checked before anything is sent.

        Args:
            address: Where, and which host key to insist on.
            private_key: OpenSSH text of the run's own key; None: the user's identity.
            timeout_s: For the connection and the login together.

        Raises:
            ConnectionLost: Could not connect, or was cut off; may be tried again.
            RemoteAuthError: The instance does not let us in.
            HostKeyUnknown: known_hosts has no key for this host.
            HostKeyMismatch: Another host answered.
        """


LineSink = Callable[[str], None]
ByteSource = AsyncIterator[bytes]
