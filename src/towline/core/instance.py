"""The rented machine and its name: run ids, the tag that carries them, addresses, offers."""

from __future__ import annotations

import enum
import hashlib
from dataclasses import dataclass, field
from typing import NewType

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

    def __str__(self) -> str:
        """Show user@host:port."""
        return f"{self.user}@{self.host}:{self.port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A machine shape at a place and price, at this moment."""

    provider: str
    type: str
    price_usd_per_h: float = 0.0
    gpu: str | None = None
    region: str | None = None
    payload: dict[str, str] = field(default_factory=dict)  # the provider's own words, for create()
    address: Address | None = None  # of a machine that is there already

    def __str__(self) -> str:
        """Show what would be rented."""
        price = f"${self.price_usd_per_h:.2f}/h" if self.price_usd_per_h else "free"
        return f"{self.provider} {self.type} ({price})"


def rank(offers: list[Offer], max_price_usd_per_h: float | None) -> list[Offer]:
    """Offers under the price ceiling, cheapest first; ties keep the provider's order."""
    fitting = [
        offer
        for offer in offers
        if max_price_usd_per_h is None or offer.price_usd_per_h <= max_price_usd_per_h
    ]
    return sorted(fitting, key=lambda offer: offer.price_usd_per_h)


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
    """The safety a provider offers, as data: shown by plan and doctor.

    ``host_key_grade``: A injected at create, B attested, C first key pinned,
    U the user's own known_hosts. ``end_self_argv``: the command by which the instance ends itself
    without any key; None where there is no such way.
    """

    host_key_grade: str
    rented: bool = True  # False: the user's own machine, which nothing of ours bills
    sole_owner: bool = False  # True: every tagged instance it lists was made from this journal
    end_self_argv: tuple[str, ...] | None = None
    #: after a create whose answer was lost: how long the instance may take to show in the list
    settle_s: float = 120.0
    console_url: str | None = None
    #: whether its instances run containers; None when only a look at one tells
    containers: bool | None = None
