"""What CanopyWave's answers say, in our words: types, prices, images, stock, instances. Pure.

Shapes that only a third-party client has seen, and no page of the vendor's shows, are marked
[seen]; what is concluded from either is marked [guess].
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from towline import errors
from towline.core import gpu
from towline.core.instance import InstanceStatus
from towline.providers.listing import chip, size
from towline.providers.parts import ident, need, rows, text, told, words

#: an upper and a lower case form of each are in use; the words are OpenStack Nova's [guess]
STATUSES = {
    "active": InstanceStatus.ACTIVE,
    "build": InstanceStatus.BUILDING,
    "error": InstanceStatus.DEAD,
    "shutoff": InstanceStatus.DEAD,
    "stopped": InstanceStatus.DEAD,
    "paused": InstanceStatus.DEAD,
    "suspended": InstanceStatus.DEAD,
    "shelved": InstanceStatus.DEAD,
    "shelved_offloaded": InstanceStatus.DEAD,
    "deleting": InstanceStatus.TERMINATING,
    "terminating": InstanceStatus.TERMINATING,
    "soft_deleted": InstanceStatus.TERMINATING,
}
#: what is still listed under these words is gone [seen]
GONE = ("deleted", "terminated")

_RATE = re.compile(r"\$\s*(\d+(?:\.\d+)?)\s*(?:/|per)\s*(?:(gpu|v?cpu|core)\b)?", re.IGNORECASE)
_CORES = re.compile(r"(\d+)\s*(?:cores?\b|v?cpus?\b)", re.IGNORECASE)
_CENT = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One instance type; ``price_note`` says so when its two price forms disagree."""

    flavor: str  # what launch wants
    name: str  # what lists of instances show
    images: tuple[str, ...]
    gpu: gpu.Gpu | None
    gpus: int
    price_usd_per_h: float | None  # of the whole machine; None: neither form can be read
    price_note: str = ""

    def image(self, wanted: str | None) -> str | None:
        """The image to start; None when the type does not allow the one that is wanted."""
        if wanted is not None:
            return wanted if wanted in self.images else None
        prefix = "gpu-ubuntu" if self.gpu else "cpu-ubuntu"
        fitting = [one for one in self.images if one.lower().startswith(prefix)]
        return max(fitting, key=_version, default=None)


def data_of(answer: Any) -> Any:
    """What is in the envelope; some answers come without one [seen]."""
    return answer["data"] if isinstance(answer, dict) and "data" in answer else answer


def names(value: Any) -> list[str]:
    """A list of names, of projects or regions.

    Raises:
        ProviderReplyError: It is something else.
    """
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        message = f"canopywave's answer is no list of names: {str(value)[:200]}"
        raise errors.ProviderReplyError(message)
    return value


def kind_of(row: Mapping[str, Any]) -> Kind:
    """Read one instance type.

    Raises:
        ProviderReplyError: It has no flavor.
        NoOffer: It is a part of a GPU.
    """
    flavor = str(need(row, "flavor"))
    name = str(row.get("name") or flavor)
    rate = _RATE.search(str(row.get("priceHour") or ""))
    # "16 vCPU x86 Server" names no GPU, whatever x86 looks like
    by_cpu = "cpu" in name.lower() or (rate is not None and (rate[2] or "gpu").lower() != "gpu")
    model = None if by_cpu else chip(name) or chip(flavor)
    gpus = gpu.parse_count(name) if model else 0
    cores = _CORES.search(f"{row.get('specs') or ''} {name}")
    units = gpus if model else int(cores[1]) if cores else 1
    price, note = _price(row.get("price"), rate, units)
    return Kind(
        flavor=flavor,
        name=name,
        images=tuple(words(row, "images")),
        gpu=model,
        gpus=gpus,
        price_usd_per_h=price,
        price_note=note,
    )


def _price(cents: Any, rate: re.Match[str] | None, units: int) -> tuple[float | None, str]:
    """The larger of both forms: whole cents for the machine [guess], and text for one unit."""
    told = size(cents) if isinstance(cents, int | float) else None
    whole = None if told is None else told / 100
    text = float(rate[1]) * (units if rate[2] else 1) if rate else None
    if whole is None or text is None:
        return whole or text, ""
    if abs(whole - text) <= _CENT:
        return whole, ""
    return max(whole, text), f"listed as ${whole:.2f}/h and, by its text, as ${text:.2f}/h"


def in_stock(answer: Any, region: str, flavor: str) -> bool | None:
    """Yes, no, or None for an answer of another shape than the few that were seen [seen]."""
    if not isinstance(answer, dict):
        return None
    wanted = f"{region}_{flavor}_available_vms".lower()
    count = next((value for key, value in answer.items() if key.lower() == wanted), None)
    if isinstance(count, int) and not isinstance(count, bool):
        return count > 0
    plain = answer.get("available")
    return plain if isinstance(plain, bool) else None


def row_of_server(server: Mapping[str, Any], region: str) -> dict[str, Any]:
    """A raw Nova server, as one instance's page has it, in the form of the list's rows."""
    return {
        "id": ident(server, "id"),
        "name": need(server, "name"),
        "status": need(server, "status"),
        "region": region,
        "flavor": text(server, "flavor", "original_name"),
        "launchedAt": server.get("OS-SRV-USG:launched_at"),
        "publicIp": _floating(told(server, "addresses", kind=dict) or {}),
    }


def _floating(addresses: Mapping[str, Any]) -> str | None:
    """Never the first address: that is the fixed one, which only its own network can reach."""
    for entries in addresses.values():
        for entry in rows(entries):
            if entry.get("OS-EXT-IPS:type") == "floating":
                return text(entry, "addr") or None
    return None


def without(text: str, secret: str) -> str:
    """A text without the secret, also where a message was cut in the middle of it."""
    for length in range(len(secret), 5, -1):
        text = text.replace(secret[:length], "***")
    return text


def _version(image: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", image)]
