"""Hyperstack's lists, read to their end: what there is to rent, and the image to start from.

An offer is joined from three lists: flavors, stocks, and a pricebook with the price of one GPU.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from typing import Any

from towline import errors
from towline.core.instance import Offer
from towline.core.offers import Listed
from towline.providers.http import Api
from towline.providers.listing import chip, flag, offers_of, price, read_each, whole, word
from towline.providers.pages import require_end
from towline.providers.parts import ident, need, number, rows, told

_PAGE = 100
_IMAGE = re.compile(r"Ubuntu\D*(\d+)\.(\d+).*CUDA\D*(\d+)\.(\d+)", re.IGNORECASE)


class PastTheEnd(errors.ProviderError):
    """There is no page of that number."""


async def all_rows(api: Api, path: str, field: str) -> list[dict[str, Any]]:
    """All rows of a list in pages, read until a page brings nothing new.

    Raises:
        ProviderReplyError: Rows are missing, by the list's own count.
        ProviderError: As `Api.get`, also where there is no such list.
    """  # noqa: DOC501 - those of Api.get
    found: dict[str, dict[str, Any]] = {}
    count = 0
    for page in itertools.count(1):
        try:
            answer = await api.get(path, {"page": page, "page_size": _PAGE})
        except (errors.NotFound, PastTheEnd):
            if page == 1:
                raise
            break
        fresh = {ident(row, "id"): row for row in rows(need(answer, field))}
        count = max(count, told(answer, "count", kind=int) or 0)
        require_end(answer, max(count, len(found | fresh)), paged=True)
        if fresh.keys() <= found.keys():
            break
        found |= fresh
    if len(found) < count:
        raise errors.ProviderReplyError(f"hyperstack lists {len(found)} of {count} {field}")
    return list(found.values())


def join(provider: str, flavors: Any, stocks: Any, pricebook: Any) -> Listed:
    """Offers of every flavor with a GPU and a price.

    Flavors whose GPU is called "...-spot" are left out: what becomes of such a machine is not
    documented.
    """
    told, _unnamed = read_each(pricebook, lambda row: [(word(need(row, "name")), row.get("value"))])
    prices, free = dict(told), _free(stocks)
    of_groups, unread = read_each(need(flavors, "data"), lambda group: need(group, "flavors"))
    listed = offers_of(of_groups, lambda flavor: _offers(provider, flavor, prices, free))
    return Listed(listed, listed.left_out + unread)


def newest_image(answer: Any, flavor: str) -> str | None:
    """The newest Ubuntu with CUDA among the vendor's images that the flavor may have."""
    names = [
        str(need(image, "name"))
        for group in rows(need(answer, "images"))
        for image in rows(need(group, "images"))
        if image.get("is_public") is not False and _may_have(image, flavor)
    ]
    return max(filter(_IMAGE.search, names), key=_versions, default=None)


def _offers(
    provider: str,
    flavor: Mapping[str, Any],
    prices: Mapping[str, Any],
    free: Mapping[tuple[str, str, str], float],
) -> Iterator[Offer]:
    words, count = str(flavor.get("gpu") or ""), whole(flavor.get("gpu_count") or 0)
    region, model = word(need(flavor, "region_name")), chip(words)
    if not count or model is None or words.lower().endswith("-spot"):
        return
    listed, left = flag(flavor.get("stock_available")), free.get((region, words, f"{count}x"))
    yield Offer(
        provider=provider,
        type=word(need(flavor, "name")),
        price_usd_per_h=price(prices.get(words), text=True) * count,
        gpu=model.model,
        gpus=count,
        vram_gb=model.memory_gb,
        region=region,
        available=listed if left is None or listed is False else left > 0,
    )


def _free(answer: Any) -> dict[tuple[str, str, str], float]:
    """How many machines are in stock, by region, GPU and a number of GPUs such as "2x"."""

    def read(place: Any) -> list[tuple[tuple[str, str, str], float]]:
        return [
            ((word(need(place, "region")), word(need(model, "model")), label), left)
            for model in rows(need(place, "models"))
            for label, told in dict(model.get("configurations") or {}).items()
            if (left := number(told)) is not None
        ]

    found, _unread = read_each(need(answer, "stocks"), read)  # stock that is not known there
    return dict(found)


def _may_have(image: Mapping[str, Any], flavor: str) -> bool:
    limits = image.get("flavor_restrictions") or {}
    if limits.get("restriction_type") != "hard":
        return True
    return flavor in {one.get("flavor_name") for one in limits.get("compatible_flavors") or []}


def _versions(image: str) -> tuple[int, ...]:
    found = _IMAGE.search(image)
    return tuple(map(int, found.groups())) if found else ()
