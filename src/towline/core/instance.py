"""The rented machine and its name: run ids, the tag that carries them, addresses, offers."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import asdict, dataclass, field
from typing import Any, NewType

RunId = NewType("RunId", str)
InstanceId = NewType("InstanceId", str)

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # no 0/o, 1/l: people read ids aloud
_BODY_LEN = 8
_TAG_PREFIX = "towline-"


def run_id_from(random_bytes: bytes) -> RunId:
    """Make a run id of ten characters; the last two check the first eight.

    Args:
        random_bytes: At least eight random bytes; five bits of each are used.
    """
    body = "".join(_ALPHABET[byte % 32] for byte in random_bytes[:_BODY_LEN])
    return RunId(body + _check(body))


def is_run_id(text: str) -> bool:
    """Tell a run id of ours from a look-alike."""
    body, check = text[:_BODY_LEN], text[_BODY_LEN:]
    return len(body) == _BODY_LEN and set(body) <= set(_ALPHABET) and check == _check(body)


def tag_for(run_id: RunId) -> str:
    """Name that an instance carries at its provider."""
    return _TAG_PREFIX + run_id


def parse_tag(tag: str) -> RunId | None:
    """Read the run id out of a tag; None when the tag is not ours."""
    run_id = tag.removeprefix(_TAG_PREFIX)
    return RunId(run_id) if tag.startswith(_TAG_PREFIX) and is_run_id(run_id) else None


def _check(body: str) -> str:
    digest = hashlib.sha256(body.encode()).digest()
    return _ALPHABET[digest[0] % 32] + _ALPHABET[digest[1] % 32]


class InstanceStatus(enum.StrEnum):
    """What a provider says of an instance, in our words."""

    BUILDING = "building"
    ACTIVE = "active"
    TERMINATING = "terminating"  # asked for, may still bill
    DEAD = "dead"  # failed or was taken away; may still bill


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where SSH is to be found.

    ``host_key`` is the OpenSSH public key line the host must present; None when the user's
    known_hosts decides (``known_hosts`` holds that file's path).
    """

    host: str
    port: int
    user: str
    host_key: str | None = None
    identity: str | None = None
    known_hosts: str | None = None

    def data(self) -> dict[str, Any]:
        """What `Address(**data)` makes it of again."""
        return asdict(self)

    def __str__(self) -> str:
        """Show user@host:port."""
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A machine shape at a place and price, at this moment.

    None means that the provider does not say.
    """

    provider: str
    type: str
    price_usd_per_h: float = 0.0  # of the whole machine, without what stands in storage
    gpu: str | None = None  # canonical model, see core.gpu
    gpus: int = 0
    vram_gb: float | None = None  # of one GPU
    region: str | None = None
    available: bool | None = None  # in stock now
    spot: bool = False  # the provider may take it away
    boot_s: float | None = None  # from create to SSH, usually
    net_mbit: float | None = None
    traffic_usd_per_gb: float | None = None
    #: of the disk, and of whatever else bills beside the machine, on top of the price
    storage_usd_per_h: float | None = None
    payload: dict[str, str] = field(default_factory=dict)  # the provider's own words, for create()
    address: Address | None = None  # of a machine that is there already

    @property
    def hour_usd(self) -> float:
        """What an hour costs in all: the machine, its disk, its address."""
        return self.price_usd_per_h + (self.storage_usd_per_h or 0.0)

    def __str__(self) -> str:
        """Show what would be rented."""
        price = f"${self.hour_usd:.2f}/h" if self.hour_usd else "free"
        facts = [self.gpu_text, self.region, "spot" if self.spot else None, price]
        return f"{self.provider} {self.type} ({', '.join(fact for fact in facts if fact)})"

    @property
    def gpu_text(self) -> str | None:
        """Its GPUs in words, such as ``2 x H100 80 GB``; None without any."""
        if self.gpu is None:
            return None
        memory = f" {self.vram_gb:.0f} GB" if self.vram_gb else ""
        return f"{self.gpus} x {self.gpu}{memory}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a new instance must carry besides what the offer says; fixed before create is called.

    ``host_key`` is the OpenSSH private key that its SSH server is to use, for providers that take
    user-data; ``host_public_key`` its public line. ``lifetime_s`` is the time after which nobody
    needs it any more, for providers that end instances themselves; None: no limit was set.
    """

    tag: str
    public_key: str
    host_key: str | None = field(default=None, repr=False)
    host_public_key: str | None = None
    lifetime_s: float | None = None
    disk_gb: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Leftover:
    """Something besides instances that an account holds for us: a key, an address, a volume."""

    provider: str
    kind: str  # "key", "address", "volume", "group", "script"
    id: str
    tag: str
    since: float | None = None
    price_usd_per_h: float | None = None  # None: not known

    def __str__(self) -> str:
        """Show what it is."""
        return f"{self.kind} {self.id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One machine as its provider reports it.

    ``address`` is None until the provider has given it one. ``started_at`` is a UTC timestamp
    in seconds: the moment from which it bills.
    """

    id: InstanceId
    provider: str
    tag: str
    status: InstanceStatus
    address: Address | None = None
    started_at: float | None = None
    price_usd_per_h: float = 0.0
    type: str = ""
    detail: str = ""  # the provider's own reason for DEAD


@dataclass(frozen=True, slots=True, kw_only=True)
class Features:
    """The safety a provider offers, as data: shown by plan, offers and doctor.

    ``host_key_grade``: A injected at create, B attested by a secret that only the machine got,
    C first key pinned, U the user's own known_hosts. ``end_self_argv``: the command by which the
    instance ends itself without the account's key; None where there is no such way.
    """

    host_key_grade: str
    rented: bool = True  # False: the user's own machine, which nothing of ours bills
    free: bool = False  # an offer may cost nothing; elsewhere no price is no offer
    shares_host: bool = False  # True: it is a part of a machine that is booted for others too
    sole_owner: bool = False  # True: every tagged instance it lists was made from this journal
    end_self_argv: tuple[str, ...] | None = None
    #: after a create whose answer was lost: how long the instance may take to show in the list
    settle_s: float = 120.0
    console_url: str | None = None
    #: whether its instances run containers; None when only a look at one tells
    containers: bool | None = None
    user_data: bool = False  # create takes a script or cloud-config
    #: the host key of grade A is installed by a script when SSH answers already: until then the
    #: machine shows another one
    host_key_late: bool = False
    tags: bool = False  # create takes a tag or label; False: the name is all that carries ours
    idempotency_key: bool = False  # a repeated create is the same create
    server_ttl: bool = False  # the provider itself ends the instance after Order.lifetime_s
    powered_off_bills: bool | None = None  # None: not known
    spot: bool = False
    #: kinds of what an account may hold for us beside instances, see `Leftover`; None: not known
    leftovers: tuple[str, ...] | None = None
    password_login: bool = False  # a password must be set at create; connect switches it off
    boot_s: float = 180.0  # from create to SSH, usually, where the offer does not say

    def data(self) -> dict[str, Any]:
        """The safety as `--json` shows it."""
        return {
            "host_key_grade": self.host_key_grade,
            "rented": self.rented,
            "user_data": self.user_data,
            "tags": self.tags,
            "idempotency_key": self.idempotency_key,
            "server_ttl": self.server_ttl,
            "ends_itself": self.end_self_argv is not None,
            "powered_off_bills": self.powered_off_bills,
            "spot": self.spot,
            "console_url": self.console_url,
        }
