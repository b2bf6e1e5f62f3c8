"""Which offer is the best one: what fits the task, ranked by what the whole run would cost."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from towline.core import gpu
from towline.core.instance import Offer

_S_PER_H = 3600.0
_BYTES_PER_GB = 1e9
_USUAL_BOOT_S = 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is known of a run before it starts, so that offers can be compared."""

    upload_bytes: int = 0
    upload_bytes_per_s: float = 2.5e6  # 20 Mbit/s, where nothing was measured
    training_s: float = _S_PER_H  # the task's limit, else an hour


def projected_usd(offer: Offer, outlook: Outlook) -> float:
    """What a run on this offer would cost in all: price x (boot + upload + training) + traffic."""
    boot_s = _USUAL_BOOT_S if offer.boot_s is None else offer.boot_s
    rate = outlook.upload_bytes_per_s
    if offer.net_mbit:
        rate = min(rate, offer.net_mbit * 1e6 / 8)
    hours = (boot_s + outlook.upload_bytes / rate + outlook.training_s) / _S_PER_H
    traffic = outlook.upload_bytes / _BYTES_PER_GB * (offer.traffic_usd_per_gb or 0.0)
    return hours * (offer.price_usd_per_h + (offer.storage_usd_per_h or 0.0)) + traffic


def rank(
    offers: Iterable[Offer], max_price_usd_per_h: float | None, outlook: Outlook | None = None
) -> list[Offer]:
    """Offers that can be tried, the best first.

    Under the ceiling, not known to be out of stock, the cheapest run first; of two that cost the
    same the one known to be in stock. Further ties keep their order.
    """
    outlook = outlook or Outlook()
    fitting = [
        offer
        for offer in offers
        if offer.available is not False
        and (max_price_usd_per_h is None or offer.price_usd_per_h <= max_price_usd_per_h)
    ]
    return sorted(fitting, key=lambda one: (projected_usd(one, outlook), one.available is None))


def fits(offer: Offer, wanted_gpu: str | None, region: str, *, spot: bool) -> bool:
    """Say whether an offer is of the kind that a task asks for; the price is `rank`'s.

    Args:
        offer: What could be rented.
        wanted_gpu: As `resources.gpu`; None takes any, also none.
        region: A region's name, or "any".
        spot: Whether the task takes a machine that may be taken away; without it none is offered.

    Raises:
        ValueError: wanted_gpu names no GPU.
    """
    if offer.spot and not spot:
        return False
    if region != "any" and (offer.region or "").lower() != region.lower():
        return False
    if wanted_gpu is None:
        return True
    need, count = gpu.parse_need(wanted_gpu)
    has = None if offer.gpu is None else gpu.Gpu(offer.gpu, offer.vram_gb)
    return has is not None and has.fits(need) and offer.gpus == count


def offer_data(offer: Offer, outlook: Outlook | None = None) -> dict[str, Any]:
    """An offer as `--json` shows it, with what a run on it would cost in all."""
    return {
        "provider": offer.provider,
        "type": offer.type,
        "gpu": offer.gpu,
        "gpus": offer.gpus,
        "vram_gb": offer.vram_gb,
        "region": offer.region,
        "price_usd_per_hour": offer.price_usd_per_h,
        "available": offer.available,
        "spot": offer.spot,
        "boot_s": offer.boot_s,
        "net_mbit": offer.net_mbit,
        "traffic_usd_per_gb": offer.traffic_usd_per_gb,
        "storage_usd_per_hour": offer.storage_usd_per_h,
        "projected_usd": round(projected_usd(offer, outlook or Outlook()), 4),
    }
