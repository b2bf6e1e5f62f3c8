"""Verda's lists, read: what there is to rent and where, what its disk costs, the image to use."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.providers.listing import chip, offers_of, price, read_each, size, whole, word
from towline.providers.parts import need, number, rows

_H_PER_MONTH = 730.0
_IMAGE = re.compile(r"ubuntu-(\d+)\.(\d+)-cuda-(\d+)\.(\d+)", re.IGNORECASE)


def join(provider: str, types: Any, fixed: Any, spot: Any) -> Listed:
    """Each type at each place that has it, and the same as spot; one that is nowhere is sold out.

    Args:
        provider: The name in the offers.
        types: Every type, with both prices.
        fixed: By place, the types that it has.
        spot: The same for spot instances, whose stock is another.
    """
    (here, unread), (here_as_spot, _again) = _places(fixed), _places(spot)
    stock = {False: here, True: here_as_spot}

    def read(kind: Mapping[str, Any], *, spot: bool) -> Iterator[Offer]:
        return _offers(provider, kind, stock[spot], spot=spot)

    usual = offers_of(types, lambda kind: read(kind, spot=False))
    # a type without a spot price is not for rent as one
    bids = [kind for kind in types if isinstance(kind, Mapping) and number(kind.get("spot_price"))]
    spots = offers_of(bids, lambda kind: read(kind, spot=True))
    return Listed(
        [*usual, *spots], (usual.left_out | spots.left_out) + unread
    )  # one row may fail in both


def _offers(
    provider: str, kind: Mapping[str, Any], stock: Mapping[str, list[str]], *, spot: bool
) -> Iterator[Offer]:
    name, chips = word(need(kind, "instance_type")), kind.get("gpu") or {}
    count = whole(chips.get("number_of_gpus") or 0)
    model = chip(chips.get("description")) if count else None
    total = size((kind.get("gpu_memory") or {}).get("size_in_gigabytes"))
    told = kind.get("spot_price" if spot else "price_per_hour")
    places: list[str | None] = [*stock.get(name, ())]
    for place in places or [None]:
        yield Offer(
            provider=provider,
            type=name,
            price_usd_per_h=price(told, text=True),
            gpu=model.model if model else None,
            gpus=count,
            vram_gb=total / count if count and total else None,
            region=place,
            available=place is not None,
            spot=spot,
        )


def _places(listed: Any) -> tuple[dict[str, list[str]], Counter[str]]:
    """By type, the places that have it; and how many places can't be read."""

    def read(place: Any) -> list[tuple[str, str]]:
        where = word(need(place, "location_code"))
        return [(word(name), where) for name in need(place, "availabilities")]

    had, unread = read_each(listed, read)
    found: dict[str, list[str]] = {}
    for name, where in had:
        found.setdefault(name, []).append(where)
    return found, unread


def disk_price(listed: Any) -> float | None:
    """USD per GB and hour of the kind of volume that systems are on; None: not told."""

    def read(kind: Mapping[str, Any]) -> Iterator[float]:
        told = kind.get("price") or {}
        if kind.get("type") == "NVMe" and told.get("currency", "usd") == "usd":
            yield price(told.get("price_per_month_per_gb"), text=True) / _H_PER_MONTH

    found, _unread = read_each(listed, read)
    return next(iter(found), None)


def newest_image(listed: Any) -> str | None:
    """The newest Ubuntu with CUDA that is not made for clusters."""
    names = [str(one.get("image_type")) for one in rows(listed) if not one.get("is_cluster")]
    return max(filter(_IMAGE.match, names), key=_versions, default=None)


def _versions(image: str) -> tuple[int, ...]:
    found = _IMAGE.match(image)
    return tuple(map(int, found.groups())) if found else ()
