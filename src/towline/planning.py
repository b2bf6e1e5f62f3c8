"""What a run of a task would send, skip, take and cost. Nothing is rented or stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from towline.core.instance import Address, Features, Offer, RunId
from towline.core.manifest import Manifest, shown
from towline.core.offers import Outlook, offer_data
from towline.core.task import Limits, TaskSpec
from towline.line import Line
from towline.ports import Clock, Dialer
from towline.transfer.estimate import Estimate, estimate
from towline.transfer.scan import Scan
from towline.transfer.uplink import measure

_ASSUMED_BYTES_PER_S = 20e6 / 8
_S_PER_H = 3600
_TRIPS = 10  # round trips until the line is full: questions first, then TCP's slow start
_LARGEST = 3


@dataclass(frozen=True, slots=True)
class Uplink:
    """How fast the way out of this machine is, and how that is known."""

    bytes_per_s: float
    source: Literal["measured", "given", "assumed"]
    host: str | None = None
    connections: int | None = None
    rtt_s: float | None = None


async def uplink(
    given_bytes_per_s: float | None, address: Address | None, dialer: Dialer, clock: Clock
) -> Uplink:
    """Take the user's word; else measure, where there is a machine to measure with; else assume.

    Raises:
        TowlineError: As `transfer.uplink.measure`.
    """
    if given_bytes_per_s is not None:
        return Uplink(given_bytes_per_s, "given")
    if address is None:
        return Uplink(_ASSUMED_BYTES_PER_S, "assumed")
    found = await measure(Line(dialer, address, None, RunId("plan"), 0, clock))
    return Uplink(found.bytes_per_s, "measured", str(address), found.connections, found.rtt_s)


async def plan(
    task: TaskSpec,
    scans: Mapping[str, Scan],
    offers: Sequence[Offer],
    features: Features,
    way: Uplink,
) -> dict[str, Any]:
    """The object of `plan --json`.

    Args:
        task: What to do; checked.
        scans: What would be sent, by its name on the instance.
        offers: What could be rented, the first choice first.
        features: The safety that the provider offers.
        way: How fast the way out is.

    Raises:
        SourceChanged: A file changed since it was listed.
    """
    estimates = [await asyncio.to_thread(estimate, found, task.upload) for found in scans.values()]
    weight = _weight(list(scans.values()), estimates)
    seconds = weight["sent_bytes"] / way.bytes_per_s + _TRIPS * (way.rtt_s or 0.0)
    price = offers[0].hour_usd
    outlook = Outlook(upload_bytes=weight["sent_bytes"], upload_bytes_per_s=way.bytes_per_s)
    return {
        "send": [_sent(name, found) for name, found in scans.items()],
        "skipped": [
            {"name": name, "path": shown(one.path), "why": one.why}
            for name, found in scans.items()
            for one in found.skipped
        ],
        **weight,
        "uplink": asdict(way),
        "upload": {"seconds": round(seconds, 1), "cost_usd": round(seconds / _S_PER_H * price, 4)},
        "offers": [offer_data(offer, outlook) for offer in offers],
        "cost": {
            "projected_usd": task.limits.ceiling_usd(price),
            "cap_usd": task.limits.max_cost,
            "unwatched": _unwatched(task.limits, features, price),
        },
        "safety": features.data(),
    }


def _unwatched(limits: Limits, features: Features, price_usd_per_h: float) -> dict[str, Any]:
    """What the limits hold when this machine is off: where the training ends, who ends the rest.

    "over_usd_per_hour" is what the instance bills beyond its limits until a towline command ends
    it; 0 where it is ended without one, None where no limit is set.
    """
    end = limits.training_end(price_usd_per_h)
    lifetime_s = limits.lifetime_s(price_usd_per_h)
    ends_alone = features.server_ttl or features.end_self_argv is not None or not features.rented
    return {
        "training_s": None if end is None else round(end[0], 1),
        "lifetime_s": None if lifetime_s is None else round(lifetime_s, 1),
        "over_usd_per_hour": None if end is None else 0.0 if ends_alone else price_usd_per_h,
    }


def _weight(scans: list[Scan], estimates: list[Estimate]) -> dict[str, Any]:
    size = sum(found.manifest.size_bytes for found in scans)
    sent = sum(one.sent_bytes for one in estimates)
    return {
        "files": sum(found.manifest.file_count for found in scans),
        "bytes": size,
        "sent_bytes": sent,
        "ratio": round(size / sent, 2) if sent else None,
        "sample_bytes": sum(one.sample_bytes for one in estimates),
        "codec": estimates[0].codec if estimates else None,
    }


def _sent(name: str, found: Scan) -> dict[str, Any]:
    return {
        "name": name,
        "path": shown(str(found.source)),
        "files": found.manifest.file_count,
        "bytes": found.manifest.size_bytes,
        "largest": _largest(found.manifest),
    }


def _largest(manifest: Manifest) -> list[dict[str, Any]]:
    """The heaviest files and folders at the top; a folder stands for all that is in it."""
    sizes, files = Counter[str](), Counter[str]()
    for number in range(len(manifest)):
        if manifest.is_file(number):
            top, slash, _rest = manifest.path(number).partition("/")
            sizes[top + slash] += manifest.size(number)
            files[top + slash] += 1
    return [
        {"path": shown(top), "files": files[top], "bytes": size}
        for top, size in sizes.most_common(_LARGEST)
    ]
