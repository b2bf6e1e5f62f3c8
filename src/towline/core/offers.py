"""What an offer is, and which is the best one: ranked by what the whole run would cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from towline.core import gpu
from towline.core.instance import Offer
from towline.core.units import count_text

_S_PER_H = 3600.0
_BYTES_PER_GB = 1e9
_USUAL_BOOT_S = 180.0
_MOST_USD = 1e9  # an hour


class Listed(list[Offer]):
    """Offers, and by reason how many rows of the provider's list are none."""

    def __init__(
        self, offers: Iterable[Offer] = (), left_out: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(offers)
        self.left_out = Counter(left_out or {})


def sound(offers: Iterable[Offer], *, free: bool) -> Listed:
    """Those that are offers, and what was left out before and now.

    Args:
        offers: As a provider lists them; also a `Listed`.
        free: Whether one may cost nothing.
    """
    listed = Listed(left_out=getattr(offers, "left_out", None))
    for one in offers:
        why = _flaw(one, free=free)
        if why is None:
            listed.append(one)
        else:
            listed.left_out[why] += 1
    return listed


def left_out_text(left_out: Mapping[str, int]) -> str:
    """What was left out, in words: "3 offers left out: no price"."""
    parts = [f"{count_text(count, 'offer')} left out: {why}" for why, count in left_out.items()]
    return "; ".join(parts)


def _flaw(offer: Offer, *, free: bool) -> str | None:
    """Why it is no offer: what can't be counted with would rank first, and cost what it likes."""
    if not is_price(offer.price_usd_per_h) and not (free and _is_zero(offer.price_usd_per_h)):
        return "no price"
    extra = offer.storage_usd_per_h
    if extra is not None and not is_price(extra) and not _is_zero(extra):
        return "no price of the disk"
    if type(offer.gpus) is not int or offer.gpus < 0:
        return "no whole number of GPUs"
    return None


def is_price(value: object) -> TypeGuard[float]:
    """Say whether it is a positive number."""
    return _is_number(value) and value > 0


def _is_zero(value: object) -> bool:
    return _is_number(value) and value == 0


def _is_number(value: object) -> TypeGuard[float]:
    return type(value) in {int, float} and -_MOST_USD < value < _MOST_USD  # type: ignore[operator]


def hour_usd(offer: Offer, told: object) -> float:
    """What an hour of the instance that was made of an offer costs in all.

    Args:
        offer: What was rented.
        told: The machine's own price as its provider tells it; the offer's stands where that is none.
    """
    price = told if is_price(told) else offer.price_usd_per_h
    return price + (offer.storage_usd_per_h or 0.0)


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
    return hours * offer.hour_usd + traffic


def rank(
    offers: Iterable[Offer], max_price_usd_per_h: float | None, outlook: Outlook | None = None
) -> list[Offer]:
    """Offers that can be tried, the best first.

    Under the ceiling with their disk, not known to be out of stock, the cheapest run first; of two that cost the
    same the one known to be in stock. Further ties keep their order.
    """
    outlook = outlook or Outlook()
    fitting = [
        offer
        for offer in offers
        if offer.available is not False
        and (max_price_usd_per_h is None or offer.hour_usd <= max_price_usd_per_h)
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
