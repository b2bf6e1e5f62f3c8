"""Hyperstack's lists, read to their end: what there is to rent, and the image to start from.

An offer is joined from three lists: flavors, stocks, and a pricebook with the price of one GPU.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from typing import Any

from towline import errors
from towline.core import gpu
from towline.core.instance import Offer
from towline.providers.http import Api
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


def join(provider: str, flavors: Any, stocks: Any, pricebook: Any) -> list[Offer]:
    """Offers of every flavor with a GPU and a price.

    Flavors whose GPU is called "...-spot" are left out: what becomes of such a machine is not
    documented.
    """
    prices = {need(row, "name"): number(row.get("value")) for row in rows(pricebook)}
    free = _free(stocks)
    offers = (
        _offer(provider, flavor, prices, free)
        for group in rows(need(flavors, "data"))
        for flavor in rows(need(group, "flavors"))
    )
    return [offer for offer in offers if offer is not None]


def newest_image(answer: Any, flavor: str) -> str | None:
    """The newest Ubuntu with CUDA among the vendor's images that the flavor may have."""
    names = [
        str(need(image, "name"))
        for group in rows(need(answer, "images"))
        for image in rows(need(group, "images"))
        if image.get("is_public") is not False and _may_have(image, flavor)
    ]
    return max(filter(_IMAGE.search, names), key=_versions, default=None)


def _offer(
    provider: str,
    flavor: Mapping[str, Any],
    prices: Mapping[str, float | None],
    free: Mapping[tuple[str, str, str], int],
) -> Offer | None:
    words, count = str(flavor.get("gpu") or ""), int(flavor.get("gpu_count") or 0)
    region, model, price = need(flavor, "region_name"), gpu.parse(words), prices.get(words)
    if not (count and model and price) or words.lower().endswith("-spot"):
        return None
    listed, left = flavor.get("stock_available"), free.get((region, words, f"{count}x"))
    return Offer(
        provider=provider,
        type=need(flavor, "name"),
        price_usd_per_h=price * count,
        gpu=model.model,
        gpus=count,
        vram_gb=model.memory_gb,
        region=region,
        available=listed if left is None or listed is False else left > 0,
    )


def _free(answer: Any) -> dict[tuple[str, str, str], int]:
    """How many machines are in stock, by region, GPU and a number of GPUs such as "2x"."""
    return {
        (need(place, "region"), need(model, "model"), label): int(left)
        for place in rows(need(answer, "stocks"))
        for model in rows(need(place, "models"))
        for label, left in (model.get("configurations") or {}).items()
        if left is not None
    }


def _may_have(image: Mapping[str, Any], flavor: str) -> bool:
    limits = image.get("flavor_restrictions") or {}
    if limits.get("restriction_type") != "hard":
        return True
    return flavor in {one.get("flavor_name") for one in limits.get("compatible_flavors") or []}


def _versions(image: str) -> tuple[int, ...]:
    found = _IMAGE.search(image)
    return tuple(map(int, found.groups())) if found else ()
