"""Verda's lists, read: what there is to rent and where, what its disk costs, the image to use."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from towline.core import gpu
from towline.core.instance import Offer
from towline.providers.parts import need, number, rows

_H_PER_MONTH = 730.0
_IMAGE = re.compile(r"ubuntu-(\d+)\.(\d+)-cuda-(\d+)\.(\d+)", re.IGNORECASE)


def join(provider: str, types: Any, fixed: Any, spot: Any) -> list[Offer]:
    """Each type at each place that has it, and the same as spot; one that is nowhere is sold out.

    Args:
        provider: The name in the offers.
        types: Every type, with both prices.
        fixed: By place, the types that it has.
        spot: The same for spot instances, whose stock is another.
    """
    stock = {False: _places(fixed), True: _places(spot)}
    return [
        offer
        for kind in rows(types)
        for is_spot, field in ((False, "price_per_hour"), (True, "spot_price"))
        for offer in _offers(provider, kind, number(kind.get(field)) or 0.0, stock, spot=is_spot)
    ]


def _offers(
    provider: str,
    kind: Mapping[str, Any],
    price: float,
    stock: Mapping[bool, Mapping[str, list[str]]],
    *,
    spot: bool,
) -> Iterator[Offer]:
    if price <= 0:
        return
    name, chips = need(kind, "instance_type"), kind.get("gpu") or {}
    count = int(chips.get("number_of_gpus") or 0)
    model = gpu.parse(str(chips.get("description") or "")) if count else None
    total = number((kind.get("gpu_memory") or {}).get("size_in_gigabytes"))
    places: list[str | None] = [*stock[spot].get(name, ())]
    for place in places or [None]:
        yield Offer(
            provider=provider,
            type=name,
            price_usd_per_h=price,
            gpu=model.model if model else None,
            gpus=count,
            vram_gb=total / count if count and total else None,
            region=place,
            available=place is not None,
            spot=spot,
        )


def _places(listed: Any) -> dict[str, list[str]]:
    """By type, the places that have it."""
    found: dict[str, list[str]] = {}
    for place in rows(listed):
        for name in need(place, "availabilities"):
            found.setdefault(name, []).append(need(place, "location_code"))
    return found


def disk_price(listed: Any) -> float | None:
    """USD per GB and hour of the kind of volume that systems are on; None: not told."""
    for kind in rows(listed):
        price = kind.get("price") or {}
        monthly = number(price.get("price_per_month_per_gb"))
        if kind.get("type") == "NVMe" and price.get("currency", "usd") == "usd":
            return None if monthly is None else monthly / _H_PER_MONTH
    return None


def newest_image(listed: Any) -> str | None:
    """The newest Ubuntu with CUDA that is not made for clusters."""
    names = [str(one.get("image_type")) for one in rows(listed) if not one.get("is_cluster")]
    return max(filter(_IMAGE.match, names), key=_versions, default=None)


def _versions(image: str) -> tuple[int, ...]:
    found = _IMAGE.match(image)
    return tuple(map(int, found.groups())) if found else ()
